"""Approvals: a stored question to a person about one exact tool call, and the answers it takes.

One model serves the graph's interrupt, the API, the table and the page.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field, RootModel

from casework.actor import Role

JsonSchema = dict[str, Any]


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values, equal text. Raises TypeError, ValueError on non-JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(tool: str, args: Mapping[str, Any]) -> str:
    """SHA-256 over the tool's name and its exact arguments; what an approver's yes is bound to."""
    return hashlib.sha256(canonical({"tool": tool, "args": args}).encode()).hexdigest()


def approval_id_of(execution_id: UUID, call_id: str, digest: str) -> UUID:
    """The same call with the same arguments always asks the same question."""
    return uuid5(execution_id, f"{call_id}:{digest}")


class ApprovalState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    RESPONDED = "responded"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    """Its execution was cancelled or went on without it."""


class _Decision(BaseModel):
    model_config = ConfigDict(extra="forbid")

    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="The digest shown with the question.")]


class Approve(_Decision):
    """Make exactly this call."""

    type: Literal["approve"]


class Edit(_Decision):
    """Make this call with other arguments. Judged anew; the editor may not be the one to approve the result."""

    type: Literal["edit"]
    args: Annotated[dict[str, Any], Field(description="All arguments, not only the changed ones.")]


class Reject(_Decision):
    """Do not make this call; the agent is told why."""

    type: Literal["reject"]
    reason: Annotated[str, Field(min_length=1, max_length=2000, description="Told to the agent, and kept.")]


class Respond(_Decision):
    """Do not make this call; give the agent this answer in the tool's place."""

    type: Literal["respond"]
    message: Annotated[Any, Field(description="For a tool call: text. For another graph's question: what it asks for.")]


class Decision(RootModel[Annotated[Approve | Edit | Reject | Respond, Field(discriminator="type")]]):
    """A person's answer to one approval."""


class ApprovalRequest(BaseModel):
    """The question, as it travels in the graph's interrupt. Computed once; never recomputed on resume.

    Its first five fields have the shape of LangChain's per-call tool approval.
    """

    model_config = ConfigDict(frozen=True)

    type: Literal["tool_approval"] = "tool_approval"
    tool_call_id: str
    name: str
    """The tool."""
    args: dict[str, Any]
    """The exact arguments the digest covers."""
    description: str
    """One line rendered by the tool's own template from the real arguments."""
    approval_id: UUID
    digest: str
    reasons: list[str]
    """Why a person is asked, from the policies."""
    role: Role
    votes: Annotated[int, Field(ge=1)]
    """How many different people with `role` must approve."""
    allowed: list[str]
    """Decision types this question takes."""
    expires_at: datetime
    specialist: str
    thought: str = ""
    """What the model wrote beside the call. The model's words: shown apart, never trusted."""


class Approval(BaseModel):
    """One row of `casework.approvals`, as the API shows it."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    approval_id: UUID
    execution_id: UUID
    workflow: str
    tenant: str
    requester: str
    """Who started the execution; may not decide this."""
    tool: str | None
    """None: a question of a graph that was not built by our assembly."""
    tool_call_id: str | None
    args: dict[str, Any]
    digest: str
    description: str
    reasons: list[str]
    role: Role
    votes_needed: int
    votes: list[str] = []
    """Actor ids that approved so far, on the present digest."""
    allowed: list[str]
    response_schema: JsonSchema | None
    """What a `respond` message must look like; None: text."""
    specialist: str | None
    thought: str
    edited_by: str | None
    """Who last changed the arguments; may not approve them."""
    state: ApprovalState
    decision: dict[str, Any] | None
    decided_by: str | None
    decided_at: datetime | None
    expires_at: datetime
    created_at: datetime
