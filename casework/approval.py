"""Approvals: a stored question to a person about one exact tool call, and the answers it takes.

Two kinds: may this call be made, and, when nobody knows, did it happen.
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

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator

from casework.actor import Money, Role

JsonSchema = dict[str, Any]


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values, equal text. Raises TypeError, ValueError on non-JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_of(tool: str, args: Mapping[str, Any]) -> str:
    """SHA-256 over the tool's name and its exact arguments; what an approver's yes is bound to."""
    return hashlib.sha256(canonical({"tool": tool, "args": args}).encode()).hexdigest()


def outcome_digest(tool: str, args: Mapping[str, Any], doubt: Doubt) -> str:
    """What an answer to `did this happen?` is bound to: the call, and which attempt of it was in doubt since when."""
    return digest_of(f"outcome of {tool}", {"args": args, "doubt": doubt.model_dump(mode="json")})


def approval_id_of(execution_id: UUID, call_id: str, digest: str) -> UUID:
    """The same call with the same arguments always asks the same question."""
    return uuid5(execution_id, f"{call_id}:{digest}")


class Kind(StrEnum):
    """What a question is about."""

    CALL = "call"
    """May this call be made? Questions of graphs that were not built by our assembly count here too."""
    OUTCOME = "outcome"
    """Did this call happen? It was sent, and nobody knows."""


class ApprovalState(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    RESPONDED = "responded"
    HAPPENED = "happened"
    DID_NOT_HAPPEN = "did_not_happen"
    STOPPED = "stopped"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    """Its execution was cancelled or went on without it, or whoever asked wrote again before anyone decided."""


class RejectCode(StrEnum):
    """Why not, from a short list: to be counted, and told to the agent in these words."""

    WRONG_AMOUNT = "wrong_amount"
    WRONG_TARGET = "wrong_target"
    NOT_ENTITLED = "not_entitled"
    NEEDS_FACTS = "needs_facts"
    WRONG_WORDS = "wrong_words"
    BETTER_WAY = "better_way"
    OTHER = "other"


REJECT_CODES: Mapping[RejectCode, str] = {
    RejectCode.WRONG_AMOUNT: "The amount is wrong",
    RejectCode.WRONG_TARGET: "It is the wrong order, person or place",
    RejectCode.NOT_ENTITLED: "They are not entitled to this",
    RejectCode.NEEDS_FACTS: "More must be found out first",
    RejectCode.WRONG_WORDS: "The wording is wrong",
    RejectCode.BETTER_WAY: "There is a better way to help",
    RejectCode.OTHER: "Another reason",
}


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
    code: Annotated[
        RejectCode | None,
        Field(description="Why, from a short list, to be counted.", exclude_if=lambda code: code is None),
    ] = None


class Respond(_Decision):
    """Do not make this call; give the agent this answer in the tool's place."""

    type: Literal["respond"]
    message: Annotated[Any, Field(description="For a tool call: text. For another graph's question: what it asks for.")]


class Happened(_Decision):
    """The call happened: it is recorded as done, under the provider's reference."""

    type: Literal["happened"]
    reference: Annotated[
        str,
        Field(
            min_length=1,
            max_length=200,
            description="The provider's id of it, as its own records show it.",
            examples=["re_3PqT8sLk"],
        ),
    ]


class DidNotHappen(_Decision):
    """The call did not happen: it is made again at once, under a new key."""

    type: Literal["did_not_happen"]


class Stop(_Decision):
    """Neither: the outcome stays unknown, nothing is sent, and a person takes the case."""

    type: Literal["stop"]
    reason: Annotated[str, Field(min_length=1, max_length=2000, description="Told to who takes the case, and kept.")]


Answer = Approve | Edit | Reject | Respond | Happened | DidNotHappen | Stop


class Decision(RootModel[Annotated[Answer, Field(discriminator="type")]]):
    """A person's answer to one approval."""


class Doubt(BaseModel):
    """What is known of a call whose outcome nobody knows."""

    model_config = ConfigDict(frozen=True)

    key: str
    """The idempotency key that this attempt was sent with; what the provider may know it by."""
    attempt: int
    """1 for the first; each time a person says that it did not happen, the next one begins."""
    begun_at: datetime
    since: datetime
    """When it became unknown."""
    why: str
    """What broke, in words for people."""
    reference: str | None
    """The provider's own id of it; None when it gave none."""


class ApprovalRequest(BaseModel):
    """The question, as it travels in the graph's interrupt. Computed once; never recomputed on resume.

    Its first five fields have the shape of LangChain's per-call tool approval.
    """

    model_config = ConfigDict(frozen=True)

    type: Literal["tool_approval", "tool_outcome"] = "tool_approval"
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
    roles: Annotated[list[Role], Field(min_length=1)]
    """What whoever decides must hold: every one of these."""
    votes: Annotated[int, Field(ge=1)]
    """How many different people must approve."""
    money: Money = {}
    """What is at stake; whoever approves must have limits of at least this much."""
    allowed: list[str]
    """Decision types this question takes."""
    expires_at: datetime
    specialist: str
    thought: str = ""
    """What the model wrote beside the call. The model's words: shown apart, never trusted."""
    doubt: Doubt | None = None
    """Asks whether the call happened, and says what is known of it; None: asks whether it may be made."""

    @model_validator(mode="before")
    @classmethod
    def _one_role(cls, value: Any) -> Any:
        """A question that was asked before it could need several roles, and still waits in its checkpoint."""
        if isinstance(value, Mapping) and "role" in value and "roles" not in value:
            return {**value, "roles": [value["role"]]}
        return value


class Approval(BaseModel):
    """One row of `casework.approvals`, as the API shows it."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    approval_id: UUID
    execution_id: UUID
    kind: Kind
    workflow: str
    tenant: str
    requester: str
    """Who started the execution; may not decide this."""
    tool: str | None
    """None: a question of a graph that was not built by our assembly."""
    tool_call_id: str | None
    args: dict[str, Any]
    digest: str
    doubt: Doubt | None
    """Of an outcome: what is known of the call. None for every other question."""
    description: str
    reasons: list[str]
    roles: list[Role]
    """What whoever decides must hold: every one of these."""
    votes_needed: int
    money: Money
    """What is at stake; whoever approves must have limits of at least this much. Empty: no money."""
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
    good_for: Money | None
    """How much each of those who agreed may let go: the call still passes if a little more is at stake by then.
    None: nobody agreed."""
    decided_by: str | None
    decided_at: datetime | None
    expires_at: datetime
    created_at: datetime
