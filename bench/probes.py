"""What one caller waits for while nobody else calls: the first event, the worker, the answer to a decision."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from statistics import median

import psycopg

from bench.caller import Caller, Told

PICK_UP = """
SELECT extract(epoch FROM min(started.at) - execution.created_at)::float8 * 1000
FROM casework.executions execution JOIN casework.events started USING (execution_id)
WHERE execution_id = ANY(%s::uuid[]) AND started.type = 'run.started'
GROUP BY execution_id"""


async def streams(caller: Caller, executions: int) -> dict[str, float]:
    """Start an execution, then follow it: from sending the first request to an event's bytes."""
    first, started, ended = [], [], []
    for _ in range(executions):
        began = time.perf_counter()
        async with caller.follow(await caller.start()) as story:
            told = await _whole(story)
        first.append(told[0].at - began)
        started.append(_at("run.started", told) - began)
        ended.append(told[-1].at - began)
    return {
        "first event of a stream, p50 ms": _median_ms(first),
        "pick-up, p50 ms: run.started on the stream": _median_ms(started),
        "end of a stream, p50 ms": _median_ms(ended),
    }


async def approvals(starter: Caller, approver: Caller, executions: int) -> dict[str, float]:
    """Approve what waits, on an open stream: from sending the decision to an event's bytes."""
    first, resumed, ended = [], [], []
    for _ in range(executions):
        execution_id = (await starter.run("neutral_approval", ends="waiting"))["execution_id"]
        approval = await approver.asked(execution_id)
        seen = (await approver.send("GET", f"/executions/{execution_id}/events", 200))["next_after"]
        async with starter.follow(execution_id, seen) as story:
            began = time.perf_counter()
            told, _ = await asyncio.gather(_whole(story), approver.approve(approval))
        first.append(told[0].at - began)
        resumed.append(_at("run.started", told) - began)
        ended.append(told[-1].at - began)
    return {
        "approval posted → next event, p50 ms": _median_ms(first),
        "approval posted → worker resumed it, p50 ms": _median_ms(resumed),
        "approval posted → execution over, p50 ms": _median_ms(ended),
    }


def pick_up_ms(database_url: str, execution_ids: Sequence[str]) -> float:
    """From accepting an execution to a worker's claim of it, both by the database's clock; the median."""
    with psycopg.connect(database_url) as connection:
        return median(float(row[0]) for row in connection.execute(PICK_UP, (list(execution_ids),)))


async def _whole(story: AsyncIterator[Told]) -> list[Told]:
    told = [event async for event in story]
    if not told or told[-1].type != "end":
        raise RuntimeError(f"a stream was cut off: {told}")
    return told


def _at(type_: str, told: list[Told]) -> float:
    return next(event.at for event in told if event.type == type_)


def _median_ms(seconds: list[float]) -> float:
    return median(seconds) * 1000
