"""The peer: LangGraph's own development server with the same graph. It is run, as its users run it; never imported.

It keeps everything in memory: a crash loses it all. What is compared is what a caller gets.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.accounts import Group
from bench.caller import Caller
from bench.neutral_graph import ANSWER, INPUT
from bench.service import CONFIG, ROOT, START_TIMEOUT_S

QUIET = {
    "LANGSMITH_TRACING": "false",
    "LANGGRAPH_NO_VERSION_CHECK": "true",
    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    "PYTHONPATH": str(ROOT),
}


@contextmanager
def running_peer(folder: Path, jobs: int | None) -> Iterator[tuple[str, Group]]:
    """Its address and its processes. `jobs`: runs at once; None: its own default."""
    folder.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = str(Path(sys.executable).with_name("langgraph"))
    command = [program, "dev", "--no-browser", "--no-reload", "--port", str(port), "--config", str(CONFIG)]
    command += ["--n-jobs-per-worker", str(jobs)] if jobs else []
    log = folder / "peer.log"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LANGSMITH_", "LANGCHAIN_"))} | QUIET
    with log.open("wb") as out:
        popen = subprocess.Popen(
            command, env=env, cwd=folder, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(f"{url}/ok"):
            if popen.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"langgraph dev did not start:\n{log.read_text()[-4000:]}")
            time.sleep(0.1)
        yield url, Group([psutil.Process(popen.pid)])
    finally:
        os.killpg(popen.pid, signal.SIGKILL)  # it holds nothing that could be lost
        popen.wait()


async def run(caller: Caller) -> None:
    """One case: a thread, as an execution is one, and a run on it, waited for."""
    thread = await caller.send("POST", "/threads", 200, json={})
    path, body = f"/threads/{thread['thread_id']}/runs/wait", {"assistant_id": "neutral", "input": INPUT}
    state = await caller.send("POST", path, 200, json=body)
    if state.get("answer") != ANSWER.format(order=1042):
        raise RuntimeError(f"the peer's run did not end well: {state}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
