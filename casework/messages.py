"""Further messages about an execution: whoever asked writes again. Insert-only, numbered per execution from 1.

What a message changes at once, it changes in its own transaction: open questions about calls are superseded, because
whoever proposed them had not read it, and a resolved case is opened again. Agents read it at a specialist's next turn.

Lock order, always: execution row, approval row, audit head.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework import audit
from casework.actor import SYSTEM, Actor
from casework.approval import ApprovalState, Kind
from casework.dispatch import Dispatcher
from casework.errors import ExecutionOver, IdempotencyKeyReused, MessagesUnread, TakesNoMessages
from casework.execution import Execution, Status
from casework.faults import fault
from casework.journal import NewEvent, write_events
from casework.resources import driver_of
from casework.store import lock_row
from casework.tables import approvals, executions, messages

OVERTAKEN = "a new message came in before anyone decided"
"""The reason that stands in the decision of a superseded approval; its state says that it was no person's."""
MAX_UNREAD = 20
"""Messages of one execution that may wait for its agents: all of them go into one prompt."""


class MessageKind(StrEnum):
    MESSAGE = "message"
    """Whoever asked wrote again."""
    INSTRUCTION = "instruction"
    """A person who had the case says how the agents shall go on with it."""


class Message(BaseModel):
    """One row of `casework.messages`."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    number: int
    """Per execution, from 1."""
    author: str
    """Actor id of whoever passed it on."""
    text: str
    """As it came in. An outsider's own words: untrusted; of an instruction, a colleague's."""
    kind: MessageKind = MessageKind.MESSAGE
    at: datetime


class Messages:
    """Takes and reads messages. Safe to share; every method is one transaction."""

    def __init__(self, engine: AsyncEngine, dispatcher: Dispatcher) -> None:
        self.engine = engine
        self.dispatcher = dispatcher

    async def add(
        self, actor: Actor, execution_id: UUID, text: str, idempotency_key: str | None = None
    ) -> tuple[Message, Status, bool]:
        """Record a message. Returns it, where the execution stands with it, and whether it is new.

        Escalated executions stay with their person, and the message with them; no agent acts on it.
        The same key with the same text answers with the first message; with another text it raises
        IdempotencyKeyReused. Raises NotFound, ExecutionOver, MessagesUnread, TakesNoMessages.
        """
        async with self.engine.begin() as db:
            row = await lock_row(db, actor.tenant, execution_id)
            before = await _sent_before(db, actor, execution_id, idempotency_key)
            if before is not None:
                if before.text != text:
                    raise IdempotencyKeyReused(field="Idempotency-Key")
                return before, Status(row.status), False
            _refuse(row)
            message = await insert_message(db, row, actor, text, idempotency_key)
            status = await self._pass_on(db, row, message)
            await fault("inside_message")
        await fault("after_message")
        return message, status, True

    async def page(self, tenant: str, execution_id: UUID, *, after: int, limit: int) -> list[Message]:
        """Messages numbered above `after`, in order; none of another tenant's execution."""
        query = _newer_than(execution_id, after).join_from(messages, executions).where(executions.c.tenant == tenant)
        async with self.engine.connect() as db:
            return [Message.model_validate(row) for row in await db.execute(query.limit(limit))]

    async def _pass_on(self, db: AsyncConnection, row: Row[Any], message: Message) -> Status:
        """Supersede, reopen, wake: whatever the message changes at once. Returns the status it leaves."""
        came = {"number": message.number, "by": message.author, "text": message.text}
        story = [NewEvent("message.received", came)]
        status = Status(row.status)
        superseded = await supersede_calls(db, row, message.number)
        if status is Status.SUCCEEDED:
            ended = {"finished_at": row.finished_at.isoformat(), "result": row.result, "message": message.number}
            story.append(NewEvent("execution.reopened", ended))
        again = status is Status.SUCCEEDED or (status is Status.WAITING and bool(superseded))
        queued = {
            "status": Status.QUEUED,
            "wake_at": func.now(),
            "result": None,
            "finished_at": None,
            "solved_by": None,
        }
        await db.execute(
            update(executions)
            .where(executions.c.execution_id == row.execution_id)
            .values(messages=message.number, **(queued if again else {}))
        )
        await write_events(db, row.execution_id, [*story, *superseded])
        if again:
            await self.dispatcher.wake(await driver_of(db), row.execution_id)
        return Status.QUEUED if again else status


async def read_after(engine: AsyncEngine, execution_id: UUID, number: int) -> list[Message]:
    """The messages of an execution that are numbered above `number`, in order."""
    async with engine.connect() as db:
        return [Message.model_validate(row) for row in await db.execute(_newer_than(execution_id, number))]


async def supersede_calls(
    db: AsyncConnection, execution: Row[Any] | Execution, number: int, reason: str = OVERTAKEN
) -> list[NewEvent]:
    """Close what is still asked about calls: message `number` is not known to who proposed them.

    Whether a call happened is asked on: a message changes nothing about that. Votes for what is closed are void, as
    a new proposal is a new question. Returns what is to be told; the execution's row must be locked.
    """
    refusal = func.jsonb_build_object("type", "reject", "digest", approvals.c.digest, "reason", reason)
    closed = await db.execute(
        update(approvals)
        .where(
            approvals.c.execution_id == execution.execution_id,
            approvals.c.state == ApprovalState.PENDING,
            approvals.c.kind == Kind.CALL,
        )
        .values(state=ApprovalState.SUPERSEDED, decision=refusal, decided_by=SYSTEM.actor_id, decided_at=func.now())
        .returning(approvals.c.approval_id, approvals.c.tool, approvals.c.digest)
    )
    told = []
    for row in closed.all():
        what = {"approval_id": str(row.approval_id), "tool": row.tool, "message": number}
        told.append(NewEvent("approval.superseded", {**what, "reason": reason}))
        await audit.append(
            db,
            execution.tenant,
            act="approval.superseded",
            by=SYSTEM.actor_id,
            approval=str(row.approval_id),
            execution=str(execution.execution_id),
            tool=row.tool,
            kind=Kind.CALL,
            digest=row.digest,
            message=number,
        )
    return told


def _newer_than(execution_id: UUID, number: int) -> Any:
    return (
        select(messages)
        .where(messages.c.execution_id == execution_id, messages.c.number > number)
        .order_by(messages.c.number)
    )


async def _sent_before(db: AsyncConnection, actor: Actor, execution_id: UUID, key: str | None) -> Message | None:
    """What the same sender sent with this key before; None without a key."""
    if key is None:
        return None
    query = select(messages).where(
        messages.c.execution_id == execution_id,
        messages.c.author == actor.actor_id,
        messages.c.idempotency_key == key,
    )
    row = (await db.execute(query)).one_or_none()
    return Message.model_validate(row) if row is not None else None


def _refuse(row: Row[Any]) -> None:
    """Raise what fits an execution that takes no (more) messages."""
    if row.source != "api":
        raise TakesNoMessages("this execution is driven by the Studio: write to it there")
    status = Status(row.status)
    if row.cancel_requested or status in (Status.CANCELLED, Status.FAILED):
        ended = "was cancelled" if status is not Status.FAILED else "failed"
        raise ExecutionOver(f"execution {row.execution_id} {ended} and takes no messages: start a new execution")
    if row.pruned_at is not None:
        raise ExecutionOver(
            f"execution {row.execution_id} ended so long ago that its working memory was pruned: start a new execution"
        )
    if status is not Status.ESCALATED and row.messages - row.messages_read >= MAX_UNREAD:
        raise MessagesUnread(f"{MAX_UNREAD} messages wait to be read; send the next one when some of them were")


async def insert_message(
    db: AsyncConnection,
    row: Row[Any],
    actor: Actor,
    text: str,
    key: str | None,
    kind: MessageKind = MessageKind.MESSAGE,
) -> Message:
    """Number and insert one; the execution's row must be locked, and its count is the caller's to raise."""
    new = (
        insert(messages)
        .values(
            execution_id=row.execution_id,
            number=row.messages + 1,
            author=actor.actor_id,
            text=text,
            kind=kind,
            idempotency_key=key,
        )
        .returning(messages)
    )
    return Message.model_validate((await db.execute(new)).one())
