"""Real processes of the service, started and ended by the test that needs them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

CASEWORK = Path(sys.executable).parent / "casework"
START_TIMEOUT_S = 60.0
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Process:
    """One running process and the file its output goes to."""

    popen: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """-9: nothing is tidied up."""
        self.popen.kill()
        self.popen.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 20) -> int:
        """Ask it to stop; returns its exit code."""
        self.popen.send_signal(number)
        return self.popen.wait(timeout_s)

    def said(self) -> str:
        return self.log.read_text()


def clean_environment() -> dict[str, str]:
    """This process's, without what would configure the service."""
    ours = ("CASEWORK_", "OPENAI_", "ANTHROPIC_", "DATABASE_", "LANGSMITH_", "LANGCHAIN_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@contextmanager
def casework(command: str, log: Path, env: Mapping[str, str], ready: str) -> Iterator[Process]:
    """`casework <command>`, until it says `ready`; killed on leaving if it still runs."""
    with log.open("wb") as out:
        popen = subprocess.Popen(
            [str(CASEWORK), *command.split()],
            cwd=ROOT,
            env={**clean_environment(), **env},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    process = Process(popen, log)
    try:
        until(lambda: ready in process.said() or popen.poll() is not None, START_TIMEOUT_S, process.said)
        assert popen.poll() is None, process.said()
        yield process
    finally:
        if popen.poll() is None:
            process.kill()


def until(found: Callable[[], object], timeout_s: float, explain: Callable[[], str]) -> None:
    """Poll until something is so; fails with an explanation when it does not come."""
    deadline = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < deadline, f"not within {timeout_s} s:\n{explain()}"
        time.sleep(0.05)


async def eventually(found: Callable[[], object], explain: Callable[[], str]) -> None:
    """The same, while servers of the test's own go on serving."""
    deadline = time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s:\n{explain()}"
        await asyncio.sleep(0.05)


def config(folder: Path, target: str) -> Path:
    """A langgraph.json whose support workflow is `target`."""
    path = folder / "langgraph.json"
    path.write_text(json.dumps({"dependencies": ["."], "graphs": {"support": target}}))
    return path
