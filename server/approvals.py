"""Approvals over HTTP: what is asked, and a person's answer."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Query
from pydantic import BaseModel

from casework.approval import Approval, ApprovalState, Decision
from server.auth import Decider, Live, Reader
from server.paging import Cursor, Limit, cursor_of, position_of
from server.problems import documented
from server.storable import refuse_unstorable
from tools.preview import Preview

router = APIRouter(prefix="/approvals", tags=["approvals"])

_DIGEST = "3f0a5c8e" * 8
DECISION_EXAMPLES: dict[str, Any] = {
    "approve": {"summary": "Make exactly this call", "value": {"type": "approve", "digest": _DIGEST}},
    "edit": {
        "summary": "Make it with other arguments",
        "value": {
            "type": "edit",
            "digest": _DIGEST,
            "args": {"order_id": "O-5042", "amount_minor": 2500, "reason": "damaged"},
        },
    },
    "reject": {
        "summary": "Do not make it",
        "value": {"type": "reject", "digest": _DIGEST, "reason": "The photo shows another product."},
    },
    "respond": {
        "summary": "Answer in the tool's place",
        "value": {"type": "respond", "digest": _DIGEST, "message": "Ask the customer for a photo first."},
    },
    "happened": {
        "summary": "It happened: record it as done",
        "value": {"type": "happened", "digest": _DIGEST, "reference": "re_3PqT8sLk"},
    },
    "did_not_happen": {
        "summary": "It did not happen: make it again, under a new key",
        "value": {"type": "did_not_happen", "digest": _DIGEST},
    },
    "stop": {
        "summary": "Leave it unknown: a person takes the case",
        "value": {"type": "stop", "digest": _DIGEST, "reason": "The provider looks into it."},
    },
}


class ApprovalPage(BaseModel):
    approvals: list[Approval]
    """Soonest deadline first."""
    next_cursor: str | None
    """Pass it as `cursor` for the next page; null: this was the last."""


class PreviewAnswer(BaseModel):
    preview: Preview | None
    """Null: the tool offers none."""
    why_not: str | None = None
    """What kept it from being made; null otherwise."""


@router.get("", summary="List approvals", responses=documented())
async def list_approvals(
    service: Live,
    actor: Reader,
    state: Annotated[ApprovalState, Query(description="Only those in this state.")] = ApprovalState.PENDING,
    execution_id: Annotated[UUID | None, Query(description="Only those of this execution.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> ApprovalPage:
    """Soonest deadline first, in pages; the pending ones unless asked otherwise."""
    found = await service.decisions.page(
        actor.tenant, limit=limit + 1, after=position_of(cursor), state=state, execution_id=execution_id
    )
    page = found[:limit]
    last = page[-1] if len(found) > limit else None
    return ApprovalPage(
        approvals=page, next_cursor=cursor_of(last.expires_at, last.approval_id) if last is not None else None
    )


@router.get("/{approval_id}", summary="Read one approval", responses=documented(404))
async def get_approval(service: Live, actor: Reader, approval_id: UUID) -> Approval:
    """What is asked and why, the exact arguments, who voted, and the digest that a decision must name."""
    return await service.decisions.get(actor.tenant, approval_id)


@router.get("/{approval_id}/preview", summary="Preview an approval's call", responses=documented(404))
async def get_preview(service: Live, actor: Reader, approval_id: UUID) -> PreviewAnswer:
    """What the call would change as things stand now, from the tool's own code. Nothing is changed by asking."""
    approval = await service.decisions.get(actor.tenant, approval_id)
    execution = await service.store.get(actor.tenant, approval.execution_id)
    found = await service.previewing.of(approval, execution)
    return PreviewAnswer(preview=None, why_not=found) if isinstance(found, str) else PreviewAnswer(preview=found)


@router.post("/{approval_id}/decision", summary="Decide an approval", responses=documented(404, 409, 413))
async def decide(
    service: Live,
    actor: Decider,
    approval_id: UUID,
    decision: Annotated[Decision, Body(openapi_examples=DECISION_EXAMPLES)],
) -> Approval:
    """Answer one question, bound to what you saw by its `digest`; it takes what its `allowed` lists.

    A question of kind `call` asks whether a call may be made. One of kind `outcome` asks whether a call happened that
    was sent and whose outcome nobody knows; `doubt` says what is known of it.

    The same answer by the same person may be sent again and changes nothing. Whoever decides holds every one of
    `roles`; to approve, or to say what became of the money, they also need limits of at least `money`. The requester
    may not decide, whoever edited the arguments may not approve them, and a service key never decides. While `state`
    is still `pending` afterwards, another person must agree.
    """
    refuse_unstorable(decision.model_dump())
    return await service.deciding.decide(actor, approval_id, decision)
