"""Answering approvals, one from its card or several from the inbox: the same function as the API's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import FormData

from casework.actor import Actor
from casework.approval import Approval, ApprovalState, Decision
from casework.errors import CallerError, InputInvalid
from server.auth import Decider, Live, Person
from server.problems import problem_of
from server.service import Service
from server.storable import refuse_unstorable
from server.ui.cards import Card, Refusal, card_of, decision_of
from server.ui.cases import case_page
from server.ui.inbox import inbox_page
from server.ui.rendering import by_htmx, render
from server.ui.shell import page

router = APIRouter(prefix="/desk", include_in_schema=False)

TOGETHER = 100
"""Questions that may be answered at once."""


@dataclass(frozen=True)
class Answered:
    """What came of one of several answers."""

    description: str
    execution_id: UUID | None
    problem: str | None
    """Why it was not taken; None: it was."""
    waits: bool = False
    """Whether more people must agree."""


@router.get("/approvals/{approval_id}")
async def approval_page(service: Live, actor: Person, approval_id: UUID) -> Response:
    """One question on a page of its own: where the inbox leads to on narrow screens."""
    return await page(service, actor, "approval.html", here="inbox", card=await _card(service, actor, approval_id))


@router.get("/approvals/{approval_id}/card")
async def card_alone(service: Live, actor: Person, approval_id: UUID) -> Response:
    """For the pane beside the inbox."""
    view = await _card(service, actor, approval_id)
    return render("card.html", card=view, now=service.resources.clock())


@router.post("/approvals/{approval_id}/decision")
async def decide(request: Request, service: Live, actor: Decider, approval_id: UUID) -> Response:
    """Record the answer; a refused one is told in the card, with what was typed still there."""
    approval = await service.decisions.get(actor.tenant, approval_id)
    form = _texts(await request.form())
    try:
        decision = decision_of(approval, service.catalog, form)
        refuse_unstorable(decision.model_dump())
        decided = await service.deciding.decide(actor, approval_id, decision)
    except CallerError as error:
        return await _refused(request, service, actor, approval_id, Refusal(problem_of(error, request), form))
    if by_htmx(request):
        view = await _card(service, actor, approval_id)
        return render("card.html", card=view, now=service.resources.clock())
    return RedirectResponse(f"/desk/executions/{decided.execution_id}#a-{decided.approval_id}", 303)


@router.post("/decisions")
async def decide_together(request: Request, service: Live, actor: Decider) -> Response:
    """Answer several questions alike. Each is its own decision, bound to the digest that was shown for it."""
    form = await request.form()
    picked = [value for value in form.getlist("pick") if isinstance(value, str)][: TOGETHER + 1]
    if not picked or len(picked) > TOGETHER:
        raise InputInvalid(f"pick: choose 1 to {TOGETHER} questions", field="pick")
    if form.get("type") not in ("approve", "reject"):
        raise InputInvalid("type: several questions can be approved or rejected together", field="type")
    results = [await _one_of_several(request, service, actor, pick, _texts(form)) for pick in picked]
    return await inbox_page(service, actor, results=results)


async def _one_of_several(
    request: Request, service: Service, actor: Actor, pick: str, form: Mapping[str, str]
) -> Answered:
    approval: Approval | None = None
    approval_id, _, digest = pick.partition(":")
    try:
        approval = await service.decisions.get(actor.tenant, _id(approval_id))
        decision: Decision = decision_of(approval, service.catalog, {**form, "digest": digest})
        refuse_unstorable(decision.model_dump())
        decided = await service.deciding.decide(actor, approval.approval_id, decision)
    except CallerError as error:
        shown = approval.description if approval is not None else approval_id
        case = approval.execution_id if approval is not None else None
        return Answered(shown, case, problem_of(error, request).detail)
    return Answered(decided.description, decided.execution_id, None, decided.state is ApprovalState.PENDING)


async def _card(service: Service, actor: Actor, approval_id: UUID, refusal: Refusal | None = None) -> Card:
    approval = await service.decisions.get(actor.tenant, approval_id)
    execution = await service.store.get(actor.tenant, approval.execution_id)
    return await card_of(service, actor, approval, execution, refusal)


async def _refused(request: Request, service: Service, actor: Actor, approval_id: UUID, refusal: Refusal) -> Response:
    if by_htmx(request):
        view = await _card(service, actor, approval_id, refusal)
        return render("card.html", refusal.problem.status, card=view, now=service.resources.clock())
    approval = await service.decisions.get(actor.tenant, approval_id)
    return await case_page(service, actor, approval.execution_id, {approval_id: refusal}, refusal.problem.status)


def _texts(form: FormData) -> dict[str, str]:
    return {name: value for name, value in form.items() if isinstance(value, str)}


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise InputInvalid("pick: this names no question", field="pick") from error
