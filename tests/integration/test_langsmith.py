"""LangSmith: off until its usual variables say so, and then every run says which execution it belongs to.

Each run has a process of its own: the variables and LangSmith's caches of them belong to a process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.conftest import ROOT
from tools.shop.sandbox_provider import SANDBOX_KEY

RUN_TIMEOUT_S = 90
INFO = {
    "batch_ingest_config": {
        "use_multipart_endpoint": False,
        "size_limit": 100,
        "size_limit_bytes": 20_000_000,
        "scale_up_nthreads_limit": 1,
        "scale_up_qsize_trigger": 1000,
        "scale_down_nempty_trigger": 4,
    }
}


class FakeLangSmith(ThreadingHTTPServer):
    """Takes runs in batches, as plain JSON, and keeps them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taker)
        self.requests: list[str] = []
        self.runs: dict[str, dict[str, Any]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Taker(BaseHTTPRequestHandler):
    server: FakeLangSmith

    def do_GET(self) -> None:
        self.server.requests.append(f"GET {self.path}")
        self._answer(INFO)

    def do_POST(self) -> None:
        self.server.requests.append(f"POST {self.path}")
        batch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for run in [*batch.get("post", ()), *batch.get("patch", ())]:
            self.server.runs.setdefault(run["id"], {}).update(run)
        self._answer({})

    def log_message(self, *args: object) -> None:
        """Quiet."""

    def _answer(self, body: Any) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)


@pytest.fixture
def langsmith() -> Iterator[FakeLangSmith]:
    with FakeLangSmith() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def run_ticket(database_url: str, payments_url: str, folder: Path, **variables: str) -> tuple[str, str]:
    """Work T-1042 in another process; its execution's id and status."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith(("LANGSMITH_", "LANGCHAIN_", "CASEWORK_"))}
    ours = {
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": database_url,
        "CASEWORK_DATA_DIR": str(folder),
        "CASEWORK_MODEL": "offline",
        "CASEWORK_MODES__SUPPORT": "autonomous",
        "CASEWORK_PAYMENTS_URL": payments_url,
        "CASEWORK_PAYMENTS_KEY": SANDBOX_KEY,
    }
    program = ["-m", "tests.traced_run", "T-1042"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, env=mine | ours | variables, cwd=folder, stdout=PIPE, stderr=PIPE
    )
    try:
        written, log = await asyncio.wait_for(process.communicate(), RUN_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 0, log.decode()
    execution_id, status = written.decode().split()
    return execution_id, status


@pytest.mark.parametrize("switch", [{}, {"LANGSMITH_TRACING": "false"}], ids=["unset", "false"])
async def test_nothing_is_sent_unless_tracing_is_switched_on(
    switch: dict[str, str], langsmith: FakeLangSmith, database_url: str, payments_url: str, tmp_path: Path
) -> None:
    known = {"LANGSMITH_ENDPOINT": langsmith.url, "LANGSMITH_API_KEY": "x"}
    _, status = await run_ticket(database_url, payments_url, tmp_path, **known, **switch)
    assert status == "succeeded"
    assert langsmith.requests == []


async def test_a_traced_run_says_which_execution_and_workflow_it_is(
    langsmith: FakeLangSmith, database_url: str, payments_url: str, tmp_path: Path
) -> None:
    execution_id, status = await run_ticket(
        database_url,
        payments_url,
        tmp_path,
        LANGSMITH_TRACING="true",
        LANGSMITH_API_KEY="x",
        LANGSMITH_ENDPOINT=langsmith.url,
    )
    assert status == "succeeded"
    (root,) = [run for run in langsmith.runs.values() if run.get("parent_run_id") is None]
    assert root["name"] == "support"
    for run in langsmith.runs.values():
        metadata = run["extra"]["metadata"]
        assert (metadata["execution_id"], metadata["workflow"], metadata["mode"]) == (
            execution_id,
            "support",
            "autonomous",
        )
    kinds = {run["run_type"] for run in langsmith.runs.values()}
    assert kinds >= {"chain", "llm"}
    assert {"screen_input", "router", "billing", "check_calls", "handle_call", "close"} <= {
        run["name"] for run in langsmith.runs.values()
    }
