"""Many executions over HTTP: each caller starts one, waits for its end, and starts the next."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.accounts import Meter, Spent


@dataclass(frozen=True)
class Load:
    """What a number of executions came to."""

    executions: int
    took_ms: list[float]
    """Each one, from sending the request to having its answer; shortest first."""
    spent: Spent

    @property
    def rate(self) -> float:
        """Executions per second."""
        return self.executions / self.spent.wall_s

    def percentile_ms(self, percent: float) -> float:
        return percentile(self.took_ms, percent)

    def each_ms(self, cpu_s: float) -> float:
        """Seconds of all of it, as milliseconds per execution."""
        return cpu_s / self.executions * 1000


async def load(one: Callable[[], Awaitable[object]], callers: int, executions: int, meter: Callable[[], Meter]) -> Load:
    """Run `one` so many times, by so many callers at once."""
    took: list[float] = []
    left = iter(range(executions))

    async def caller() -> None:
        for _ in left:
            began = time.perf_counter()
            await one()
            took.append((time.perf_counter() - began) * 1000)

    gc.collect()
    gc.freeze()  # so that no pause of this process's is taken for the service's
    try:
        measured = meter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        return Load(executions, sorted(took), measured.read())
    finally:
        gc.unfreeze()  # what is measured in this process has its pauses


def percentile(values: list[float], percent: float) -> float:
    """The value that `percent` of them do not exceed."""
    ranked = sorted(values)
    return ranked[min(int(len(ranked) * percent / 100), len(ranked) - 1)]
