"""Deleting the working memory of executions that ended long ago: LangGraph's checkpoints, thread by thread, whole.

What people and auditors read stays: the execution, its events, approvals, effects and audit lines. Threads that
`langgraph dev` keeps in our database are not ours to prune.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework.execution import OVER
from casework.journal import NewEvent, write_events
from casework.tables import executions

MEMORY = ("checkpoint_writes", "checkpoint_blobs", "checkpoints")
"""LangGraph's tables. Its own `adelete_thread` cannot join our transaction."""
BATCH = 100
"""Threads looked up at a time; each is deleted in a transaction of its own."""


class Pruning:
    """Prunes executions that have been over for longer than `keep`. Safe to share, and to run twice at once."""

    def __init__(self, engine: AsyncEngine, keep: timedelta) -> None:
        self.engine = engine
        self.keep = keep

    async def due(self) -> int:
        """How many executions `run` would prune now."""
        async with self.engine.connect() as db:
            return int(await db.scalar(select(func.count()).select_from(executions).where(*self._prunable())) or 0)

    async def run(self) -> int:
        """Prune all that are due. Returns how many were; those that somebody holds at the moment are left for later."""
        total = 0
        while True:
            batch = await self._batch()
            pruned = sum([await self.prune(execution_id) for execution_id in batch])
            total += pruned
            if pruned == 0 or len(batch) < BATCH:
                return total

    async def prune(self, execution_id: UUID) -> bool:
        """Delete one execution's memory and say so in its story, unless it is not due (any more), or held."""
        # Judged under the row's lock: it may have been taken up again since it was found.
        held = (
            select(executions.c.execution_id)
            .where(executions.c.execution_id == execution_id, *self._prunable())
            .with_for_update(key_share=True, skip_locked=True)
        )
        async with self.engine.begin() as db:
            if await db.scalar(held) is None:
                return False
            rows = await _delete_memory(db, execution_id)
            pruned = update(executions).where(executions.c.execution_id == execution_id)
            await db.execute(pruned.values(pruned_at=func.now()))
            await write_events(db, execution_id, [NewEvent("execution.pruned", {"rows": rows})])
        return True

    async def _batch(self) -> list[UUID]:
        query = select(executions.c.execution_id).where(*self._prunable()).order_by(executions.c.finished_at)
        async with self.engine.connect() as db:
            return list((await db.scalars(query.limit(BATCH))).all())

    def _prunable(self) -> list[ColumnElement[bool]]:
        return [
            executions.c.finished_at < func.now() - self.keep,
            executions.c.pruned_at.is_(None),
            executions.c.status.in_(OVER),
            executions.c.source == "api",
        ]


async def _delete_memory(db: AsyncConnection, execution_id: UUID) -> int:
    """Returns how many rows were deleted."""
    rows = 0
    for table in MEMORY:
        deleted = await db.execute(text(f"DELETE FROM {table} WHERE thread_id = :t"), {"t": str(execution_id)})
        rows += deleted.rowcount
    return rows
