"""Who used the processors, and how much memory: of processes and their children, and of the whole machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from casework.embedded import postgres_dir

MB = 2**20


@dataclass(frozen=True)
class Group:
    """Processes that count as one, with their children."""

    processes: Sequence[psutil.Process]

    def cpu_s(self) -> float:
        """User and system seconds so far, of those living and of children that ended."""
        return sum(map(_used_s, self._every()))

    def rss_mb(self) -> float:
        """Resident memory now, in MiB; pages that they share count once for each."""
        return sum(map(_resident, self._every())) / MB

    def _every(self) -> list[psutil.Process]:
        return [each for process in self.processes for each in (process, *process.children(recursive=True))]


def postgres(data_dir: Path) -> Group:
    """The embedded database of `data_dir`, which must run."""
    process_id = int((postgres_dir(data_dir) / "postmaster.pid").read_text().split(maxsplit=1)[0])
    return Group([psutil.Process(process_id)])


def _used_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # it ended since it was listed: from now on its parent counts it
        return 0.0
    return float(sum((times.user, times.system, times.children_user, times.children_system)))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


@dataclass(frozen=True)
class Spent:
    """What a stretch of work took. CPU in seconds of one core."""

    wall_s: float
    server_s: float
    postgres_s: float
    client_s: float
    """This process, which makes the load."""
    others_cores: float
    """Cores that anything else on the machine kept busy meanwhile: above 0.2 the figures are not to be trusted."""


class Meter:
    """Measures from its making on."""

    def __init__(self, server: Group, database: Group | None) -> None:
        self._parts = [server, database or Group([])]
        self._began = self._read()

    def read(self) -> Spent:
        now = self._read()
        wall, busy, *parts = (after - before for after, before in zip(now, self._began, strict=True))
        server, database, client = parts
        others = max(busy - sum(parts), 0.0)
        return Spent(wall, server, database, client, others / wall)

    def _read(self) -> list[float]:
        machine = psutil.cpu_times()
        busy = machine.user + machine.nice + machine.system + machine.irq + machine.softirq
        mine = time.process_time()  # without children: the service is one
        return [time.perf_counter(), busy, *(part.cpu_s() for part in self._parts), mine]
