"""What callers do with executions: start, find, list, read their story, cancel. Workers use casework/legs.py.

Lock order, always: execution row, approval row, audit head.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb
from sqlalchemy import ColumnElement, Text, and_, func, literal_column, select, true, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework import audit
from casework.actor import Actor
from casework.approval import ApprovalState, canonical
from casework.dispatch import Dispatcher
from casework.errors import ExecutionOver, IdempotencyKeyReused, NotFound
from casework.execution import OVER, Event, Execution, Mode, Outcome, Status
from casework.faults import fault
from casework.journal import NOTICE, STORY, NewEvent, facts_of, story_of, write_events
from casework.outbox import TOLD, told_of
from casework.resources import Connection, Pool, driver_of
from casework.tables import approvals, effects, events, executions, runs

CREATE = f"""WITH counted AS (
    INSERT INTO casework.executions (execution_id, workflow, graph_version, tenant, requester, status, mode, input,
        idempotency_key, request_hash, event_seq)
    VALUES (%(execution)s, %(workflow)s, %(graph_version)s, %(tenant)s, %(requester)s, 'queued', %(mode)s, %(input)s,
        %(key)s, %(request_hash)s, %(event_count)s)
    ON CONFLICT (tenant, requester, idempotency_key) DO NOTHING RETURNING *), {STORY}, {TOLD}
SELECT *, {NOTICE} FROM counted"""
FIRST = """SELECT * FROM casework.executions
WHERE tenant = %(tenant)s AND requester = %(requester)s AND idempotency_key = %(key)s"""
GET = "SELECT * FROM casework.executions WHERE execution_id = %s AND tenant = %s"


customer_column: ColumnElement[str] = literal_column("((casework.executions.input -> 'case') ->> 'customer_id')", Text)
"""Whom a case is about, when its workflow says so under this name. Written as in its index: parameters do not match."""


OUTCOMES: Mapping[Outcome, list[ColumnElement[bool]]] = {
    Outcome.BY_AGENTS: [executions.c.status == Status.SUCCEEDED, executions.c.solved_by.is_(None)],
    Outcome.BY_A_PERSON: [executions.c.status == Status.SUCCEEDED, executions.c.solved_by.is_not(None)],
    Outcome.WITH_PEOPLE: [executions.c.status == Status.ESCALATED],
    Outcome.FAILED: [executions.c.status == Status.FAILED],
    Outcome.CANCELLED: [executions.c.status == Status.CANCELLED],
}


class Store:
    """Reads and writes executions. Safe to share; every method is one transaction.

    What every execution passes through is plain SQL on the pool, the rest SQLAlchemy: see docs/benchmarks.md.
    """

    def __init__(self, engine: AsyncEngine, pool: Pool, dispatcher: Dispatcher) -> None:
        self.engine = engine
        self.pool = pool
        self.dispatcher = dispatcher

    async def create(
        self,
        actor: Actor,
        workflow: str,
        graph_version: str,
        mode: Mode,
        input_: Mapping[str, Any],
        idempotency_key: str | None = None,
        execution_id: UUID | None = None,
    ) -> tuple[Execution, bool]:
        """Accept an execution and queue its wake-up. Returns it, and whether it is new.

        The same key with the same request answers with the first execution; with another request it raises
        IdempotencyKeyReused. `execution_id`: a fresh one, for whoever must know it before; made here when None.
        """
        request_hash = hashlib.sha256(canonical({"workflow": workflow, "input": input_}).encode()).hexdigest()
        created = NewEvent("execution.created", {"workflow": workflow, "by": actor.actor_id, "mode": mode})
        execution_id = execution_id or uuid4()
        asked = {
            "execution": execution_id,
            "workflow": workflow,
            "graph_version": graph_version,
            "tenant": actor.tenant,
            "requester": actor.actor_id,
            "mode": mode,
            "input": Jsonb(input_),
            "key": idempotency_key,
            "request_hash": request_hash,
            **story_of([created]),
            **told_of(execution_id, facts_of([created])),
        }
        async with self.pool.connection() as db, db.transaction():
            row = await (await db.execute(CREATE, asked)).fetchone()
            if row is None:
                return await _first(db, asked), False
            await self.dispatcher.wake(db, execution_id)
            await fault("inside_create")
        await fault("after_create")
        return Execution.model_validate(row), True

    async def get(self, tenant: str, execution_id: UUID) -> Execution:
        """Raises NotFound for an unknown id and for another tenant's alike."""
        async with self.pool.connection() as db:
            row = await (await db.execute(GET, (execution_id, tenant))).fetchone()
        if row is None:
            raise NotFound(f"there is no execution {execution_id}")
        return Execution.model_validate(row)

    async def page(
        self,
        tenant: str,
        *,
        limit: int,
        before: tuple[datetime, UUID] | None = None,
        status: Status | None = None,
        workflow: str | None = None,
        requester: str | None = None,
        specialist: str | None = None,
        customer: str | None = None,
        outcome: Outcome | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Execution]:
        """Newest first. `before`: (created_at, execution_id) of the last one of the previous page.

        `customer`: the case's customer_id. `since`, `until`: when it was started.
        """
        where: list[ColumnElement[bool]] = [executions.c.tenant == tenant, executions.c.source == "api"]
        wanted = {"status": status, "workflow": workflow, "requester": requester, "specialist": specialist}
        where += [executions.c[name] == value for name, value in wanted.items() if value is not None]
        if customer is not None:
            where.append(customer_column == customer)
        if outcome is not None:
            where += OUTCOMES[outcome]
        if since is not None:
            where.append(executions.c.created_at >= since)
        if until is not None:
            where.append(executions.c.created_at < until)
        if before is not None:
            where.append(tuple_(executions.c.created_at, executions.c.execution_id) < tuple_(*before))
        query = (
            select(executions)
            .where(and_(*where))
            .order_by(executions.c.created_at.desc(), executions.c.execution_id.desc())
            .limit(limit)
        )
        async with self.engine.connect() as db:
            return [Execution.model_validate(row) for row in await db.execute(query)]

    async def events(self, tenant: str, execution_id: UUID, *, after: int = 0, limit: int = 1000) -> list[Event]:
        """Events numbered above `after`, in order. Raises NotFound as `get` does."""
        _, found = await self.news(tenant, execution_id, after=after, limit=limit)
        return found

    async def news(self, tenant: str, execution_id: UUID, *, after: int, limit: int) -> tuple[Status, list[Event]]:
        """Events numbered above `after`, in order, and where the execution stood with them: one snapshot.

        So a final status means that no event is missing but those beyond `limit`. Raises NotFound as `get` does.
        """
        new = (
            select(events.c.seq, events.c.type, events.c.data, events.c.at)
            .where(events.c.execution_id == executions.c.execution_id, events.c.seq > after)
            .order_by(events.c.seq)
            .limit(limit)
            .lateral()
        )
        query = (
            select(executions.c.status, new)
            .select_from(executions.outerjoin(new, true()))
            .where(executions.c.execution_id == execution_id, executions.c.tenant == tenant)
            .order_by(new.c.seq)
        )
        async with self.engine.connect() as db:
            rows = (await db.execute(query)).all()
        if not rows:
            raise NotFound(f"there is no execution {execution_id}")
        return Status(rows[0].status), [Event.model_validate(row) for row in rows if row.seq is not None]

    async def cancel(self, actor: Actor, execution_id: UUID) -> Execution:
        """No effect begins after this returns. What is under way is finished and recorded.

        Raises NotFound, ExecutionOver.
        """
        async with self.engine.begin() as db:
            row = await lock_row(db, actor.tenant, execution_id)
            if Status(row.status) in OVER:
                raise ExecutionOver(f"execution {execution_id} has already ended: {row.status}")
            await write_events(db, execution_id, [NewEvent("execution.cancel_requested", {"by": actor.actor_id})])
            if row.status == Status.RUNNING:
                await db.execute(
                    update(executions).where(executions.c.execution_id == execution_id).values(cancel_requested=True)
                )
            elif await has_open_effects(db, execution_id):
                await self._queue_to_cancel(db, execution_id)
            else:
                await close(db, execution_id, Status.CANCELLED, {}, [NewEvent("execution.cancelled", {})])
            await audit.append(db, actor.tenant, act="cancel", by=actor.actor_id, execution=str(execution_id))
        return await self.get(actor.tenant, execution_id)

    async def _queue_to_cancel(self, db: AsyncConnection, execution_id: UUID) -> None:
        """A worker gave it back in the middle of an effect: the next one finds out what came of it, then cancels."""
        await db.execute(
            update(executions)
            .where(executions.c.execution_id == execution_id)
            .values(cancel_requested=True, status=Status.QUEUED, wake_at=func.now())
        )
        await self.dispatcher.wake(await driver_of(db), execution_id)


async def has_open_effects(db: AsyncConnection, execution_id: UUID) -> bool:
    """Whether an effect was begun whose end is not recorded yet."""
    query = select(effects.c.key).where(effects.c.execution_id == execution_id, effects.c.state == "started")
    return await db.scalar(query.limit(1)) is not None


async def _first(db: Connection, asked: Mapping[str, Any]) -> Execution:
    """What this idempotency key started before. Raises IdempotencyKeyReused when it was for another request."""
    row = await (await db.execute(FIRST, asked)).fetchone()
    if row is None or row["request_hash"] != asked["request_hash"]:
        raise IdempotencyKeyReused(field="Idempotency-Key")
    return Execution.model_validate(row)


async def read_execution(engine: AsyncEngine, tenant: str, execution_id: UUID) -> Execution:
    """Raises NotFound for an unknown id and for another tenant's alike."""
    query = select(executions).where(executions.c.execution_id == execution_id, executions.c.tenant == tenant)
    async with engine.connect() as db:
        row = (await db.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"there is no execution {execution_id}")
    return Execution.model_validate(row)


async def lock_row(db: AsyncConnection, tenant: str, execution_id: UUID) -> Any:
    """The execution's row, locked until the transaction ends. Raises NotFound."""
    row = (
        await db.execute(
            select(executions)
            .where(executions.c.execution_id == execution_id, executions.c.tenant == tenant)
            .with_for_update(key_share=True)
        )
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no execution {execution_id}")
    return row


async def close(
    db: AsyncConnection, execution_id: UUID, status: Status, values: Mapping[str, Any], new: Sequence[NewEvent]
) -> None:
    """Set the status and free the lease; a final one also supersedes what was still asked, and ends the open leg."""
    over = status in OVER
    superseded = await drop_questions(db, execution_id, status) if over else []
    if over:  # a leg that was given back to be tried again never will be
        await db.execute(
            update(runs)
            .where(runs.c.execution_id == execution_id, runs.c.status == Status.RUNNING)
            .values(status=status, finished_at=func.now())
        )
    await db.execute(
        update(executions)
        .where(executions.c.execution_id == execution_id)
        .values(
            status=status,
            lease_owner=None,
            lease_until=None,
            wake_at=func.now(),
            updated_at=func.now(),
            finished_at=func.now() if over else None,
            **values,
        )
    )
    await write_events(db, execution_id, [*superseded, *new])


async def drop_questions(db: AsyncConnection, execution_id: UUID, status: Status) -> list[NewEvent]:
    """Supersede what is still asked of an execution that ends. Returns what is to be told of it."""
    dropped = await db.execute(
        update(approvals)
        .where(approvals.c.execution_id == execution_id, approvals.c.state == ApprovalState.PENDING)
        .values(state=ApprovalState.SUPERSEDED)
        .returning(approvals.c.approval_id, approvals.c.tool)
    )
    because = {"reason": f"the execution has ended: {status}"}
    return [
        NewEvent("approval.superseded", {"approval_id": str(row.approval_id), "tool": row.tool, **because})
        for row in dropped
    ]
