"""What is told to webhooks, written as rows in the transaction of the fact: no fact without them, none without a fact.

A message names things and says how they stand; it holds nothing of a case's text, and nobody's name.
casework/deliveries.py carries the rows on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from casework.approval import ApprovalState
from casework.execution import OVER, Status

CHANNEL = "casework_deliveries"
"""Workers LISTEN here: there is something to send."""


class MessageType(StrEnum):
    """What a webhook can ask to be told."""

    EXECUTION_CREATED = "execution.created"
    """It was accepted, and is queued."""
    EXECUTION_WAITING = "execution.waiting"
    """It stopped for people; told anew each time it does."""
    EXECUTION_FINISHED = "execution.finished"
    """It is over; `status` says how."""
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_DECIDED = "approval.decided"
    """A person's final answer; `state` says which."""
    APPROVAL_EXPIRED = "approval.expired"
    """Nobody decided before the deadline."""
    APPROVAL_SUPERSEDED = "approval.superseded"
    """The execution ended without its answer."""


@dataclass(frozen=True)
class Message:
    """One fact that webhooks may be told."""

    type: MessageType
    data: Mapping[str, Any]
    """What stands beside the execution's id, its workflow and the path."""


# No foreign key and no lock on the webhook: deleting one must neither fail a fact nor wait for it.
ENQUEUE = text(
    f"""
    WITH told AS (
        INSERT INTO casework.deliveries (delivery_id, webhook_id, type, data)
        SELECT gen_random_uuid(), w.webhook_id, m.type, m.data || jsonb_build_object('workflow', x.workflow)
        FROM casework.executions x
        JOIN casework.webhooks w ON w.tenant = x.tenant AND w.enabled
        JOIN unnest(cast(:types AS text[]), cast(:data AS jsonb[])) AS m (type, data) ON m.type = ANY (w.types)
        WHERE x.execution_id = :execution_id AND x.source = 'api'
        RETURNING delivery_id)
    SELECT pg_notify('{CHANNEL}', '') FROM told LIMIT 1"""
)


def message_of(event_type: str, data: Mapping[str, Any]) -> Message | None:
    """What an event of an execution's story tells the world outside; None: nothing."""
    status = data.get("status")
    match event_type:
        case "execution.created":
            return Message(MessageType.EXECUTION_CREATED, {"status": Status.QUEUED})
        case "run.finished" if status == Status.WAITING:
            return Message(MessageType.EXECUTION_WAITING, {"status": status})
        case "run.finished" if status in OVER:
            return Message(MessageType.EXECUTION_FINISHED, {"status": status})
        case "execution.cancelled":
            return Message(MessageType.EXECUTION_FINISHED, {"status": Status.CANCELLED})
        case "execution.escalated":
            return Message(MessageType.EXECUTION_FINISHED, {"status": Status.ESCALATED})
        case "approval.requested":
            return _about_approval(MessageType.APPROVAL_REQUESTED, data, ApprovalState.PENDING)
        case "approval.decided" if data["state"] == ApprovalState.EXPIRED:
            return _about_approval(MessageType.APPROVAL_EXPIRED, data, ApprovalState.EXPIRED)
        case "approval.decided":
            return _about_approval(MessageType.APPROVAL_DECIDED, data, ApprovalState(data["state"]))
        case "approval.superseded":
            return _about_approval(MessageType.APPROVAL_SUPERSEDED, data, ApprovalState.SUPERSEDED)
    return None


async def enqueue(db: AsyncConnection, execution_id: UUID, messages: Sequence[Message]) -> None:
    """Write a row for each webhook of the execution's tenant that asked for it; senders hear of it at the commit."""
    about = {"execution_id": str(execution_id), "path": f"/executions/{execution_id}"}
    await db.execute(
        ENQUEUE,
        {
            "execution_id": execution_id,
            "types": [message.type for message in messages],
            "data": [json.dumps({**about, **message.data}) for message in messages],
        },
    )


def _about_approval(type_: MessageType, data: Mapping[str, Any], state: ApprovalState) -> Message:
    approval_id = data["approval_id"]
    return Message(type_, {"approval_id": approval_id, "state": state, "path": f"/approvals/{approval_id}"})
