"""A few honest numbers about the cases of a tenant, straight from the rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework.approval import ApprovalState
from casework.execution import Outcome, Status
from casework.store import OUTCOMES
from casework.tables import approvals, executions

BY_PEOPLE = (
    ApprovalState.APPROVED,
    ApprovalState.REJECTED,
    ApprovalState.RESPONDED,
    ApprovalState.HAPPENED,
    ApprovalState.DID_NOT_HAPPEN,
    ApprovalState.STOPPED,
)
MOVING = (Status.QUEUED, Status.RUNNING, Status.WAITING)


@dataclass(frozen=True)
class Period:
    """What was started since a moment, and how it stands now."""

    since: datetime
    started: int
    going_on: int
    """Queued, running, or waiting for a person."""
    ended: Mapping[Outcome, int]
    median: timedelta | None
    """From start to end, of those that have succeeded; None without any."""
    cost_microusd: int
    """Of the models, for all that was started."""
    decided: int
    """Approvals that people decided since then."""
    median_decision: timedelta | None
    """From question to answer; None when nothing was decided."""


@dataclass(frozen=True)
class Now:
    """What stands and waits at this moment."""

    standing: Mapping[Status, int]
    """Executions that are not over, by status; and those with people."""
    questions: int
    """Open approvals."""
    oldest_question: datetime | None
    oldest_handed: datetime | None
    """When the oldest case that people have was started."""


class Numbers:
    """Counts. Safe to share."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def now(self, tenant: str) -> Now:
        standing = (
            select(executions.c.status, func.count(), func.min(executions.c.created_at))
            .where(executions.c.tenant == tenant, executions.c.source == "api")
            .where(executions.c.status.in_([*MOVING, Status.ESCALATED]))
            .group_by(executions.c.status)
        )
        asked = select(func.count(), func.min(approvals.c.created_at)).where(
            approvals.c.tenant == tenant, approvals.c.state == ApprovalState.PENDING
        )
        async with self.engine.connect() as db:
            rows = (await db.execute(standing)).all()
            questions, oldest = (await db.execute(asked)).one()
        handed = next((row[2] for row in rows if row[0] == Status.ESCALATED), None)
        return Now({Status(row[0]): row[1] for row in rows}, questions, oldest, handed)

    async def period(self, tenant: str, since: datetime) -> Period:
        async with self.engine.connect() as db:
            counted = await _counted(db, tenant, since)
            decided, seconds = await _decided(db, tenant, since)
        ended = {outcome: int(counted[outcome]) for outcome in Outcome}
        return Period(
            since=since,
            started=int(counted["started"]),
            going_on=int(counted["started"]) - sum(ended.values()),
            ended=ended,
            median=timedelta(seconds=counted["median_s"]) if counted["median_s"] is not None else None,
            cost_microusd=int(counted["cost"] or 0),
            decided=decided,
            median_decision=timedelta(seconds=seconds) if seconds is not None else None,
        )


async def _counted(db: AsyncConnection, tenant: str, since: datetime) -> Mapping[str, Any]:
    took = func.extract("epoch", executions.c.finished_at - executions.c.created_at)
    succeeded = case((executions.c.status == Status.SUCCEEDED, took))
    outcomes = [func.count().filter(*where).label(outcome) for outcome, where in OUTCOMES.items()]
    query = select(
        func.count().label("started"),
        func.percentile_cont(0.5).within_group(succeeded).label("median_s"),
        func.sum(executions.c.cost_microusd).label("cost"),
        *outcomes,
    ).where(executions.c.tenant == tenant, executions.c.source == "api", executions.c.created_at >= since)
    return dict((await db.execute(query)).mappings().one())


async def _decided(db: AsyncConnection, tenant: str, since: datetime) -> tuple[int, float | None]:
    took = func.extract("epoch", approvals.c.decided_at - approvals.c.created_at)
    query = select(func.count(), func.percentile_cont(0.5).within_group(took)).where(
        approvals.c.tenant == tenant,
        approvals.c.decided_at >= since,
        approvals.c.state.in_(BY_PEOPLE),
    )
    count, seconds = (await db.execute(query)).one()
    return count, seconds
