"""What becomes of effects that were under way when their execution ended without them: unknown, for people to see."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, update
from sqlalchemy.ext.asyncio import AsyncConnection

from casework import audit
from casework.journal import NewEvent, write_events
from casework.tables import effects


async def leave_unknown(db: AsyncConnection, tenant: str, execution_id: UUID, why: str) -> None:
    """Nobody will carry on what was begun; it may have happened. Call with the execution's and its approvals' rows
    locked, as this takes the audit log's head."""
    begun = update(effects).where(effects.c.execution_id == execution_id, effects.c.state == "started")
    left = begun.values(state="unknown", error=why, finished_at=func.now())
    for row in (await db.execute(left.returning(effects))).all():
        call_id = row.key.partition(":")[2]
        story = {"call_id": call_id, "tool": row.tool, "attempt": row.attempt, "args": row.args, "error": why}
        await write_events(db, execution_id, [NewEvent("effect.unknown", story)])
        await audit.append(
            db,
            tenant,
            act="effect.unknown",
            execution=str(execution_id),
            call=call_id,
            tool=row.tool,
            digest=row.digest,
            attempt=row.attempt,
        )
