"""What workers do with executions: claim one under a fence, renew its lease, and end or give back the leg.

Lock order, always: execution row, approval row, audit head.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework.dispatch import Dispatcher
from casework.errors import LostLease
from casework.execution import Execution, Status
from casework.faults import fault
from casework.journal import NewEvent, write_events
from casework.store import close, lock_row
from casework.tables import approvals, effects, executions, runs


@dataclass(frozen=True)
class Leg:
    """One claimed run of an execution, and the fence it writes under."""

    run_id: UUID
    """Kept when the leg is tried again, so that LangGraph applies its input once."""
    kind: str
    """`start` or `resume`."""
    attempt: int
    """1 for the first try."""
    fence: int
    execution: Execution


@dataclass(frozen=True)
class Answered:
    """A decided approval that no run has taken up yet."""

    interrupt_id: str
    graph_version: str
    node: str
    resume: Any
    """What the interrupt is answered with: the decision, or a foreign graph's plain answer."""


@dataclass(frozen=True)
class Ending:
    """How a leg ended."""

    status: Status
    """waiting, or a final status."""
    result: Mapping[str, Any] | None = None
    error: str | None = None
    questions: Sequence[Mapping[str, Any]] = ()
    """Rows for `approvals`: every interrupt still unanswered."""
    events: Sequence[NewEvent] = ()
    totals: Mapping[str, int] = field(default_factory=dict)
    """model_calls, tool_calls, tokens, cost_microusd: cumulative, from the graph's state."""


class Legs:
    """Claims and ends legs. Safe to share; every method is one transaction."""

    def __init__(self, engine: AsyncEngine, dispatcher: Dispatcher) -> None:
        self.engine = engine
        self.dispatcher = dispatcher

    async def claim(self, execution_id: UUID, owner: str, lease: timedelta) -> Leg | None:
        """Take the lease and raise the fence, on the database's clock. None: over, waiting, or somebody else's."""
        runnable = or_(
            and_(executions.c.status == Status.QUEUED, executions.c.wake_at <= func.now()),
            and_(executions.c.status == Status.RUNNING, executions.c.lease_until < func.now()),
        )
        async with self.engine.begin() as db:
            row = (
                await db.execute(
                    update(executions)
                    .where(executions.c.execution_id == execution_id, runnable, executions.c.source == "api")
                    .values(
                        status=Status.RUNNING,
                        fence=executions.c.fence + 1,
                        lease_owner=owner,
                        lease_until=func.now() + lease,
                        updated_at=func.now(),
                    )
                    .returning(executions)
                )
            ).one_or_none()
            if row is None:
                return None
            first = await db.scalar(select(runs.c.run_id).where(runs.c.execution_id == execution_id).limit(1)) is None
            leg = (
                await db.execute(
                    upsert(runs)
                    .values(execution_id=execution_id, kind="start" if first else "resume", status=Status.RUNNING)
                    .on_conflict_do_update(
                        index_elements=[runs.c.execution_id],
                        index_where=runs.c.status == "running",
                        set_={"attempt": runs.c.attempt + 1},
                    )
                    .returning(runs.c.run_id, runs.c.kind, runs.c.attempt)
                )
            ).one()
            started = NewEvent("run.started", {"run_id": str(leg.run_id), "attempt": leg.attempt, "kind": leg.kind})
            await write_events(db, execution_id, [started])
        return Leg(leg.run_id, leg.kind, leg.attempt, row.fence, Execution.model_validate(row))

    async def beat(self, owner: str, lease: timedelta, legs: Mapping[UUID, int]) -> set[UUID]:
        """Renew the leases of these (execution id → fence). Returns those that are lost.

        Rows that a transaction holds are skipped: their run is alive, and the next beat renews them.
        """
        if not legs:
            return set()
        held = (
            select(executions.c.execution_id)
            .where(executions.c.execution_id.in_(legs), executions.c.lease_owner == owner)
            .with_for_update(key_share=True, skip_locked=True)
            .cte()
        )
        async with self.engine.begin() as db:
            await db.execute(
                update(executions)
                .where(executions.c.execution_id == held.c.execution_id)
                .values(lease_until=func.now() + lease)
            )
            rows = await db.execute(
                select(executions.c.execution_id, executions.c.fence).where(executions.c.execution_id.in_(legs))
            )
            fences = {row.execution_id: row.fence for row in rows}
        return {execution_id for execution_id, fence in legs.items() if fences.get(execution_id) != fence}

    async def answered(self, execution_id: UUID) -> list[Answered]:
        """Decisions that no run has taken up yet."""
        query = select(approvals).where(
            approvals.c.execution_id == execution_id,
            approvals.c.decision.is_not(None),
            approvals.c.applied_at.is_(None),
        )
        async with self.engine.connect() as db:
            rows = (await db.execute(query)).all()
        return [
            Answered(
                interrupt_id=row.interrupt_id,
                graph_version=row.graph_version,
                node=row.node,
                resume=row.decision if row.tool is not None else row.decision.get("message"),
            )
            for row in rows
        ]

    async def has_open_effects(self, execution_id: UUID) -> bool:
        """Whether an effect was begun whose end is not recorded yet."""
        query = select(effects.c.key).where(effects.c.execution_id == execution_id, effects.c.state == "started")
        async with self.engine.connect() as db:
            return await db.scalar(query.limit(1)) is not None

    async def finish(self, leg: Leg, ending: Ending, pending: Collection[str]) -> Status:
        """End a leg: status, approvals, events, totals and lease in one fenced transaction.

        `pending`: interrupt ids still unanswered. Looks for what arrived meanwhile: a cancel that was
        accepted wins over every other end, a decision that no run has taken up makes the execution runnable again,
        with its wake-up.
        Returns the status it ended in. Raises LostLease, and then nothing was written.
        """
        execution_id = leg.execution.execution_id
        await fault("before_finish")
        async with self.engine.begin() as db:
            row = await _hold(db, leg)
            status = ending.status
            if row.cancel_requested:
                status = Status.CANCELLED
            if ending.questions and status is Status.WAITING:
                rows = [{"execution_id": execution_id, **q} for q in ending.questions]
                inserted = await db.execute(
                    upsert(approvals)
                    .values(rows)
                    .on_conflict_do_nothing()
                    .returning(approvals.c.description, approvals.c.kind)
                )
                asked = [
                    NewEvent("approval.requested", {"description": r.description, "kind": r.kind}) for r in inserted
                ]
            else:
                asked = []
            await db.execute(
                update(approvals)
                .where(
                    approvals.c.execution_id == execution_id,
                    approvals.c.decision.is_not(None),
                    approvals.c.applied_at.is_(None),
                    approvals.c.interrupt_id.not_in(pending),
                )
                .values(applied_at=func.now())
            )
            unapplied = await db.scalar(
                select(func.count())
                .select_from(approvals)
                .where(
                    approvals.c.execution_id == execution_id,
                    approvals.c.decision.is_not(None),
                    approvals.c.applied_at.is_(None),
                )
            )
            if status is Status.WAITING and unapplied and ending.error is None:
                status = Status.QUEUED
                await self.dispatcher.wake(db, execution_id)
            values = {
                **ending.totals,
                "result": dict(ending.result) if ending.result is not None else None,
                "error": ending.error,
            }
            done = NewEvent("run.finished", {"run_id": str(leg.run_id), "status": status, "error": ending.error})
            await close(db, execution_id, status, values, [*ending.events, *asked, done])
            await db.execute(
                update(runs)
                .where(runs.c.run_id == leg.run_id)
                .values(status=status, error=ending.error, finished_at=func.now())
            )
            await fault("inside_finish")
        await fault("after_finish")
        return status

    async def release(self, leg: Leg, error: str | None, delay: timedelta, *, counted: bool = True) -> None:
        """Give a leg back to be tried again after `delay`. `counted`: whether this try counts as an attempt.

        Raises LostLease.
        """
        execution_id = leg.execution.execution_id
        async with self.engine.begin() as db:
            await _hold(db, leg)
            await db.execute(
                update(executions)
                .where(executions.c.execution_id == execution_id)
                .values(
                    status=Status.QUEUED,
                    lease_owner=None,
                    lease_until=None,
                    wake_at=func.now() + delay,
                    updated_at=func.now(),
                )
            )
            await db.execute(
                update(runs)
                .where(runs.c.run_id == leg.run_id)
                .values(error=error, attempt=runs.c.attempt if counted else runs.c.attempt - 1)
            )
            given_back = NewEvent("run.released", {"run_id": str(leg.run_id), "error": error})
            await write_events(db, execution_id, [given_back])
            await self.dispatcher.wake(db, execution_id, delay)

    async def forgotten(self, older_than: timedelta, limit: int = 500) -> list[UUID]:
        """Executions that should run and that nobody runs: queued for `older_than`, or past their lease."""
        query = (
            select(executions.c.execution_id)
            .where(
                or_(
                    and_(executions.c.status == Status.QUEUED, executions.c.wake_at < func.now() - older_than),
                    and_(executions.c.status == Status.RUNNING, executions.c.lease_until < func.now()),
                ),
                executions.c.source == "api",
            )
            .limit(limit)
        )
        async with self.engine.connect() as db:
            return list((await db.scalars(query)).all())

    async def reopen(self, graph_versions: Collection[str]) -> list[UUID]:
        """Queue executions whose resume was refused for a changed graph, and whose own version is here again."""
        decided = select(approvals.c.approval_id).where(
            approvals.c.execution_id == executions.c.execution_id,
            approvals.c.decision.is_not(None),
            approvals.c.applied_at.is_(None),
            approvals.c.graph_version.in_(graph_versions),
        )
        refused = update(executions).where(
            executions.c.status == Status.WAITING,
            executions.c.error.is_not(None),
            executions.c.source == "api",
            decided.exists(),
        )
        async with self.engine.begin() as db:
            reopened = await db.scalars(
                refused.values(status=Status.QUEUED, wake_at=func.now()).returning(executions.c.execution_id)
            )
            execution_ids = list(reopened.all())
            for execution_id in execution_ids:
                await self.dispatcher.wake(db, execution_id)
        return execution_ids

    async def wake(self, execution_ids: Sequence[UUID]) -> None:
        """Queue a wake-up for each."""
        async with self.engine.begin() as db:
            for execution_id in execution_ids:
                await self.dispatcher.wake(db, execution_id)


async def _hold(db: AsyncConnection, leg: Leg) -> Any:
    """The execution's row, locked. Raises LostLease when another worker has it, or when this leg has ended already.

    For a commit whose answer got lost may have arrived; whoever tries again must not undo it.
    """
    row = await lock_row(db, leg.execution.tenant, leg.execution.execution_id)
    if row.fence != leg.fence or row.status != Status.RUNNING:
        raise LostLease(f"execution {row.execution_id} is {row.status} under fence {row.fence}, not {leg.fence}")
    return row
