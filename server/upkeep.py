"""What one of the workers does now and then for all: prune what ended long ago, tidy the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from casework.dispatch import Queue
from casework.pruning import Pruning
from casework.resources import Pool, Resources
from casework.telemetry import logger

log = logger(__name__)

UPKEEP_LOCK = 0x75706B70  # "upkp"

PRUNED = "executions pruned of their checkpoints"


class Upkeep:
    """One pass at a time over all processes. Nothing depends on it but the size of the database."""

    def __init__(self, resources: Resources, queue: Queue) -> None:
        self.resources = resources
        self.queue = queue
        self.settings = resources.settings

    async def keep_up(self) -> None:
        """A pass every so often, for ever."""
        while True:
            await asyncio.sleep(self.settings.upkeep_every.total_seconds())
            try:
                done = await self.once()
            except Exception:
                log.exception("upkeep.failed")
                continue
            if done is not None and any(done.values()):
                log.info("upkeep.done", **{what.replace(" ", "_"): times for what, times in done.items() if times})

    async def once(self, *, dry_run: bool = False) -> Mapping[str, int] | None:
        """Returns how many of what; with `dry_run` nothing is changed. None: another process is at it."""
        async with _alone(self.resources.pool) as alone:
            if not alone:
                return None
            tidied = await self.queue.tidy(self.settings.keep_jobs, dry_run=dry_run)
            return {PRUNED: await self._prune(dry_run), **tidied}  # last: the first time it may take an hour

    async def _prune(self, dry_run: bool) -> int:
        keep = self.settings.keep_checkpoints
        if keep is None:
            return 0
        pruning = Pruning(self.resources.engine, keep)
        return await (pruning.due() if dry_run else pruning.run())


@asynccontextmanager
async def _alone(pool: Pool) -> AsyncIterator[bool]:
    """Whether this process may; nobody else may meanwhile. A lock of the session: no transaction stays open for it."""
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s) AS held", (UPKEEP_LOCK,))
        row = await cursor.fetchone()
        held = row is not None and row["held"]
        try:
            yield held
        finally:
            if held:
                await connection.execute("SELECT pg_advisory_unlock(%s)", (UPKEEP_LOCK,))
