"""What is posted to webhooks, for the API's own description. Nobody calls what is here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header
from pydantic import BaseModel, Field

from casework.approval import ApprovalState
from casework.execution import Status
from casework.outbox import FactType

Path = Annotated[str, Field(description="Where to read about it, with a key of your own.")]


class AboutExecution(BaseModel):
    execution_id: UUID
    workflow: str
    status: Status
    path: Path


class AboutApproval(BaseModel):
    approval_id: UUID
    execution_id: UUID
    workflow: str
    state: ApprovalState
    path: Path


class ExecutionFact(BaseModel):
    type: FactType
    timestamp: datetime
    """When it happened."""
    data: AboutExecution


class ApprovalFact(BaseModel):
    type: FactType
    timestamp: datetime
    """When it happened."""
    data: AboutApproval


WHEN: Mapping[FactType, str] = {
    FactType.EXECUTION_CREATED: "An execution was accepted",
    FactType.EXECUTION_WAITING: "An execution stopped for people",
    FactType.EXECUTION_FINISHED: "An execution is over",
    FactType.EXECUTION_REOPENED: "A further message reopened an execution",
    FactType.APPROVAL_REQUESTED: "A person is asked",
    FactType.APPROVAL_DECIDED: "A person answered for good",
    FactType.APPROVAL_EXPIRED: "Nobody answered before the deadline",
    FactType.APPROVAL_SUPERSEDED: "The execution ended, or went on, without the answer",
}

Id = Annotated[str, Header(alias="webhook-id", description="The same in all attempts: your key for repeats.")]
Timestamp = Annotated[int, Header(alias="webhook-timestamp", description="Of the attempt, in seconds since 1970.")]
Signature = Annotated[str, Header(alias="webhook-signature", description="`v1,…`; two of them while a secret changes.")]

router = APIRouter(tags=["webhooks"])


async def _about_execution(body: ExecutionFact, id_: Id, timestamp: Timestamp, signature: Signature) -> None:
    """Signed as Standard Webhooks has it. Answer with any 2xx; everything else is tried again."""


async def _about_approval(body: ApprovalFact, id_: Id, timestamp: Timestamp, signature: Signature) -> None:
    """Signed as Standard Webhooks has it. Answer with any 2xx; everything else is tried again."""


for type_, when in WHEN.items():
    about = _about_approval if type_.startswith("approval.") else _about_execution
    router.add_api_route(type_, about, methods=["POST"], name=type_.replace(".", "_"), summary=when, status_code=204)
