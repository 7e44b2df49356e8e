"""Casework as a user starts it, with the neutral graph, on an embedded database (fsync on)."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from bench.accounts import Group, postgres
from casework.actor import SYSTEM, Role
from casework.embedded import embedded_postgres, postgres_dir
from casework.migrate import migrate
from casework.settings import Settings
from server.service import open_service

ROOT = Path(__file__).parent.parent
CONFIG = Path(__file__).with_name("langgraph.json")
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")


@dataclass(frozen=True)
class Layout:
    """Which processes the service is made of, and their settings."""

    workers: int = 0
    """`casework worker` processes beside a `casework api`; 0: `casework up`, everything in one process."""
    concurrency: int = 32
    """Executions at once, all workers together."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """More environment variables, to try things with."""

    def commands(self) -> list[tuple[str, str]]:
        """Each command, and what it says once it is ready."""
        if not self.workers:
            return [("up", "Ctrl-C stops everything.")]
        return [("api", "listens on"), *[("worker", "worker is ready")] * self.workers]


@dataclass(frozen=True)
class Running:
    """A service that listens."""

    url: str
    database_url: str
    starter_key: str
    """Of a service: starts executions."""
    approver_key: str
    processes: Group
    """Its own, without the database's."""
    database: Group
    database_log: Path

    def database_errors(self) -> int:
        """Statements that the database refused so far: retried, they only look like slowness."""
        return self.database_log.read_text().count("ERROR:")


@contextmanager
def running_service(folder: Path, layout: Layout) -> Iterator[Running]:
    """Started on a database of its own in `folder`, stopped on leaving."""
    folder.mkdir(parents=True)
    with embedded_postgres(folder) as database_url, ExitStack() as stack:
        settings = Settings.model_validate({"data_dir": folder, "config": CONFIG})
        keys = _keys(settings, database_url)
        started = [
            stack.enter_context(_started(folder / f"{number}.log", command, ready, folder, layout))
            for number, (command, ready) in enumerate(layout.commands())
        ]
        address = ADDRESS.search((folder / "0.log").read_text())
        if address is None:
            raise RuntimeError(f"the service did not say its address:\n{(folder / '0.log').read_text()}")
        yield Running(address[0], database_url, *keys, Group(started), postgres(folder), postgres_dir(folder) / "log")


@contextmanager
def _started(log: Path, command: str, ready: str, data_dir: Path, layout: Layout) -> Iterator[psutil.Process]:
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("CASEWORK_", "DATABASE_", "LANGSMITH_"))},
        "PYTHONPATH": str(ROOT),  # the neutral graph is in no package; and what is measured is what lies here
        "CASEWORK_DATA_DIR": str(data_dir),
        "CASEWORK_PORT": "0",
        "CASEWORK_CONFIG": str(CONFIG),
        "CASEWORK_LOG_LEVEL": "warning",
        "CASEWORK_WORKER_CONCURRENCY": str(layout.concurrency // max(layout.workers, 1)),
        **layout.settings,
    }
    program = str(Path(sys.executable).with_name("casework"))
    with log.open("wb") as out:  # in `data_dir`, so that nobody's .env is read
        popen = subprocess.Popen([program, command], env=env, cwd=data_dir, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while ready not in log.read_text():
            if popen.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"casework {command} did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield psutil.Process(popen.pid)
    finally:
        popen.terminate()
        try:
            popen.wait(STOP_TIMEOUT_S)
        finally:
            popen.kill()  # nothing, once it has ended


def _keys(settings: Settings, database_url: str) -> tuple[str, str]:
    """A starter's key and an approver's, on a database that is migrated for it."""

    async def make() -> tuple[str, str]:
        await migrate(database_url)
        async with open_service(settings, database_url) as service:
            starter = await service.identity.add_key("default", "bench", {Role.SERVICE}, by=SYSTEM)
            return starter, await service.identity.add_key("default", "approver", {Role.APPROVER}, by=SYSTEM)

    return asyncio.run(make())
