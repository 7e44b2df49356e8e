"""The service under load, driven over HTTP from this process: `casework up` with the neutral graph."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from bench.neutral_graph import INPUT

READY = "Ctrl-C stops everything."
CONFIG = Path(__file__).with_name("langgraph.json")
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Running:
    """A service that listens."""

    url: str
    key: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """User and system seconds so far of the service's own process; the database is another."""
        times = self.process.cpu_times()
        return times.user + times.system


@contextmanager
def running_service(folder: Path) -> Iterator[Running]:
    """Started on an embedded database (fsync on) in `folder`, stopped on leaving."""
    log = folder / "service.log"
    env = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("CASEWORK_", "DATABASE_"))},
        "CASEWORK_DATA_DIR": str(folder),
        "CASEWORK_PORT": "0",
        "CASEWORK_CONFIG": str(CONFIG),
        "CASEWORK_LOG_LEVEL": "warning",
        "CASEWORK_WORKER_CONCURRENCY": "32",
    }
    with log.open("wb") as out:
        command = [str(Path(sys.executable).parent / "casework"), "up"]
        popen = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while READY not in log.read_text():
            if popen.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not start:\n{log.read_text()}")
            time.sleep(0.1)
        said = log.read_text()
        url, key = re.search(r"runs at (\S+)", said), re.search(r"helpdesk .*(cw_\S+)", said)
        if url is None or key is None:
            raise RuntimeError(f"the service said neither address nor key:\n{said}")
        yield Running(url[1], key[1], psutil.Process(popen.pid))
    finally:
        popen.terminate()
        popen.wait(30)


@dataclass(frozen=True)
class Load:
    """What a number of executions came to."""

    rate: float
    """Executions finished per second."""
    p50_ms: float
    """From sending the request to reading its finished execution."""
    p95_ms: float
    cpu_ms: float
    """CPU of the service's process per execution."""


async def drive(service: Running, callers: int, executions: int) -> Load:
    """Each caller starts an execution, waits for its end over HTTP, and starts the next."""
    headers = {"Authorization": f"Bearer {service.key}", "Prefer": "wait=60"}
    limits = httpx.Limits(max_connections=callers)
    took: list[float] = []
    left = iter(range(executions))

    async with httpx.AsyncClient(
        base_url=service.url, headers=headers, limits=limits, timeout=90, trust_env=False
    ) as client:

        async def caller() -> None:
            for _ in left:
                began = time.perf_counter()
                answer = await client.post("/workflows/neutral/executions", json={"input": INPUT})
                if answer.json().get("status") != "succeeded":
                    raise RuntimeError(f"an execution did not succeed: {answer.status_code} {answer.text}")
                took.append((time.perf_counter() - began) * 1000)

        cpu, began = service.cpu_s(), time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        wall = time.perf_counter() - began
    took.sort()
    return Load(
        rate=executions / wall,
        p50_ms=took[len(took) // 2],
        p95_ms=took[int(len(took) * 0.95)],
        cpu_ms=(service.cpu_s() - cpu) / executions * 1000,
    )
