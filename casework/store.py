"""What callers do with executions: start, find, list, read their story, cancel. Workers use casework/legs.py.

Lock order, always: execution row, approval row, audit head.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, and_, func, select, true, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework import audit
from casework.actor import Actor
from casework.approval import ApprovalState, canonical
from casework.dispatch import Dispatcher
from casework.errors import ExecutionOver, IdempotencyKeyReused, NotFound
from casework.execution import OVER, Event, Execution, Mode, Status
from casework.faults import fault
from casework.journal import NewEvent, write_events
from casework.tables import approvals, events, executions, runs


class Store:
    """Reads and writes executions. Safe to share; every method is one transaction."""

    def __init__(self, engine: AsyncEngine, dispatcher: Dispatcher) -> None:
        self.engine = engine
        self.dispatcher = dispatcher

    async def create(
        self,
        actor: Actor,
        workflow: str,
        graph_version: str,
        mode: Mode,
        input_: Mapping[str, Any],
        idempotency_key: str | None = None,
    ) -> tuple[Execution, bool]:
        """Accept an execution and queue its wake-up. Returns it, and whether it is new.

        The same key with the same request answers with the first execution; with another request it raises
        IdempotencyKeyReused.
        """
        request_hash = hashlib.sha256(canonical({"workflow": workflow, "input": input_}).encode()).hexdigest()
        execution_id = uuid4()
        async with self.engine.begin() as db:
            row = (
                await db.execute(
                    upsert(executions)
                    .values(
                        execution_id=execution_id,
                        workflow=workflow,
                        graph_version=graph_version,
                        tenant=actor.tenant,
                        requester=actor.actor_id,
                        status=Status.QUEUED,
                        mode=mode,
                        input=dict(input_),
                        idempotency_key=idempotency_key,
                        request_hash=request_hash,
                    )
                    .on_conflict_do_nothing(index_elements=["tenant", "requester", "idempotency_key"])
                    .returning(executions)
                )
            ).one_or_none()
            if row is None:
                first = (
                    await db.execute(
                        select(executions).where(
                            executions.c.tenant == actor.tenant,
                            executions.c.requester == actor.actor_id,
                            executions.c.idempotency_key == idempotency_key,
                        )
                    )
                ).one()
                if first.request_hash != request_hash:
                    raise IdempotencyKeyReused(field="Idempotency-Key")
                return Execution.model_validate(first), False
            created = NewEvent("execution.created", {"workflow": workflow, "by": actor.actor_id, "mode": mode})
            await write_events(db, execution_id, [created])
            await self.dispatcher.wake(db, execution_id)
            await fault("inside_create")
        await fault("after_create")
        return Execution.model_validate(row), True

    async def get(self, tenant: str, execution_id: UUID) -> Execution:
        """Raises NotFound for an unknown id and for another tenant's alike."""
        async with self.engine.connect() as db:
            row = (
                await db.execute(
                    select(executions).where(executions.c.execution_id == execution_id, executions.c.tenant == tenant)
                )
            ).one_or_none()
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
    ) -> list[Execution]:
        """Newest first. `before`: (created_at, execution_id) of the last one of the previous page."""
        where: list[ColumnElement[bool]] = [executions.c.tenant == tenant, executions.c.source == "api"]
        if status is not None:
            where.append(executions.c.status == status)
        if workflow is not None:
            where.append(executions.c.workflow == workflow)
        if requester is not None:
            where.append(executions.c.requester == requester)
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
            else:
                await close(db, execution_id, Status.CANCELLED, {}, [NewEvent("execution.cancelled", {})])
            await audit.append(db, actor.tenant, act="cancel", by=actor.actor_id, execution=str(execution_id))
        return await self.get(actor.tenant, execution_id)


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
    if over:
        await db.execute(
            update(approvals)
            .where(approvals.c.execution_id == execution_id, approvals.c.state == ApprovalState.PENDING)
            .values(state=ApprovalState.SUPERSEDED)
        )
        # A leg that was given back to be tried again never will be.
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
    await write_events(db, execution_id, new)
