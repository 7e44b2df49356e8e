"""What the same graph reaches in process, without any of ours: the floors the service is measured against."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from bench.load import percentile
from bench.neutral_graph import INPUT, delta_builder

AT_ONCE = 16


async def floors(database_url: str, runs: int) -> dict[str, float]:
    """Runs per second without a saver, with one stock saver (which is one lock), and with a stock saver per run;
    and how long one takes with the stock saver when there is no other."""
    pool = AsyncConnectionPool(
        database_url,
        min_size=1,
        max_size=AT_ONCE + 2,
        open=False,
        kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
    )
    async with pool:
        shared = AsyncPostgresSaver(pool)  # type: ignore[arg-type]  # the pool's row type comes from its kwargs
        await shared.setup()
        return {
            "floor: runs/s, no saver": await _rate(lambda: None, runs),
            "floor: runs/s, stock saver": await _rate(lambda: shared, runs),
            "floor: runs/s, stock saver without its lock": await _rate(
                lambda: AsyncPostgresSaver(pool),  # type: ignore[arg-type]
                runs,
            ),
            "floor: p50 ms, stock saver, one caller": await _median_ms(shared, max(runs // 4, 20)),
        }


async def _rate(saver: Callable[[], BaseCheckpointSaver[Any] | None], runs: int) -> float:
    compiled = delta_builder.compile()
    turnstile = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with turnstile:
            await _run(compiled, saver())

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))  # warm
    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(runs)))
    return runs / (time.perf_counter() - began)


async def _median_ms(saver: BaseCheckpointSaver[Any], runs: int) -> float:
    compiled = delta_builder.compile()
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        await _run(compiled, saver)
        took.append((time.perf_counter() - began) * 1000)
    return percentile(took, 50)


async def _run(compiled: Any, saver: BaseCheckpointSaver[Any] | None) -> None:
    graph = compiled.copy({"checkpointer": saver}) if saver is not None else compiled
    config = {"configurable": {"thread_id": uuid4().hex}}
    await graph.ainvoke(INPUT, config, durability="sync" if saver is not None else None)
