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
from psycopg.rows import namedtuple_row
from psycopg.types.json import Jsonb
from sqlalchemy import ColumnElement, Select, delete, func, select, tuple_, update
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
from casework.journal import NOTICE, STORY, NewEvent, facts_of, story_of, write_events
from casework.outbox import TOLD, told_of
from casework.people import present_rights, rights_of
from casework.resources import driver_of
from casework.rights import barred, barred_from_yes, beyond, good_for
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
    roles: list[Role]
    money: Mapping[str, int]
    """What whoever agrees to these arguments must hold, and be good for."""


LOCK = """SELECT 1 FROM casework.executions e JOIN casework.approvals a USING (execution_id)
WHERE a.approval_id = %s AND e.tenant = %s FOR NO KEY UPDATE OF e"""
READ = """SELECT a.*, a.expires_at < now() AS overdue, e.requester, e.status
FROM casework.approvals a JOIN casework.executions e USING (execution_id) WHERE a.approval_id = %s FOR UPDATE OF a"""
VOTE = """INSERT INTO casework.votes AS vote (approval_id, actor_id, digest)
VALUES (%(approval)s, %(actor)s, %(digest)s)
ON CONFLICT (approval_id, actor_id) DO UPDATE SET digest = EXCLUDED.digest, at = now()
WHERE vote.digest <> EXCLUDED.digest"""
SETTLE = f"""WITH settled AS (
    UPDATE casework.approvals
    SET state = %(state)s, decision = %(decision)s, decided_by = %(by)s, decided_at = now(),
        good_for = %(agreed)s
    WHERE approval_id = %(approval)s),
counted AS (
    UPDATE casework.executions SET event_seq = event_seq + %(event_count)s, updated_at = clock_timestamp(),
        wake_at = CASE WHEN status = 'waiting' AND source = 'api' THEN now() ELSE wake_at END,
        status = CASE WHEN status = 'waiting' AND source = 'api' THEN 'queued' ELSE status END
    WHERE execution_id = %(execution)s
    RETURNING execution_id, event_seq, status, tenant, workflow, source, {NOTICE}), {STORY}, {TOLD}
SELECT status FROM counted"""
"""Plain SQL for what every decision does: see docs/benchmarks.md."""


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
                present = await present_rights(db, actor)  # a right taken away a moment ago counts
                _check_rights(present, row, answer)
                match answer:
                    case Approve():
                        await self._vote(db, row, present)
                    case Edit():
                        await self._revise(db, row, present, _need(revision))
                    case Respond():
                        _check_message(row, answer.message)
                        await self._settle(db, row, ApprovalState.RESPONDED, answer.model_dump(mode="json"), actor)
                    case _:
                        agreed = good_for([present]) if isinstance(answer, Happened | DidNotHappen) else None
                        said = answer.model_dump(mode="json")
                        await self._settle(db, row, SETTLED[type(answer)], said, actor, agreed)
            await fault("inside_decision")
        await fault("after_decision")
        if expired:
            raise ApprovalExpired
        return await self.get(actor.tenant, approval_id)

    async def expire_due(self, limit: int = 500) -> int:
        """Close approvals whose deadline has passed; their cases go on to a person. Returns how many."""
        due = select(approvals.c.approval_id, executions.c.tenant).join_from(approvals, executions)
        due = due.where(approvals.c.state == ApprovalState.PENDING, approvals.c.expires_at < func.now())
        due = due.order_by(approvals.c.expires_at).limit(limit)
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

    async def _expire(self, db: AsyncConnection, row: Any) -> None:
        """Never a yes: a tool's call is not made, an unknown one stays unknown, and the case goes to a person."""
        said = "stop" if row.kind == Kind.OUTCOME else "reject"
        decision = {"type": said, "digest": row.digest, "reason": LAPSED}
        await self._settle(db, row, ApprovalState.EXPIRED, decision, SYSTEM)
        if row.tool is None:  # only its own graph knows an answer to its question, so there is none to resume with
            escalated = NewEvent("execution.escalated", {"reason": LAPSED})
            # Whoever runs it meanwhile has lost it, and cannot write over how it ended.
            ended = {"error": LAPSED, "fence": executions.c.fence + 1}
            await close(db, row.execution_id, Status.ESCALATED, ended, [escalated])

    async def _vote(self, db: AsyncConnection, row: Any, actor: Actor) -> None:
        driver = await driver_of(db)
        vote = {"approval": row.approval_id, "actor": actor.actor_id, "digest": row.digest}
        if not (await driver.execute(VOTE, vote)).rowcount:
            return
        behind = [actor] if row.votes_needed == 1 else await _voters(db, row)
        count = len(behind)
        decision = {"type": "approve", "digest": row.digest}
        if count >= row.votes_needed:
            await self._settle(db, row, ApprovalState.APPROVED, decision, actor, good_for(behind))
            return
        voted = {"approval_id": str(row.approval_id), "by": actor.actor_id, "votes": count, "needed": row.votes_needed}
        await write_events(db, row.execution_id, [NewEvent("approval.voted", voted)])
        await _audit(db, row, actor, "vote", row.digest)

    async def _revise(self, db: AsyncConnection, row: Any, actor: Actor, new: Revision) -> None:
        too_dear = beyond(actor, new.money) if new.votes == 0 else None
        if too_dear is not None:  # nobody else would be asked
            raise NotAllowed(too_dear)
        await db.execute(
            update(approvals)
            .where(approvals.c.approval_id == row.approval_id)
            .values(
                args=dict(new.args),
                digest=new.digest,
                description=new.description,
                reasons=new.reasons,
                roles=new.roles,
                votes_needed=max(new.votes, 1),
                money=dict(new.money),
                edited_by=actor.actor_id,
            )
        )
        # A vote of the editor's own, on the same arguments at an earlier time, would count as another person's.
        theirs = (votes.c.approval_id == row.approval_id) & (votes.c.actor_id == actor.actor_id)
        await db.execute(delete(votes).where(theirs))
        edited = {"approval_id": str(row.approval_id), "by": actor.actor_id, "from": row.args, "to": dict(new.args)}
        await write_events(db, row.execution_id, [NewEvent("approval.edited", edited)])
        await _audit(db, row, actor, "edit", new.digest)
        if new.votes == 0:
            decision = {"type": "approve", "digest": new.digest}
            await self._settle(db, row, ApprovalState.APPROVED, decision, actor, good_for([actor]))

    async def _settle(
        self,
        db: AsyncConnection,
        row: Any,
        state: ApprovalState,
        decision: Mapping[str, Any],
        actor: Actor,
        agreed: Mapping[str, int] | None = None,
    ) -> None:
        """The final answer: write it, tell the story, and wake the execution if it waits.

        `agreed`: how much each of those who agreed may let go; None when nobody did.
        """
        driver = await driver_of(db)
        story = {"approval_id": str(row.approval_id), "tool": row.tool, "state": state, "by": actor.actor_id}
        decided = NewEvent("approval.decided", story)
        settled = {
            "execution": row.execution_id,
            "approval": row.approval_id,
            "state": state,
            "decision": Jsonb(decision),
            "by": actor.actor_id,
            "agreed": Jsonb(agreed) if agreed is not None else None,
            **story_of([decided]),
            **told_of(row.execution_id, facts_of([decided])),
        }
        (status,) = await (await driver.execute(SETTLE, settled)).fetchone() or (None,)
        if row.status == Status.WAITING and status == Status.QUEUED:
            await self.dispatcher.wake(driver, row.execution_id)
        named = {"reference": str(decision["reference"])} if "reference" in decision else {}
        await _audit(db, row, actor, state, str(decision.get("digest", row.digest)), **named)


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
        select(approvals, executions.c.workflow, executions.c.requester, voters)
        .join_from(approvals, executions)
        .where(approvals.c.tenant == tenant, *where)
    )


async def _lock(db: AsyncConnection, tenant: str, approval_id: UUID) -> Any:
    """Lock the execution's row, then the approval's, and read both. Raises NotFound."""
    driver = await driver_of(db)
    if not (await driver.execute(LOCK, (approval_id, tenant))).rowcount:
        raise NotFound(f"there is no approval {approval_id}")
    read = await driver.cursor(row_factory=namedtuple_row).execute(READ, (approval_id,))
    return await read.fetchone()


def _refuse_closed(row: Any, actor: Actor, answer: Mapping[str, Any]) -> None:
    """Raise what fits the closed state, unless it is the same answer by the same person again."""
    if row.decided_by == actor.actor_id and row.decision == dict(answer):
        return
    if row.state == ApprovalState.EXPIRED:
        raise ApprovalExpired
    if row.state == ApprovalState.SUPERSEDED:
        raise ApprovalSuperseded
    raise ApprovalDecided(f"already decided: {row.state} by {row.decided_by}")


async def _voters(db: AsyncConnection, row: Any) -> list[Actor]:
    """Who stands behind the present digest. Whoever lost the right since they voted does not any more."""
    cast = select(votes.c.actor_id).where(votes.c.approval_id == row.approval_id, votes.c.digest == row.digest)
    voters = set((await db.scalars(cast)).all())
    rights = await rights_of(db, row.tenant, voters)
    void = {name for name in voters if name not in rights or barred_from_yes(rights[name], row) is not None}
    if void:
        await db.execute(delete(votes).where(votes.c.approval_id == row.approval_id, votes.c.actor_id.in_(void)))
        story = [{"approval_id": str(row.approval_id), "by": name} for name in sorted(void)]
        await write_events(db, row.execution_id, [NewEvent("approval.vote_voided", line) for line in story])
    return [rights[name] for name in voters - void]


def _check_rights(actor: Actor, row: Any, answer: Answer) -> None:
    bar = barred(actor, row)
    if bar is not None:
        raise NotAllowed(bar)
    if answer.type not in row.allowed:
        raise InputInvalid(f"this approval takes {', '.join(row.allowed)}, not {answer.type}", field="type")
    if answer.digest != row.digest:
        raise DigestStale
    no = barred_from_yes(actor, row) if isinstance(answer, Approve | Happened | DidNotHappen) else None
    if no is not None:
        raise NotAllowed(no)


def _check_message(row: Any, message: Any) -> None:
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


async def _audit(db: AsyncConnection, row: Any, actor: Actor, what: str, digest: str, **more: str) -> None:
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
