"""What workers do with executions: claim one under a fence, renew its lease, and end or give back the leg.

Lock order, always: execution row, approval row, audit head.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import and_, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from casework.dispatch import Dispatcher
from casework.errors import LostLease
from casework.execution import OVER, Execution, Status
from casework.faults import fault
from casework.journal import NOTICE, STORY, NewEvent, facts_of, hold_fence, story_of, write_events
from casework.messages import supersede_calls
from casework.outbox import TOLD, told_of
from casework.plain import plain
from casework.resources import Pool, driver_of
from casework.store import drop_questions, has_open_effects
from casework.stranded import leave_unknown
from casework.tables import approvals, executions, runs


@dataclass(frozen=True)
class Leg:
    """One claimed run of an execution, and the fence it writes under."""

    run_id: UUID
    """Kept when the leg is tried again, so that LangGraph applies its input once."""
    kind: str
    """`start`, `resume`, or `message`: one was waiting to be read when the leg began."""
    attempt: int
    """1 for the first try."""
    fence: int
    execution: Execution

    @property
    def fresh(self) -> bool:
        """Whether nobody has claimed the execution before: every claim raises its fence."""
        return self.fence == 1


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
    messages_read: int | None = None
    """Number of the last message that was read, from the graph's state; None: the leg broke off, it is not known."""
    specialist: str | None = None
    """Who works it, from the graph's state; None: not known, or nobody yet."""


TOTALS = ("model_calls", "tool_calls", "tokens", "cost_microusd")
AT_ONCE = frozenset({Status.SUCCEEDED, Status.ESCALATED})
"""What a leg most often ends in. No other ending has anything to look for, unless a message came meanwhile."""
KEPT = (*TOTALS, "messages_read")
"""Columns that an ending without them leaves as they are."""

CLAIM = f"""WITH counted AS (
    UPDATE casework.executions SET status = 'running', fence = fence + 1, lease_owner = %(owner)s,
        lease_until = now() + %(lease)s, event_seq = event_seq + 1, updated_at = clock_timestamp()
    WHERE execution_id = %(execution)s AND source = 'api'
        AND (status = 'queued' AND wake_at <= now() OR status = 'running' AND lease_until < now())
    RETURNING *),
leg AS (
    INSERT INTO casework.runs AS run (execution_id, kind, status)
    SELECT execution_id,
        CASE WHEN fence = 1 THEN 'start' WHEN messages > messages_read THEN 'message' ELSE 'resume' END,
        'running'
    FROM counted
    ON CONFLICT (execution_id) WHERE status = 'running' DO UPDATE SET attempt = run.attempt + 1
    RETURNING run_id, kind, attempt),
story AS (
    INSERT INTO casework.events (execution_id, seq, type, data)
    SELECT execution_id, event_seq, 'run.started',
        jsonb_build_object('run_id', run_id, 'attempt', attempt, 'kind', kind)
    FROM counted, leg)
SELECT *, {NOTICE} FROM counted, leg"""

LOOK = """SELECT cancel_requested, EXISTS (
    SELECT 1 FROM casework.approvals a WHERE a.execution_id = e.execution_id
        AND decision IS NOT NULL AND applied_at IS NULL AND interrupt_id = ANY(%(pending)s)) AS decided, messages
FROM casework.executions e WHERE execution_id = %(execution)s AND fence = %(fence)s AND status = 'running'
FOR NO KEY UPDATE"""

QUESTION = (
    "execution_id, tenant, approval_id, interrupt_id, graph_version, node, kind, tool, tool_call_id, args, digest, "
    "doubt, description, reasons, roles, votes_needed, money, allowed, response_schema, specialist, thought, expires_at"
)
ASK = f"""INSERT INTO casework.approvals ({QUESTION})
SELECT {QUESTION} FROM jsonb_populate_recordset(NULL::casework.approvals, %s)
ON CONFLICT DO NOTHING RETURNING approval_id, description, kind"""

END = f"""WITH fence AS MATERIALIZED (
    SELECT execution_id FROM casework.executions
    WHERE execution_id = %(execution)s AND fence = %(fence)s AND status = 'running'
        AND (%(status)s = 'cancelled' OR NOT cancel_requested)
        AND (%(status)s <> 'succeeded' OR messages <= COALESCE(%(messages_read)s::int, messages))
        AND NOT (%(over)s AND EXISTS (
            SELECT 1 FROM casework.approvals WHERE execution_id = %(execution)s AND state = 'pending'))
    FOR NO KEY UPDATE),
applied AS (
    UPDATE casework.approvals a SET applied_at = now() FROM fence
    WHERE a.execution_id = fence.execution_id AND decision IS NOT NULL AND applied_at IS NULL
        AND interrupt_id <> ALL(%(pending)s)),
ended AS (
    UPDATE casework.runs SET status = %(status)s, error = %(error)s, finished_at = now() FROM fence
    WHERE run_id = %(run)s),
counted AS (
    UPDATE casework.executions SET status = %(status)s, result = %(result)s, error = %(error)s,
        {", ".join(f"{name} = COALESCE(%({name})s::bigint, {name})" for name in KEPT)},
        specialist = COALESCE(%(specialist)s, specialist),
        lease_owner = NULL, lease_until = NULL, wake_at = now(), finished_at = CASE WHEN %(over)s THEN now() END,
        event_seq = event_seq + %(event_count)s, updated_at = clock_timestamp()
    WHERE execution_id = (SELECT execution_id FROM fence)
    RETURNING execution_id, event_seq, tenant, workflow, source, {NOTICE}), {STORY}, {TOLD}
SELECT 1 FROM counted"""
"""Changes nothing when the leg is not the execution's any more, when it overlooks a cancel or, succeeding, a message,
or when it is over and something is still asked."""


def _end_of(
    leg: Leg, ending: Ending, status: Status, pending: Collection[str], told: Sequence[NewEvent]
) -> dict[str, Any]:
    """Parameters of END."""
    result = ending.result if status is not Status.QUEUED else None
    finished = NewEvent("run.finished", {"run_id": str(leg.run_id), "status": status, "error": ending.error})
    story = [*ending.events, *told, finished]
    return {
        "execution": leg.execution.execution_id,
        "fence": leg.fence,
        "run": leg.run_id,
        "pending": list(pending),
        "status": status,
        "over": status in OVER,
        "result": Jsonb(result) if result is not None else None,
        "error": ending.error,
        "messages_read": ending.messages_read,
        "specialist": ending.specialist,
        **{name: ending.totals.get(name) for name in TOTALS},
        **story_of(story),
        **told_of(leg.execution.execution_id, facts_of(story)),
    }


async def _ask(
    db: psycopg.AsyncConnection[Any], execution: Execution, questions: Sequence[Mapping[str, Any]]
) -> list[NewEvent]:
    """Insert approvals; returns the events of those that are new."""
    if not questions:
        return []
    owner = {"execution_id": execution.execution_id, "tenant": execution.tenant}
    rows = [{**owner, **question} for question in questions]
    inserted = await db.execute(ASK, (Jsonb(plain(rows)),))
    told = [
        {"approval_id": str(approval_id), "description": description, "kind": kind}
        async for approval_id, description, kind in inserted
    ]
    return [NewEvent("approval.requested", row) for row in told]


class Legs:
    """Claims and ends legs. Safe to share; every method is one transaction.

    What every execution passes through is plain SQL on the pool, the rest SQLAlchemy: see docs/benchmarks.md.
    """

    def __init__(self, engine: AsyncEngine, pool: Pool, dispatcher: Dispatcher) -> None:
        self.engine = engine
        self.pool = pool
        self.dispatcher = dispatcher

    async def claim(self, execution_id: UUID, owner: str, lease: timedelta) -> Leg | None:
        """Take the lease and raise the fence, on the database's clock. None: over, waiting, or somebody else's."""
        claimant = {"execution": execution_id, "owner": owner, "lease": lease}
        async with self.pool.connection() as db:
            row = await (await db.execute(CLAIM, claimant)).fetchone()
        if row is None:
            return None
        return Leg(row["run_id"], row["kind"], row["attempt"], row["fence"], Execution.model_validate(row))

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
        async with self.engine.connect() as db:
            return await has_open_effects(db, execution_id)

    async def finish(self, leg: Leg, ending: Ending, pending: Collection[str]) -> Status:
        """End a leg: status, approvals, events, totals and lease in one fenced transaction.

        `pending`: interrupt ids still unanswered. Looks for what arrived meanwhile: a cancel that was accepted wins
        over every other end, a decision that no run has taken up makes the execution runnable again, with its wake-up,
        and so does a message that nobody has read, unless the case is with people by now.
        Returns the status it ended in. Raises LostLease, and then nothing was written.
        """
        await fault("before_finish")
        status = ending.status
        if status not in AT_ONCE or not await self._end_at_once(leg, ending):
            status = await self._look_and_end(leg, ending, pending)
        await fault("after_finish")
        return status

    async def _end_at_once(self, leg: Leg, ending: Ending) -> bool:
        """In one statement, as most legs end. False: the lease is lost, a message came, or something is asked."""
        async with self.pool.connection() as db:
            done = await db.execute(END, _end_of(leg, ending, ending.status, (), ()))
            return done.rowcount > 0

    async def _look_and_end(self, leg: Leg, ending: Ending, pending: Collection[str]) -> Status:
        """The same after a look at what arrived, with the row locked."""
        execution_id = leg.execution.execution_id
        async with self.engine.begin() as db:
            raw = await driver_of(db)
            looked = await raw.execute(LOOK, {"execution": execution_id, "fence": leg.fence, "pending": list(pending)})
            row = await looked.fetchone()
            if row is None:
                raise LostLease(f"execution {execution_id}: fence {leg.fence} is not its fence any more, or it rests")
            cancelled, decided, messages = row
            status, told = ending.status, []
            unread = ending.messages_read is not None and messages > ending.messages_read
            if cancelled:
                status = Status.CANCELLED
            if status is Status.WAITING:
                told += await _ask(raw, leg.execution, ending.questions)
                superseded = await supersede_calls(db, leg.execution, messages) if unread else []
                told += superseded
                if (decided or superseded) and ending.error is None:
                    status = Status.QUEUED
            if status is Status.SUCCEEDED and unread:
                status = Status.QUEUED
            if status is Status.QUEUED:
                await self.dispatcher.wake(raw, execution_id)
            if status in OVER:
                told += await drop_questions(db, execution_id, status)
            await raw.execute(END, _end_of(leg, ending, status, pending, told))
            if status in (Status.FAILED, Status.CANCELLED):
                why = f"the execution ended before this was known: {ending.error or status}"
                await leave_unknown(db, leg.execution.tenant, execution_id, why)
            await fault("inside_finish")
        return status

    async def release(self, leg: Leg, error: str | None, delay: timedelta, *, counted: bool = True) -> None:
        """Give a leg back to be tried again after `delay`. `counted`: whether this try counts as an attempt.

        Raises LostLease.
        """
        execution_id = leg.execution.execution_id
        async with self.engine.begin() as db:
            await hold_fence(db, execution_id, leg.fence)
            given = await db.execute(
                update(executions)
                .where(executions.c.execution_id == execution_id, executions.c.status == Status.RUNNING)
                .values(
                    status=Status.QUEUED,
                    lease_owner=None,
                    lease_until=None,
                    wake_at=func.now() + delay,
                    updated_at=func.now(),
                )
            )
            if given.rowcount == 0:
                raise LostLease(f"execution {execution_id} has come to rest already")
            await db.execute(
                update(runs)
                .where(runs.c.run_id == leg.run_id)
                .values(error=error, attempt=runs.c.attempt if counted else runs.c.attempt - 1)
            )
            given_back = NewEvent("run.released", {"run_id": str(leg.run_id), "error": error})
            await write_events(db, execution_id, [given_back])
            await self.dispatcher.wake(await driver_of(db), execution_id, delay)

    async def take_back(self, leg: Leg) -> Leg:
        """Raise the fence of a leg of one's own: what goes on of it, though it was stopped, can write nothing more.

        Raises LostLease.
        """
        async with self.engine.begin() as db:
            await hold_fence(db, leg.execution.execution_id, leg.fence)
            mine = (executions.c.execution_id == leg.execution.execution_id, executions.c.status == Status.RUNNING)
            raised = update(executions).where(*mine).values(fence=executions.c.fence + 1)
            fence = await db.scalar(raised.returning(executions.c.fence))
        if fence is None:
            raise LostLease(f"execution {leg.execution.execution_id} has come to rest already")
        return replace(leg, fence=fence)

    async def worked(self, execution_id: UUID) -> timedelta:
        """How long the execution has been at work since it was started or last reopened: all its runs, from the first
        try of each to its end, or to now."""
        reopened = select(func.max(runs.c.finished_at)).where(
            runs.c.execution_id == execution_id, runs.c.status.in_(OVER)
        )
        since = func.coalesce(reopened.scalar_subquery(), text("'-infinity'::timestamptz"))
        spans = func.coalesce(runs.c.finished_at, func.now()) - runs.c.started_at
        query = select(func.sum(spans)).where(runs.c.execution_id == execution_id, runs.c.started_at >= since)
        async with self.engine.connect() as db:
            return await db.scalar(query) or timedelta(0)

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
                await self.dispatcher.wake(await driver_of(db), execution_id)
        return execution_ids

    async def wake(self, execution_ids: Sequence[UUID]) -> None:
        """Queue a wake-up for each."""
        async with self.engine.begin() as db:
            for execution_id in execution_ids:
                await self.dispatcher.wake(await driver_of(db), execution_id)
