"""What is posted to webhooks, for the API's own description. Nothing here is ever called."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header
from pydantic import BaseModel, Field

from casework.approval import ApprovalState
from casework.execution import Status
from casework.outbox import MessageType

Path = Annotated[str, Field(description="Where to read about it, with a key of your own.")]


class ExecutionNews(BaseModel):
    execution_id: UUID
    workflow: str
    status: Status
    path: Path


class ApprovalNews(BaseModel):
    approval_id: UUID
    execution_id: UUID
    workflow: str
    state: ApprovalState
    path: Path


class ExecutionMessage(BaseModel):
    type: MessageType
    timestamp: datetime
    """When it happened."""
    data: ExecutionNews


class ApprovalMessage(BaseModel):
    type: MessageType
    timestamp: datetime
    """When it happened."""
    data: ApprovalNews


WHEN: Mapping[MessageType, str] = {
    MessageType.EXECUTION_CREATED: "An execution was accepted",
    MessageType.EXECUTION_WAITING: "An execution stopped for people",
    MessageType.EXECUTION_FINISHED: "An execution is over",
    MessageType.APPROVAL_REQUESTED: "A person is asked",
    MessageType.APPROVAL_DECIDED: "A person answered for good",
    MessageType.APPROVAL_EXPIRED: "Nobody answered before the deadline",
    MessageType.APPROVAL_SUPERSEDED: "The execution ended without the answer",
}

Id = Annotated[str, Header(alias="webhook-id", description="The same in all attempts: your key for repeats.")]
Timestamp = Annotated[int, Header(alias="webhook-timestamp", description="Of the attempt, in seconds since 1970.")]
Signature = Annotated[str, Header(alias="webhook-signature", description="`v1,…`; two of them while a secret changes.")]

router = APIRouter(tags=["webhooks"])


async def _about_execution(body: ExecutionMessage, id_: Id, timestamp: Timestamp, signature: Signature) -> None:
    """Signed as Standard Webhooks has it. Answer with any 2xx; everything else is tried again."""


async def _about_approval(body: ApprovalMessage, id_: Id, timestamp: Timestamp, signature: Signature) -> None:
    """Signed as Standard Webhooks has it. Answer with any 2xx; everything else is tried again."""


for type_, when in WHEN.items():
    about = _about_approval if type_.startswith("approval.") else _about_execution
    router.add_api_route(type_, about, methods=["POST"], name=type_.replace(".", "_"), summary=when, status_code=204)
