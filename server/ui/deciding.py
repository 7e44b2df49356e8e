"""Answering an approval from its card: the same function as the API's, and the card again with what came of it."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from casework.actor import Actor
from casework.approval import Approval
from casework.errors import CallerError
from server.auth import Decider, Live
from server.problems import problem_of
from server.service import Service
from server.storable import refuse_unstorable
from server.ui.cards import Refusal, card, decision_of
from server.ui.cases import case_page
from server.ui.rendering import by_htmx, render

router = APIRouter(prefix="/desk/approvals/{approval_id}", include_in_schema=False)


@router.post("/decision")
async def decide(request: Request, service: Live, actor: Decider, approval_id: UUID) -> Response:
    """Record the answer; a refused one is told in the card, with what was typed still there."""
    approval = await service.decisions.get(actor.tenant, approval_id)
    form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    try:
        decision = decision_of(approval, service.catalog, form)
        refuse_unstorable(decision.model_dump())
        decided = await service.deciding.decide(actor, approval_id, decision)
    except CallerError as error:
        return await _refused(request, service, actor, approval_id, Refusal(problem_of(error, request), form))
    return _decided(request, service, actor, decided)


def _decided(request: Request, service: Service, actor: Actor, approval: Approval) -> Response:
    if by_htmx(request):
        view = card(actor, approval, service.catalog)
        return render("card.html", card=view, now=service.resources.clock())
    return RedirectResponse(f"/desk/executions/{approval.execution_id}#a-{approval.approval_id}", 303)


async def _refused(request: Request, service: Service, actor: Actor, approval_id: UUID, refusal: Refusal) -> Response:
    approval = await service.decisions.get(actor.tenant, approval_id)
    if by_htmx(request):
        view = card(actor, approval, service.catalog, refusal)
        return render("card.html", refusal.problem.status, card=view, now=service.resources.clock())
    return await case_page(service, actor, approval.execution_id, {approval_id: refusal}, refusal.problem.status)
