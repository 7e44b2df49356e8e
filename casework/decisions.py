"""What people decide about approvals: compare-and-set on the row first, then the execution is woken.

Votes, edits and second approvals happen here, before any run is resumed: one interrupt gets one final answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import jsonschema
from sqlalchemy import ColumnElement, Row, Select, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework import audit
from casework.actor import SYSTEM, Actor, Role
from casework.approval import (
    Answer,
    Approval,
    ApprovalState,
    Approve,
    Decision,
    DidNotHappen,
    Edit,
    Happened,
    Kind,
    Reject,
    Respond,
    Stop,
)
from casework.dispatch import Dispatcher
from casework.errors import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalSuperseded,
    DigestStale,
    InputInvalid,
    NotAllowed,
    NotFound,
)
from casework.execution import Status
from casework.faults import fault
from casework.journal import NewEvent, write_events
from casework.resources import driver_of
from casework.store import close
from casework.tables import approvals, executions, votes

LAPSED = "nobody decided before the deadline"
"""The reason that stands in the decision of an expired approval; its state says that it was no person's."""


SETTLED = {
    Reject: ApprovalState.REJECTED,
    Happened: ApprovalState.HAPPENED,
    DidNotHappen: ApprovalState.DID_NOT_HAPPEN,
    Stop: ApprovalState.STOPPED,
}
"""What the answers that need nothing more make of an approval."""


@dataclass(frozen=True)
class Revision:
    """Edited arguments, judged anew by the tool's own policies."""

    args: Mapping[str, Any]
    digest: str
    description: str
    reasons: list[str]
    votes: int
    """People still needed; 0 when the policies would let these arguments pass alone, so the edit itself decides."""


class Decisions:
    """Reads and decides approvals. Safe to share; every method is one transaction."""

    def __init__(self, engine: AsyncEngine, dispatcher: Dispatcher) -> None:
        self.engine = engine
        self.dispatcher = dispatcher

    async def get(self, tenant: str, approval_id: UUID) -> Approval:
        """Raises NotFound for an unknown id and for another tenant's alike."""
        found = await read_approval(self.engine, tenant, approval_id)
        if found is None:
            raise NotFound(f"there is no approval {approval_id}")
        return found

    async def page(
        self,
        tenant: str,
        *,
        limit: int,
        after: tuple[datetime, UUID] | None = None,
        state: ApprovalState | None = None,
        execution_id: UUID | None = None,
    ) -> list[Approval]:
        """Soonest deadline first. `after`: (expires_at, approval_id) of the last one of the previous page."""
        where: list[ColumnElement[bool]] = []
        if state is not None:
            where.append(approvals.c.state == state)
        if execution_id is not None:
            where.append(approvals.c.execution_id == execution_id)
        if after is not None:
            where.append(tuple_(approvals.c.expires_at, approvals.c.approval_id) > tuple_(*after))
        query = approvals_query(tenant, *where).order_by(approvals.c.expires_at, approvals.c.approval_id).limit(limit)
        async with self.engine.connect() as db:
            return [Approval.model_validate(row) for row in await db.execute(query)]

    async def decide(
        self, actor: Actor, approval_id: UUID, decision: Decision, revision: Revision | None = None
    ) -> Approval:
        """Record one person's answer. `revision` must come with an edit.

        The same answer by the same person again changes nothing and returns the approval.
        Raises NotFound, NotAllowed, DigestStale, InputInvalid, ApprovalDecided, ApprovalExpired, ApprovalSuperseded.
        """
        answer = decision.root
        async with self.engine.begin() as db:
            row = await _lock(db, actor.tenant, approval_id)
            expired = row.state == ApprovalState.PENDING and row.overdue
            if expired:
                await self._expire(db, row)
            elif row.state != ApprovalState.PENDING:
                _refuse_closed(row, actor, answer.model_dump(mode="json"))
            else:
                _check_rights(actor, row, answer)
                match answer:
                    case Approve():
                        await self._vote(db, row, actor)
                    case Edit():
                        await self._revise(db, row, actor, _need(revision))
                    case Respond():
                        _check_message(row, answer.message)
                        await self._settle(db, row, ApprovalState.RESPONDED, answer.model_dump(mode="json"), actor)
                    case _:
                        await self._settle(db, row, SETTLED[type(answer)], answer.model_dump(mode="json"), actor)
            await fault("inside_decision")
        await fault("after_decision")
        if expired:
            raise ApprovalExpired
        return await self.get(actor.tenant, approval_id)

    async def expire_due(self, limit: int = 500) -> int:
        """Close approvals whose deadline has passed; their cases go on to a person. Returns how many."""
        due = select(approvals.c.approval_id, executions.c.tenant).join_from(approvals, executions)
        due = due.where(approvals.c.state == ApprovalState.PENDING, approvals.c.expires_at < func.now()).limit(limit)
        async with self.engine.connect() as db:
            rows = (await db.execute(due)).all()
        closed = 0
        for found in rows:
            async with self.engine.begin() as db:
                row = await _lock(db, found.tenant, found.approval_id)
                if row.state == ApprovalState.PENDING and row.overdue:
                    await self._expire(db, row)
                    closed += 1
        return closed

    async def _expire(self, db: AsyncConnection, row: Row[Any]) -> None:
        """Never a yes: a tool's call is not made, an unknown one stays unknown, and the case goes to a person."""
        said = "stop" if row.kind == Kind.OUTCOME else "reject"
        decision = {"type": said, "digest": row.digest, "reason": LAPSED}
        if row.tool is None:  # only its own graph knows an answer to its question, so there is none to resume with
            await close(db, row.execution_id, Status.ESCALATED, {"error": LAPSED}, [])
        await self._settle(db, row, ApprovalState.EXPIRED, decision, SYSTEM)

    async def _vote(self, db: AsyncConnection, row: Row[Any], actor: Actor) -> None:
        vote = upsert(votes).values(approval_id=row.approval_id, actor_id=actor.actor_id, digest=row.digest)
        changed = await db.execute(
            vote.on_conflict_do_update(
                index_elements=["approval_id", "actor_id"],
                set_={"digest": row.digest, "at": func.now()},
                where=votes.c.digest != row.digest,
            )
        )
        if not changed.rowcount:
            return
        count = await db.scalar(
            select(func.count())
            .select_from(votes)
            .where(votes.c.approval_id == row.approval_id, votes.c.digest == row.digest)
        )
        decision = {"type": "approve", "digest": row.digest}
        if (count or 0) >= row.votes_needed:
            await self._settle(db, row, ApprovalState.APPROVED, decision, actor)
            return
        voted = {"approval_id": str(row.approval_id), "by": actor.actor_id, "votes": count, "needed": row.votes_needed}
        await write_events(db, row.execution_id, [NewEvent("approval.voted", voted)])
        await _audit(db, row, actor, "vote", row.digest)

    async def _revise(self, db: AsyncConnection, row: Row[Any], actor: Actor, new: Revision) -> None:
        await db.execute(
            update(approvals)
            .where(approvals.c.approval_id == row.approval_id)
            .values(
                args=dict(new.args),
                digest=new.digest,
                description=new.description,
                reasons=new.reasons,
                votes_needed=max(new.votes, 1),
                edited_by=actor.actor_id,
            )
        )
        edited = {"approval_id": str(row.approval_id), "by": actor.actor_id, "from": row.args, "to": dict(new.args)}
        await write_events(db, row.execution_id, [NewEvent("approval.edited", edited)])
        await _audit(db, row, actor, "edit", new.digest)
        if new.votes == 0:
            decision = {"type": "approve", "digest": new.digest}
            await self._settle(db, row, ApprovalState.APPROVED, decision, actor)

    async def _settle(
        self, db: AsyncConnection, row: Row[Any], state: ApprovalState, decision: Mapping[str, Any], actor: Actor
    ) -> None:
        """The final answer: write it, tell the story, and wake the execution if it waits."""
        await db.execute(
            update(approvals)
            .where(approvals.c.approval_id == row.approval_id)
            .values(state=state, decision=dict(decision), decided_by=actor.actor_id, decided_at=func.now())
        )
        story = {"approval_id": str(row.approval_id), "tool": row.tool, "state": state, "by": actor.actor_id}
        await write_events(db, row.execution_id, [NewEvent("approval.decided", story)])
        woken = await db.scalar(
            update(executions)
            .where(
                executions.c.execution_id == row.execution_id,
                executions.c.status == Status.WAITING,
                executions.c.source == "api",
            )
            .values(status=Status.QUEUED, wake_at=func.now(), updated_at=func.now())
            .returning(executions.c.execution_id)
        )
        if woken is not None:
            await self.dispatcher.wake(await driver_of(db), row.execution_id)
        named = {"reference": str(decision["reference"])} if "reference" in decision else {}
        await _audit(db, row, actor, state, str(decision.get("digest", row.digest)), **named)


def barred(actor: Actor, role: Role, requester: str) -> str | None:
    """Why this actor may not decide an approval that needs `role`; None when they may."""
    if actor.has(Role.SERVICE):
        return "a service key never decides an approval"
    if not actor.has(role):
        return f"deciding this needs the role {role}"
    if actor.actor_id == requester:
        return "whoever started an execution may not decide its approvals"
    return None


async def read_approval(engine: AsyncEngine, tenant: str, approval_id: UUID) -> Approval | None:
    """The approval as it stands; None when there is no such one in the tenant."""
    async with engine.connect() as db:
        row = (await db.execute(approvals_query(tenant, approvals.c.approval_id == approval_id))).one_or_none()
    return Approval.model_validate(row) if row is not None else None


def approvals_query(tenant: str, *where: ColumnElement[bool]) -> Select[Any]:
    """Approvals of a tenant, each with its execution and who voted on its present digest."""
    voters = (
        select(func.coalesce(func.jsonb_agg(votes.c.actor_id), func.jsonb_build_array()))
        .where(votes.c.approval_id == approvals.c.approval_id, votes.c.digest == approvals.c.digest)
        .scalar_subquery()
        .label("votes")
    )
    return (
        select(approvals, executions.c.workflow, executions.c.tenant, executions.c.requester, voters)
        .join_from(approvals, executions)
        .where(executions.c.tenant == tenant, *where)
    )


async def _lock(db: AsyncConnection, tenant: str, approval_id: UUID) -> Row[Any]:
    """Lock the execution's row, then the approval's, and read both. Raises NotFound."""
    owner = select(executions.c.execution_id).join_from(approvals, executions)
    owner = owner.where(approvals.c.approval_id == approval_id, executions.c.tenant == tenant)
    if await db.scalar(owner.with_for_update(of=executions, key_share=True)) is None:
        raise NotFound(f"there is no approval {approval_id}")
    query = select(
        approvals,
        (approvals.c.expires_at < func.now()).label("overdue"),
        executions.c.tenant,
        executions.c.requester,
    ).join_from(approvals, executions)
    locked = query.where(approvals.c.approval_id == approval_id).with_for_update(of=approvals)
    return (await db.execute(locked)).one()


def _refuse_closed(row: Row[Any], actor: Actor, answer: Mapping[str, Any]) -> None:
    """Raise what fits the closed state, unless it is the same answer by the same person again."""
    if row.decided_by == actor.actor_id and row.decision == dict(answer):
        return
    if row.state == ApprovalState.EXPIRED:
        raise ApprovalExpired
    if row.state == ApprovalState.SUPERSEDED:
        raise ApprovalSuperseded
    raise ApprovalDecided(f"already decided: {row.state} by {row.decided_by}")


def _check_rights(actor: Actor, row: Row[Any], answer: Answer) -> None:
    bar = barred(actor, Role(row.role), row.requester)
    if bar is not None:
        raise NotAllowed(bar)
    if answer.type not in row.allowed:
        raise InputInvalid(f"this approval takes {', '.join(row.allowed)}, not {answer.type}", field="type")
    if answer.digest != row.digest:
        raise DigestStale
    if isinstance(answer, Approve) and actor.actor_id == row.edited_by:
        raise NotAllowed("whoever edited the arguments may not be the one to approve them")


def _check_message(row: Row[Any], message: Any) -> None:
    """A foreign graph's question takes what its schema says; a tool's takes text."""
    schema = row.response_schema or ({"type": "string", "minLength": 1} if row.tool is not None else {})
    try:
        jsonschema.validate(message, schema)
    except jsonschema.ValidationError as error:
        raise InputInvalid(error.message, field=".".join(["message", *map(str, error.absolute_path)])) from error


def _need(revision: Revision | None) -> Revision:
    if revision is None:
        raise InputInvalid("an edit must be judged before it is recorded", field="args")
    return revision


async def _audit(db: AsyncConnection, row: Row[Any], actor: Actor, what: str, digest: str, **more: str) -> None:
    await audit.append(
        db,
        row.tenant,
        act=f"approval.{what}",
        by=actor.actor_id,
        approval=str(row.approval_id),
        execution=str(row.execution_id),
        tool=row.tool,
        kind=row.kind,
        digest=digest,
        **more,
    )
