"""What is told to webhooks, written as rows in the transaction of the fact: no fact without them, none without a fact.

A fact is told by naming things and how they stand; with nothing of a case's text, and nobody's name.
casework/attempts.py carries the rows on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import psycopg

from casework.approval import ApprovalState
from casework.execution import OVER, Status

CHANNEL = "casework_deliveries"
"""Workers LISTEN here: there is something to send."""


class FactType(StrEnum):
    """What a webhook can ask to be told."""

    EXECUTION_CREATED = "execution.created"
    """It was accepted, and is queued."""
    EXECUTION_WAITING = "execution.waiting"
    """It stopped for people; told anew each time it does."""
    EXECUTION_FINISHED = "execution.finished"
    """It is over; `status` says how."""
    EXECUTION_REOPENED = "execution.reopened"
    """A further message came after it had succeeded; it is queued again."""
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_DECIDED = "approval.decided"
    """A person's final answer; `state` says which."""
    APPROVAL_EXPIRED = "approval.expired"
    """Nobody decided before the deadline."""
    APPROVAL_SUPERSEDED = "approval.superseded"
    """The execution ended, or went on, without its answer."""


@dataclass(frozen=True)
class Fact:
    """Something that webhooks may be told."""

    type: FactType
    data: Mapping[str, Any]
    """What stands beside the execution's id, its workflow and the path."""


# No foreign key and no lock on the webhook: deleting one must neither fail a fact nor wait for it.
TOLD = f"""told AS (
    INSERT INTO casework.deliveries (delivery_id, webhook_id, type, data)
    SELECT gen_random_uuid(), w.webhook_id, fact.type, fact.data::jsonb || jsonb_build_object('workflow', x.workflow)
    FROM counted x
    JOIN casework.webhooks w ON w.tenant = x.tenant AND w.enabled
    JOIN unnest(%(fact_types)s::text[], %(fact_data)s::text[]) fact(type, data) ON fact.type = ANY (w.types)
    WHERE x.source = 'api'
    RETURNING pg_notify('{CHANNEL}', ''))"""
"""SQL: inserts the facts of `told_of` for a CTE `counted`, the execution's row; senders hear at the commit."""

TELL = f"""WITH counted AS (
    SELECT tenant, workflow, source FROM casework.executions WHERE execution_id = %(execution)s), {TOLD}
SELECT 1"""


def fact_of(event_type: str, data: Mapping[str, Any]) -> Fact | None:
    """What an event of an execution's story tells the world outside; None: nothing."""
    status = data.get("status")
    match event_type:
        case "execution.created":
            return Fact(FactType.EXECUTION_CREATED, {"status": Status.QUEUED})
        case "run.finished" if status == Status.WAITING:
            return Fact(FactType.EXECUTION_WAITING, {"status": status})
        case "run.finished" if status in OVER:
            return Fact(FactType.EXECUTION_FINISHED, {"status": status})
        case "execution.cancelled":
            return Fact(FactType.EXECUTION_FINISHED, {"status": Status.CANCELLED})
        case "execution.escalated" | "case.taken_over":
            return Fact(FactType.EXECUTION_FINISHED, {"status": Status.ESCALATED})
        case "case.solved":
            return Fact(FactType.EXECUTION_FINISHED, {"status": Status.SUCCEEDED})
        case "execution.reopened" | "case.handed_back":
            return Fact(FactType.EXECUTION_REOPENED, {"status": Status.QUEUED})
        case "approval.requested":
            return _about_approval(FactType.APPROVAL_REQUESTED, data, ApprovalState.PENDING)
        case "approval.decided" if data["state"] == ApprovalState.EXPIRED:
            return _about_approval(FactType.APPROVAL_EXPIRED, data, ApprovalState.EXPIRED)
        case "approval.decided":
            return _about_approval(FactType.APPROVAL_DECIDED, data, ApprovalState(data["state"]))
        case "approval.superseded":
            return _about_approval(FactType.APPROVAL_SUPERSEDED, data, ApprovalState.SUPERSEDED)
    return None


async def tell(db: psycopg.AsyncConnection[Any], execution_id: UUID, facts: Sequence[Fact]) -> None:
    """Write a row for each webhook of the execution's tenant that asked for a fact; in the caller's transaction."""
    await db.execute(TELL.encode(), {"execution": execution_id, **told_of(execution_id, facts)})


def told_of(execution_id: UUID, facts: Sequence[Fact]) -> dict[str, Any]:
    """Parameters of TOLD."""
    about = {"execution_id": str(execution_id), "path": f"/executions/{execution_id}"}
    return {
        "fact_types": [fact.type for fact in facts],
        "fact_data": [json.dumps({**about, **fact.data}) for fact in facts],
    }


def _about_approval(type_: FactType, data: Mapping[str, Any], state: ApprovalState) -> Fact:
    approval_id = data["approval_id"]
    return Fact(type_, {"approval_id": approval_id, "state": state, "path": f"/approvals/{approval_id}"})
