"""Messages over HTTP: whoever asked writes again about an execution that was started."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from casework.actor import Actor
from casework.errors import InputInvalid, TakesNoMessages
from casework.execution import Execution, Status
from casework.messages import Message
from policies.content import MAX_REQUEST_CHARS, clean
from server.auth import Live, Reader, Starter
from server.problems import documented
from server.service import Service
from server.starting import IdempotencyKey
from server.storable import refuse_unstorable

LARGEST_NUMBER = 2**31 - 1

router = APIRouter(prefix="/executions/{execution_id}/messages", tags=["executions"])


class NewMessage(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_REQUEST_CHARS,
            description="An outsider's own words. Agents read them as data, never as instructions.",
            examples=["Thanks! Actually, please cancel order O-5042 as well."],
        ),
    ]


class TakenMessage(Message):
    """A message that was taken."""

    status: Status
    """Where the execution stands with it: `queued`, `running` or `waiting`, and its agents will read it; `escalated`,
    and it is kept with the case for the person who has it, while no agent acts on it."""


class ListedMessage(Message):
    read: bool
    """Whether the execution's agents have read it, as of the end of its last run."""


class MessagePage(BaseModel):
    messages: list[ListedMessage]
    """In order."""
    next_after: int
    """Pass it as `after` to read on."""


@router.post(
    "",
    summary="Pass on a further message",
    status_code=202,
    responses={
        200: {"description": "This Idempotency-Key was used before: the message it brought."},
        202: {"description": "Taken; what follows goes on by itself."},
        **documented(404, 409, 413),
    },
)
async def send_message(
    service: Live,
    actor: Starter,
    execution_id: UUID,
    message: NewMessage,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> TakenMessage:
    """Whoever asked writes again. Safe to repeat with an `Idempotency-Key`.

    While the execution is queued or running, its agents read the message at their next turn. While it waits for a
    decision about a call, that question is superseded: the call is not made, and the agents go on knowing the message.
    A question whether a call happened stays, and the message is read after it is answered. A succeeded execution is
    opened again, as a new run that keeps the conversation and counts its budgets anew. An escalated one stays with its
    person, and so does the message. A failed or cancelled one takes none (`execution_over`), nor does a graph that was
    not built by Casework's assembly (`takes_no_messages`).
    """
    taken, new = await take(service, actor, execution_id, message.text, idempotency_key)
    response.status_code = 202 if new else 200
    response.headers["Location"] = f"/executions/{execution_id}"
    return taken


@router.get("", summary="List an execution's further messages", responses=documented(404))
async def list_messages(
    service: Live,
    actor: Reader,
    execution_id: UUID,
    after: Annotated[int, Query(ge=0, le=LARGEST_NUMBER, description="Only messages with a higher number.")] = 0,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most.")] = 50,
) -> MessagePage:
    """What came in after the execution's start, in order."""
    execution = await service.store.get(actor.tenant, execution_id)
    found = await service.messages.page(actor.tenant, execution_id, after=after, limit=limit)
    listed = [ListedMessage(**m.model_dump(), read=m.number <= execution.messages_read) for m in found]
    return MessagePage(messages=listed, next_after=found[-1].number if found else after)


async def take(
    service: Service, actor: Actor, execution_id: UUID, text: str, idempotency_key: str | None
) -> tuple[TakenMessage, bool]:
    """Take a message for the API and for the page. Returns it, and whether it is new.

    Raises InputInvalid, and what Messages.add raises.
    """
    refuse_unstorable(text, "text")
    if not clean(text).strip():
        raise InputInvalid("text: there is nothing to read in it", field="text")
    execution = await service.store.get(actor.tenant, execution_id)
    if not takes_messages(service, execution):
        raise TakesNoMessages(f"workflow {execution.workflow} takes no messages; start a new execution")
    message, status, new = await service.messages.add(actor, execution_id, text, idempotency_key)
    return TakenMessage(**message.model_dump(), status=status), new


def takes_messages(service: Service, execution: Execution) -> bool:
    """Whether its workflow reads messages: only what our assembly built does, and what this process still has."""
    return any(entry.name == execution.workflow and entry.workflow is not None for entry in service.catalog)
