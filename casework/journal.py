"""An execution's story: events written by whoever holds its fence, in the statement or transaction of the fact."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from casework.errors import LostLease, NotFound
from casework.outbox import Fact, fact_of, tell
from casework.plain import plain
from casework.resources import driver_of
from casework.tables import executions

CHANNEL = "casework_events"
"""Whoever LISTENs here is told, with the commit, of an execution that has new events: its id, a space, its status."""

NOTICE = f"pg_notify('{CHANNEL}', execution_id || ' ' || status)"
"""SQL, for the RETURNING of whatever changed a row of `executions`."""

STORY = """story AS (
    INSERT INTO casework.events (execution_id, seq, type, data)
    SELECT counted.execution_id, counted.event_seq - %(event_count)s + new.n, new.type, new.data::jsonb
    FROM counted, unnest(%(event_types)s::text[], %(event_data)s::text[]) WITH ORDINALITY new(type, data, n))"""
"""SQL: inserts the events of `story_of` for a CTE `counted`, the execution's row with `event_seq` already raised."""

WRITE = f"""WITH counted AS (
    UPDATE casework.executions SET event_seq = event_seq + %(event_count)s, updated_at = clock_timestamp()
    WHERE execution_id = %(execution)s RETURNING execution_id, event_seq, {NOTICE}), {STORY}
SELECT 1 FROM counted"""


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
    connection = await driver_of(db)
    written = await connection.execute(WRITE, {"execution": execution_id, **story_of(new)})
    if not written.rowcount:
        raise NotFound(f"execution {execution_id} does not exist")
    facts = facts_of(new)
    if facts:
        await tell(connection, execution_id, facts)


def story_of(new: Sequence[NewEvent]) -> dict[str, Any]:
    """Parameters of STORY."""
    return {
        "event_count": len(new),
        "event_types": [event.type for event in new],
        "event_data": [json.dumps(event.data, ensure_ascii=False, default=str) for event in new],
    }


def facts_of(new: Sequence[NewEvent]) -> list[Fact]:
    """What of these webhooks may be told."""
    return [fact for event in new if (fact := fact_of(event.type, event.data)) is not None]
