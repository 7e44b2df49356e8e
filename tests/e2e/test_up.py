"""`casework up` from nothing: it serves, says so, and Ctrl-C leaves nothing behind; bad set-ups get one clear line."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest

from casework.embedded import postgres_dir
from server.up import listen
from tests.conftest import ROOT
from tests.processes import CASEWORK, Process, casework, clean_environment, until

READY = "Ctrl-C stops everything."


def environment(folder: Path, **more: str) -> dict[str, str]:
    return {"CASEWORK_DATA_DIR": str(folder), "CASEWORK_PORT": "0", "CASEWORK_MODEL": "offline", **more}


def address(up: Process) -> str:
    found = re.search(r"Casework runs at (\S+)", up.said())
    assert found is not None
    return found[1]


def key(up: Process, name: str) -> str:
    found = re.search(rf"^  {name} .*(cw_\S+)$", up.said(), re.MULTILINE)
    assert found is not None
    return found[1]


def postmasters(folder: Path) -> list[psutil.Process]:
    """Live Postgres processes of this data folder."""
    mine = str(postgres_dir(folder))
    found = []
    for process in psutil.process_iter():
        try:
            if mine in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def run(arguments: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(CASEWORK), *arguments.split()],
        cwd=ROOT,
        env={**clean_environment(), **environment(folder, **env)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_resolves_a_ticket_and_stops_without_a_trace(number: signal.Signals, tmp_path: Path) -> None:
    env = environment(tmp_path, CASEWORK_MODES__SUPPORT="autonomous")
    with casework("up", tmp_path / "up.log", env, READY) as up:
        with httpx.Client(base_url=address(up), trust_env=False, timeout=30) as client:
            answer = client.post(
                "/workflows/support/resolve",
                json={"ticket_id": "T-1042", "user_id": "C-1042"},
                headers={"Authorization": f"Bearer {key(up, 'olivia')}", "Prefer": "wait=20"},
            )
        assert answer.json()["status"] == "succeeded", up.said()
        assert len(postmasters(tmp_path)) > 0
        assert up.stop(number) == 0
    assert postmasters(tmp_path) == []
    assert "Traceback" not in up.said()
    logged = [json.loads(line) for line in up.said().splitlines() if line.startswith("{")]
    (finished,) = [line for line in logged if line["event"] == "run.finished"]
    assert finished["execution_id"] == answer.json()["execution_id"]
    assert {"run_id", "workflow", "timestamp", "level"} <= finished.keys()
    with casework("up", tmp_path / "again.log", env, READY) as again:  # what was done is still there
        with httpx.Client(base_url=address(again), trust_env=False) as client:
            kept = client.get("/executions", headers={"Authorization": f"Bearer {key(up, 'olivia')}"})
        assert [e["status"] for e in kept.json()["executions"]] == ["succeeded"]
        execution_id = kept.json()["executions"][0]["execution_id"]
        replayed = run(f"replay {execution_id}", tmp_path)
        assert "case.closed" in replayed.stdout
        assert run("audit verify", tmp_path).stdout.strip().endswith("unbroken.")
        assert again.stop(signal.SIGINT) == 0


def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        failed = run("up", tmp_path, CASEWORK_PORT=str(port))
    assert failed.returncode == 1
    assert failed.stderr.strip() == (
        f"casework: cannot listen on 127.0.0.1:{port} (Address already in use); set CASEWORK_PORT to a free port"
    )
    assert postmasters(tmp_path) == []


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"CASEWORK_PORT": "no"}, "casework: setting port: Input should be a valid integer"),
        ({"CASEWORK_MODES__SUPPORT": "wild"}, "casework: setting modes.support: Input should be 'copilot'"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "casework: the database does not answer"),
        ({"CASEWORK_CONFIG": "nowhere.json"}, "casework: nowhere.json cannot be read as a langgraph.json"),
    ],
)
def test_a_wrong_setting_is_named(env: dict[str, str], said: str, tmp_path: Path) -> None:
    failed = run("up", tmp_path, **env)
    assert failed.returncode == 1
    assert failed.stderr.startswith(said), failed.stderr
    assert "Traceback" not in failed.stderr


def test_the_demo_works_tickets_and_exits_by_their_outcome(tmp_path: Path) -> None:
    done = run("demo --tickets 6", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 of 6 outcomes right" in done.stdout
    assert postmasters(tmp_path) == []


def test_after_a_kill_the_next_start_takes_over_and_its_stop_stops_the_database_too(tmp_path: Path) -> None:
    with casework("up", tmp_path / "killed.log", environment(tmp_path), READY) as killed:
        killed.kill()
    assert len(postmasters(tmp_path)) > 0  # nobody stopped it
    with casework("up", tmp_path / "next.log", environment(tmp_path), READY) as up:
        assert up.stop(signal.SIGINT) == 0
    assert postmasters(tmp_path) == []


def test_an_impatient_ctrl_c_while_it_starts_is_a_clean_end(tmp_path: Path) -> None:
    starting = subprocess.Popen(
        [str(CASEWORK), "up"],
        cwd=ROOT,
        env={**clean_environment(), **environment(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: psutil.Process(starting.pid).cpu_times().user > 0.5, 20, str)  # it is importing by now
    starting.send_signal(signal.SIGINT)
    said = "".join(starting.communicate(timeout=30))
    assert starting.returncode in (0, 130)
    assert "Traceback" not in said
    assert postmasters(tmp_path) == []


def test_connections_send_what_is_written_at_once() -> None:
    with (
        listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
