"""Many waiting executions, approved all at once, with two worker processes."""

from __future__ import annotations

import asyncio
import time

import psycopg

from bench.accounts import Meter
from bench.caller import Caller, calling
from bench.load import load
from bench.service import Running

CALLERS = 32
LIMIT_S = 300.0
STATUSES = "SELECT count(*) FILTER (WHERE status = %s) FROM casework.executions"
LAST_END = "SELECT extract(epoch FROM max(finished_at) - %s)::float8 FROM casework.executions"


async def burst(service: Running, executions: int) -> dict[str, float]:
    """Bring so many to their question, answer them all, and wait until all have succeeded."""

    def meter() -> Meter:
        return Meter(service.processes, service.database)

    async with (
        calling(service.url, service.starter_key) as starter,
        calling(service.url, service.approver_key) as approver,
        await psycopg.AsyncConnection.connect(service.database_url, autocommit=True) as database,
    ):
        await load(lambda: starter.start("neutral_approval"), CALLERS, executions, meter)
        await _all_are("waiting", executions, database)
        asked = iter(await _inbox(approver))
        began = await (await database.execute("SELECT clock_timestamp()")).fetchone()
        decided = await load(lambda: approver.approve(next(asked)), CALLERS, executions, meter)
        await _all_are("succeeded", executions, database)
        took = await (await database.execute(LAST_END, began)).fetchone()
    if took is None:
        raise RuntimeError("no execution is left")
    return {
        f"{executions} waiting approved at once, s until all done": took[0],
        f"{executions} waiting approved at once, s until all accepted": decided.spent.wall_s,
    }


async def _all_are(status: str, executions: int, database: psycopg.AsyncConnection[tuple[int]]) -> None:
    deadline = time.monotonic() + LIMIT_S
    found = 0
    while found < executions:
        if time.monotonic() > deadline:
            raise RuntimeError(f"after {LIMIT_S} s only {found} of {executions} executions are {status}")
        await asyncio.sleep(0.2)
        row = await (await database.execute(STATUSES, (status,))).fetchone()
        found = row[0] if row else 0


async def _inbox(approver: Caller) -> list[dict[str, str]]:
    """Every pending approval, page by page."""
    found, cursor = [], ""
    while True:
        page = await approver.send("GET", f"/approvals?limit=200{cursor}", 200)
        found += page["approvals"]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"
