"""An execution's story: events written by whoever holds its fence, in the statement or transaction of the fact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from casework.errors import LostLease, NotFound
from casework.outbox import fact_of, tell
from casework.plain import plain
from casework.tables import events, executions

CHANNEL = "casework_events"
"""Whoever LISTENs here is told, with the commit, the id of an execution that has new events."""


@dataclass(frozen=True)
class NewEvent:
    """An event that has no number yet."""

    type: str
    """Dotted machine name, e.g. `call.checked`."""
    data: dict[str, Any]


@dataclass
class Journal:
    """Events of a run that are not saved yet. The saver takes them along with the next task's writes."""

    pending: list[NewEvent] = field(default_factory=list)

    def note(self, type_: str, **data: Any) -> None:
        self.pending.append(NewEvent(type_, plain(data)))

    def take(self) -> list[NewEvent]:
        """What is to be saved now; the caller puts it back with `restore` if saving fails."""
        taken, self.pending = self.pending, []
        return taken

    def restore(self, taken: list[NewEvent]) -> None:
        self.pending = taken + self.pending


async def hold_fence(db: AsyncConnection, execution_id: UUID, fence: int) -> None:
    """Prove that this run still owns the execution, and keep it so until the transaction ends.

    NO KEY UPDATE, because FOR SHARE followed by an update of the same row deadlocks with a sibling.
    Raises LostLease.
    """
    row = (
        await db.execute(
            select(executions.c.fence).where(executions.c.execution_id == execution_id).with_for_update(key_share=True)
        )
    ).one_or_none()
    if row is None or row.fence != fence:
        raise LostLease(f"execution {execution_id}: fence {fence} is not {row and row.fence}")


async def write_events(db: AsyncConnection, execution_id: UUID, new: Sequence[NewEvent]) -> None:
    """Number and insert events in the caller's transaction, which holds the execution's row from here on.

    Whoever listens to the execution is told when it commits, and so are the webhooks that asked for what it says.
    """
    if not new:
        return
    last = await db.scalar(
        update(executions)
        .where(executions.c.execution_id == execution_id)
        .values(event_seq=executions.c.event_seq + len(new), updated_at=text("clock_timestamp()"))
        .returning(executions.c.event_seq, func.pg_notify(CHANNEL, str(execution_id)))
    )
    if last is None:
        raise NotFound(f"execution {execution_id} does not exist")
    first = last - len(new) + 1
    await db.execute(
        insert(events),
        [
            {"execution_id": execution_id, "seq": first + i, "type": event.type, "data": event.data}
            for i, event in enumerate(new)
        ],
    )
    facts = [fact for event in new if (fact := fact_of(event.type, event.data)) is not None]
    if facts:
        raw: Any = (await db.get_raw_connection()).driver_connection
        await tell(raw, execution_id, facts)
