"""Cases that people have: taken over, owned, solved by hand, or handed back to the agents with an instruction.

Whoever escalates hands a case to people; from there on no agent acts on it until a person hands it back. Every step is
an event and an audit line in the transaction of the fact.

Lock order, always: execution row, approval row, audit head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, exists, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework import audit
from casework.actor import Actor
from casework.approval import ApprovalState, Kind, digest_of
from casework.dispatch import Dispatcher
from casework.errors import CallUnderWay, ExecutionOver, InputInvalid, NotWithPeople, OwnedByAnother
from casework.execution import OVER, Execution, Status
from casework.journal import NewEvent, write_events
from casework.messages import MessageKind, insert_message, supersede_calls
from casework.resources import driver_of
from casework.store import close, lock_row, read_execution
from casework.tables import approvals, effects, events, executions

TAKEN_OVER = "a person took the case over"
"""Why what the agents still wanted is not done any more."""
ENDED_CALLS = ("call.succeeded", "call.failed", "call.denied", "call.answered")


class Owned(StrEnum):
    """Whose handed cases are listed."""

    MINE = "mine"
    NOBODYS = "nobodys"


class Handing:
    """What people do with cases they have. Safe to share; every method is one transaction."""

    def __init__(self, engine: AsyncEngine, dispatcher: Dispatcher) -> None:
        self.engine = engine
        self.dispatcher = dispatcher

    async def page(
        self,
        actor: Actor,
        *,
        limit: int,
        after: tuple[datetime, UUID] | None = None,
        owned: Owned | None = None,
    ) -> list[Execution]:
        """Cases with people, the oldest first. `after`: (created_at, execution_id) of the last one before."""
        query = select(executions).where(*_with_people(actor, owned))
        if after is not None:
            query = query.where(tuple_(executions.c.created_at, executions.c.execution_id) > tuple_(*after))
        query = query.order_by(executions.c.created_at, executions.c.execution_id).limit(limit)
        async with self.engine.connect() as db:
            return [Execution.model_validate(row) for row in await db.execute(query)]

    async def take_over(self, actor: Actor, execution_id: UUID, reason: str) -> Execution:
        """Take a case from its agents: nothing they still wanted is done, and the actor has it.

        A run in mid-step loses its lease and writes nothing more. Calls that were judged and not begun are closed in
        the ledger, so that they are not made when the case goes on one day.
        Raises NotFound, ExecutionOver, InputInvalid (people have it already), CallUnderWay.
        """
        async with self.engine.begin() as db:
            row = await lock_row(db, actor.tenant, execution_id)
            _refuse_taking(row)
            await _refuse_in_doubt(db, execution_id)
            superseded = await self._withdraw(db, row)
            if row.status == Status.RUNNING:  # a higher fence lets whoever runs it write nothing more
                await _set(db, execution_id, fence=executions.c.fence + 1)
            outcome = {"status": Status.ESCALATED, "reason": f"{actor.actor_id} took it over: {reason}", "summary": ""}
            taken = NewEvent("case.taken_over", {"by": actor.actor_id, "reason": reason})
            values = {"owner": actor.actor_id, "result": {"outcome": outcome}, "solved_by": None, "error": None}
            await close(db, execution_id, Status.ESCALATED, values, [*superseded, taken])
            await _audit(db, actor, "case.take_over", execution_id, reason=reason)
        return await read_execution(self.engine, actor.tenant, execution_id)

    async def assign(self, actor: Actor, execution_id: UUID) -> Execution:
        """Make the actor the owner of a case that people have. Whoever had it before is named in the event.

        Raises NotFound, NotWithPeople.
        """
        async with self.engine.begin() as db:
            row = await _held_row(db, actor, execution_id)
            if row.owner != actor.actor_id:
                await _set(db, execution_id, owner=actor.actor_id)
                told = {"to": actor.actor_id, "from": row.owner}
                await write_events(db, execution_id, [NewEvent("case.assigned", told)])
                await _audit(db, actor, "case.assign", execution_id, before=row.owner)
        return await read_execution(self.engine, actor.tenant, execution_id)

    async def solve(self, actor: Actor, execution_id: UUID, note: str) -> Execution:
        """End a case as solved by hand. `note`: how. Raises NotFound, NotWithPeople, OwnedByAnother."""
        async with self.engine.begin() as db:
            row = await _held_row(db, actor, execution_id)
            _refuse_anothers(row, actor)
            outcome = {"status": Status.SUCCEEDED, "reason": "", "summary": note, "by": actor.actor_id}
            result = {**(row.result or {}), "outcome": outcome, "answer": note}
            values = {"result": result, "owner": actor.actor_id, "solved_by": actor.actor_id}
            solved = NewEvent("case.solved", {"by": actor.actor_id, "note": note})
            await close(db, execution_id, Status.SUCCEEDED, values, [solved])
            await _audit(db, actor, "case.solve", execution_id, note=note)
        return await read_execution(self.engine, actor.tenant, execution_id)

    async def hand_back(self, actor: Actor, execution_id: UUID, instruction: str) -> Execution:
        """Have the agents go on, by a person's instruction; a new run starts. The owner stays written down:
        when the agents hand the case over again, it comes back to them.

        Raises NotFound, NotWithPeople, OwnedByAnother.
        """
        async with self.engine.begin() as db:
            row = await _held_row(db, actor, execution_id)
            _refuse_anothers(row, actor)
            message = await insert_message(db, row, actor, instruction, None, MessageKind.INSTRUCTION)
            again = {"status": Status.QUEUED, "wake_at": func.now(), "result": None, "finished_at": None}
            await _set(db, execution_id, **again, messages=message.number, owner=actor.actor_id)
            told = {"by": actor.actor_id, "instruction": instruction, "message": message.number}
            await write_events(db, execution_id, [NewEvent("case.handed_back", told)])
            await self.dispatcher.wake(await driver_of(db), execution_id)
            await _audit(db, actor, "case.hand_back", execution_id, instruction=instruction, message=message.number)
        return await read_execution(self.engine, actor.tenant, execution_id)

    async def _withdraw(self, db: AsyncConnection, row: Row[Any]) -> Sequence[NewEvent]:
        """Void what the agents were asked, granted or allowed, and had not begun."""
        await db.execute(
            update(approvals)
            .where(
                approvals.c.execution_id == row.execution_id,
                approvals.c.state == ApprovalState.APPROVED,
                approvals.c.applied_at.is_(None),
                ~exists().where(effects.c.key == func.concat(row.execution_id, ":", approvals.c.tool_call_id)),
            )
            .values(state=ApprovalState.PENDING)  # so that the next statement closes it like one nobody had decided
        )
        superseded = await supersede_calls(db, row, row.messages, TAKEN_OVER)
        for call in await _open_calls(db, row.execution_id):
            await db.execute(insert(effects).values(**_voided(row, call)))
        return superseded


def _with_people(actor: Actor, owned: Owned | None) -> list[ColumnElement[bool]]:
    where = [
        executions.c.tenant == actor.tenant,
        executions.c.source == "api",
        executions.c.status == Status.ESCALATED,
    ]
    if owned is Owned.MINE:
        where.append(executions.c.owner == actor.actor_id)
    elif owned is Owned.NOBODYS:
        where.append(executions.c.owner.is_(None))
    return where


async def _held_row(db: AsyncConnection, actor: Actor, execution_id: UUID) -> Row[Any]:
    """The locked row of a case that people have. Raises NotFound, NotWithPeople."""
    row: Row[Any] = await lock_row(db, actor.tenant, execution_id)
    if row.status != Status.ESCALATED or row.source != "api":
        raise NotWithPeople(f"execution {execution_id} is {row.status}: people do not have it")
    return row


def _refuse_taking(row: Row[Any]) -> None:
    if row.source != "api":
        raise InputInvalid("this execution is driven by the Studio: stop it there")
    if row.status == Status.ESCALATED:
        raise InputInvalid("people have this case already: assign it to yourself")
    if row.status in OVER or row.cancel_requested:
        raise ExecutionOver(f"execution {row.execution_id} has already ended, or is being cancelled: {row.status}")


def _refuse_anothers(row: Row[Any], actor: Actor) -> None:
    if row.owner not in (None, actor.actor_id):
        raise OwnedByAnother(f"{row.owner} has this case: assign it to yourself first, and tell them")


async def _refuse_in_doubt(db: AsyncConnection, execution_id: UUID) -> None:
    """Money may have moved: what was sent must be known, or asked about, before a case changes hands."""
    begun = exists().where(effects.c.execution_id == execution_id, effects.c.state == "started")
    asked = exists().where(
        approvals.c.execution_id == execution_id,
        approvals.c.kind == Kind.OUTCOME,
        approvals.c.applied_at.is_(None),
        approvals.c.state != ApprovalState.SUPERSEDED,
    )
    if await db.scalar(select(begun | asked)):
        raise CallUnderWay


async def _open_calls(db: AsyncConnection, execution_id: UUID) -> list[Mapping[str, Any]]:
    """Calls that may be made without asking, and were not begun: id, tool and arguments, as they were judged."""
    ended = (
        select(events.c.data["call_id"].astext)
        .where(events.c.execution_id == execution_id, events.c.type.in_(ENDED_CALLS))
        .scalar_subquery()
    )
    begun = select(effects.c.key).where(effects.c.execution_id == execution_id).scalar_subquery()
    call_id = events.c.data["call_id"].astext
    found = await db.scalars(
        select(events.c.data).where(
            events.c.execution_id == execution_id,
            events.c.type == "call.checked",
            events.c.data["verdict"].astext == "allow",
            call_id.not_in(ended),
            func.concat(execution_id, ":", call_id).not_in(begun),
        )
    )
    return list({call["call_id"]: call for call in found}.values())


def _voided(row: Row[Any], call: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the ledger that says: not made, for good."""
    return {
        "key": f"{row.execution_id}:{call['call_id']}",
        "execution_id": row.execution_id,
        "tool": call["tool"],
        "args": call["args"],
        "digest": digest_of(call["tool"], call["args"]),
        "effect": "withdrawn",
        "state": "failed",
        "error": f"not made: {TAKEN_OVER}",
        "fence": row.fence,
        "finished_at": func.now(),
    }


async def _set(db: AsyncConnection, execution_id: UUID, **values: Any) -> None:
    await db.execute(
        update(executions).where(executions.c.execution_id == execution_id).values(**values, updated_at=func.now())
    )


async def _audit(db: AsyncConnection, actor: Actor, act: str, execution_id: UUID, **more: Any) -> None:
    await audit.append(db, actor.tenant, act=act, by=actor.actor_id, execution=str(execution_id), **more)
