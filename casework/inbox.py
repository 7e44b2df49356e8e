"""What waits for one person: open questions they may answer, filtered, counted, and what people decided before."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Numeric, Row, Text, and_, case, cast, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncEngine

from casework.actor import Actor, Role
from casework.approval import Approval, ApprovalState
from casework.decisions import approvals_query
from casework.execution import Execution, Status
from casework.store import customer_column
from casework.tables import approvals, effects, executions, votes

COUNTED = 99
"""Waiting questions are counted up to here; more are told as `99+`."""
NEAR = 0.25
"""How far an amount may be from another to count as near, as a share of it."""
LOOKED_AT = 300
"""Past decisions about a tool that similar ones are looked for among, the newest."""
DECIDED = (ApprovalState.APPROVED, ApprovalState.REJECTED, ApprovalState.RESPONDED)

AMOUNT = case(
    (
        func.jsonb_typeof(approvals.c.args["amount_minor"]) == "number",
        cast(approvals.c.args["amount_minor"].astext, Numeric),
    )
)
"""The money of a call, in minor units, by the name that all money goes by; NULL without."""


@dataclass(frozen=True)
class Wanted:
    """Which open questions are asked for."""

    workflow: str | None = None
    tool: str | None = None
    at_least_minor: int | None = None
    at_most_minor: int | None = None
    text: str | None = None
    """Stands somewhere in what is asked, in the case's ids, or in its requester's name."""
    mine: bool | None = None
    """True: only what the actor may decide; False: only what waits for others; None: all."""


@dataclass(frozen=True)
class Waiting:
    """How much waits for one person."""

    decisions: int
    """Questions they may answer, counted up to COUNTED + 1."""
    cases: int
    """Handed cases that they own."""
    unowned: int
    """Handed cases that nobody owns."""
    mark: str
    """Changes when any of it does."""


@dataclass(frozen=True)
class Past:
    """How people decided about a similar call."""

    execution_id: Any
    description: str
    state: ApprovalState
    decided_by: str
    decided_at: Any
    edited: bool


@dataclass(frozen=True)
class Similar:
    """Past decisions about the same tool and, when it moves money, a near amount."""

    approved: int
    rejected: int
    edited: int
    newest: list[Past]


@dataclass(frozen=True)
class Done:
    """Something that was done for a customer before."""

    execution_id: Any
    tool: str
    args: dict[str, Any]
    at: Any


@dataclass(frozen=True)
class History:
    """What is known of a customer from our own records."""

    customer: str
    cases: list[Execution]
    """The newest other cases."""
    done: list[Done]
    """The newest effects of their cases, but for the present one."""


class Inbox:
    """Reads what people need to decide. Safe to share."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def page(self, actor: Actor, wanted: Wanted, limit: int) -> list[Approval]:
        """Open questions, soonest deadline first."""
        query = approvals_query(actor.tenant, approvals.c.state == ApprovalState.PENDING, *_where(actor, wanted))
        query = query.order_by(approvals.c.expires_at, approvals.c.approval_id).limit(limit)
        async with self.engine.connect() as db:
            return [Approval.model_validate(row) for row in await db.execute(query)]

    async def tools(self, tenant: str) -> list[str]:
        """Tools that are asked about just now."""
        query = select(approvals.c.tool).distinct().join_from(approvals, executions)
        query = query.where(
            approvals.c.tenant == tenant, approvals.c.state == ApprovalState.PENDING, approvals.c.tool.is_not(None)
        )
        async with self.engine.connect() as db:
            return sorted((await db.scalars(query)).all())

    async def waiting(self, actor: Actor) -> Waiting:
        """How much waits for the actor, and a mark of it."""
        open_ = (
            select(approvals.c.approval_id, approvals.c.digest, _voters().label("voters"), _mine(actor).label("mine"))
            .join_from(approvals, executions)
            .where(approvals.c.tenant == actor.tenant, approvals.c.state == ApprovalState.PENDING)
            .order_by(approvals.c.expires_at, approvals.c.approval_id)
            .limit(4 * COUNTED)
        )
        handed = select(executions.c.execution_id, executions.c.owner).where(
            executions.c.tenant == actor.tenant,
            executions.c.source == "api",
            executions.c.status == Status.ESCALATED,
        )
        async with self.engine.connect() as db:
            asked = (await db.execute(open_)).all()
            held = (await db.execute(handed.order_by(executions.c.created_at).limit(4 * COUNTED))).all()
        seen = repr([tuple(row) for row in (*asked, *held)])
        return Waiting(
            decisions=min(sum(row.mine for row in asked), COUNTED + 1),
            cases=min(sum(row.owner == actor.actor_id for row in held), COUNTED + 1),
            unowned=min(sum(row.owner is None for row in held), COUNTED + 1),
            mark=hashlib.sha256(seen.encode()).hexdigest()[:16],
        )

    async def similar(self, approval: Approval, shown: int = 3) -> Similar:
        """What people decided about the same tool before: near amounts only, when it moves money."""
        amount = approval.args.get("amount_minor")
        decided = (
            select(approvals, AMOUNT.label("amount"))
            .where(
                approvals.c.tenant == approval.tenant,
                approvals.c.tool == approval.tool,
                approvals.c.decided_at.is_not(None),
                approvals.c.state.in_(DECIDED),
                approvals.c.approval_id != approval.approval_id,
            )
            .order_by(approvals.c.decided_at.desc())
            .limit(LOOKED_AT)
            .subquery()
        )
        query = select(decided)
        if isinstance(amount, int) and not isinstance(amount, bool):
            query = query.where(decided.c.amount.between(amount * (1 - NEAR), amount * (1 + NEAR)))
        async with self.engine.connect() as db:
            rows = (await db.execute(query.order_by(decided.c.decided_at.desc()))).all()
        return Similar(
            approved=sum(row.state == ApprovalState.APPROVED for row in rows),
            rejected=sum(row.state != ApprovalState.APPROVED for row in rows),
            edited=sum(row.edited_by is not None for row in rows),
            newest=[_past(row) for row in rows[:shown]],
        )

    async def history(self, execution: Execution, shown: int = 5) -> History | None:
        """Other cases of the same customer and what was done in them; None when the case names no customer."""
        customer = (execution.input.get("case") or {}).get("customer_id")
        if not isinstance(customer, str):
            return None
        theirs = and_(
            executions.c.tenant == execution.tenant,
            customer_column == customer,
            executions.c.execution_id != execution.execution_id,
        )
        cases = select(executions).where(theirs).order_by(executions.c.created_at.desc()).limit(shown)
        done = (
            select(effects.c.execution_id, effects.c.tool, effects.c.args, effects.c.finished_at)
            .join_from(effects, executions)
            .where(theirs, effects.c.state == "done")
            .order_by(effects.c.finished_at.desc())
            .limit(shown)
        )
        async with self.engine.connect() as db:
            found = [Execution.model_validate(row) for row in await db.execute(cases)]
            acts = [Done(*row) for row in (await db.execute(done)).all()]
        return History(customer, found, acts)


def _where(actor: Actor, wanted: Wanted) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if wanted.workflow is not None:
        where.append(executions.c.workflow == wanted.workflow)
    if wanted.tool is not None:
        where.append(approvals.c.tool == wanted.tool)
    if wanted.at_least_minor is not None:
        where.append(wanted.at_least_minor <= AMOUNT)
    if wanted.at_most_minor is not None:
        where.append(wanted.at_most_minor >= AMOUNT)
    if wanted.text is not None:
        places = (
            approvals.c.description,
            executions.c.requester,
            executions.c.input["goal"].astext,
            executions.c.input["case"].astext,
        )
        where.append(or_(*(place.icontains(wanted.text, autoescape=True) for place in places)))
    if wanted.mine is not None:
        where.append(_mine(actor) if wanted.mine else ~_mine(actor))
    return where


def _mine(actor: Actor) -> ColumnElement[bool]:
    """As `casework.rights` has it, for the database: what the actor may say yes to, and has not yet."""
    if actor.has(Role.SERVICE):
        return literal(False)
    # Counted, not asked for existence: the planner would read all votes for that, whoever's.
    voted: ColumnElement[int] = (
        select(func.count())
        .select_from(votes)
        .where(
            votes.c.approval_id == approvals.c.approval_id,
            votes.c.digest == approvals.c.digest,
            votes.c.actor_id == actor.actor_id,
        )
        .correlate(approvals)
        .scalar_subquery()
    )
    stake = func.jsonb_each_text(approvals.c.money).table_valued("key", "value")
    limit = literal(dict(actor.limits), JSONB)[stake.c.key].astext
    beyond = (
        select(literal(1))
        .select_from(stake)
        .where(cast(stake.c.value, BigInteger) > func.coalesce(cast(limit, BigInteger), -1))
        .correlate(approvals)
        .exists()
    )
    return and_(
        approvals.c.roles.contained_by(cast(sorted(actor.roles), ARRAY(Text))),
        executions.c.requester != actor.actor_id,
        approvals.c.edited_by.is_distinct_from(actor.actor_id),
        ~beyond,
        voted.bool_op("=")(0),
    )


def _voters() -> ColumnElement[int]:
    return (
        select(func.count())
        .select_from(votes)
        .where(votes.c.approval_id == approvals.c.approval_id, votes.c.digest == approvals.c.digest)
        .scalar_subquery()
    )


def _past(row: Row[Any]) -> Past:
    return Past(
        execution_id=row.execution_id,
        description=row.description,
        state=ApprovalState(row.state),
        decided_by=row.decided_by,
        decided_at=row.decided_at,
        edited=row.edited_by is not None,
    )
