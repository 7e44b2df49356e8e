"""The desk's first page: what waits for me, and how the cases go."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response

from casework.actor import Actor
from casework.approval import Approval, ApprovalState
from casework.execution import Status
from casework.rights import barred, barred_from_yes
from server.auth import Live, Person
from server.paging import Cursor, cursor_of, position_of
from server.service import Service
from server.ui.rendering import render

router = APIRouter(include_in_schema=False)

SHOWN_APPROVALS = 100
"""The soonest deadlines; the page says when there are more."""
SHOWN_CASES = 25


@router.get("/")
async def inbox(service: Live, actor: Person, status: Status | None = None, cursor: Cursor = None) -> Response:
    return render("inbox.html", **await _view(service, actor, status, cursor))


@router.get("/desk/inbox")
async def inbox_part(service: Live, actor: Person, status: Status | None = None, cursor: Cursor = None) -> Response:
    """What the page asks for every few seconds."""
    return render("inbox_part.html", **await _view(service, actor, status, cursor))


async def _view(service: Service, actor: Actor, status: Status | None, cursor: str | None) -> dict[str, Any]:
    asked = await service.decisions.page(actor.tenant, limit=SHOWN_APPROVALS + 1, state=ApprovalState.PENDING)
    pending = asked[:SHOWN_APPROVALS]
    mine = [a for a in pending if why_not(actor, a) is None]
    cases = await service.store.page(actor.tenant, limit=SHOWN_CASES + 1, before=position_of(cursor), status=status)
    last = cases[SHOWN_CASES - 1] if len(cases) > SHOWN_CASES else None
    return {
        "actor": actor,
        "now": service.resources.clock(),
        "mine": mine,
        "others": [(a, why_not(actor, a)) for a in pending if a not in mine],
        "more_approvals": len(asked) > SHOWN_APPROVALS,
        "cases": cases[:SHOWN_CASES],
        "asked_by_case": _count_by_case(pending),
        "only": status,
        "statuses": list(Status),
        "workflows": [entry.name for entry in service.catalog],
        "cursor": cursor,
        "next_cursor": cursor_of(last.created_at, last.execution_id) if last is not None else None,
    }


def why_not(actor: Actor, approval: Approval) -> str | None:
    """Why this person has nothing to decide here; None when it waits for them."""
    bar = barred(actor, approval)
    if bar is not None:
        return bar
    if actor.actor_id in approval.votes:
        return f"you have approved it; {approval.votes_needed - len(approval.votes)} more must agree"
    return barred_from_yes(actor, approval)


def _count_by_case(approvals: list[Approval]) -> dict[UUID, int]:
    counts: dict[UUID, int] = {}
    for approval in approvals:
        counts[approval.execution_id] = counts.get(approval.execution_id, 0) + 1
    return counts
