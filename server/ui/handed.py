"""Cases that people have: the list, and what a person does with one. The same functions as the API's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from casework.actor import Actor
from casework.errors import CallerError
from casework.handing import Owned
from server.auth import Decider, Live, Person
from server.handing import checked, hand_back
from server.paging import Cursor, cursor_of, position_of
from server.problems import problem_of
from server.service import Service
from server.ui.cases import Draft, case_page
from server.ui.rendering import render
from server.ui.shell import page

router = APIRouter(prefix="/desk", include_in_schema=False)

SHOWN = 40


@router.get("/handed")
async def handed(service: Live, actor: Person, owned: Owned | None = None, cursor: Cursor = None) -> Response:
    return await page(service, actor, "handed.html", here="handed", **await _listed(service, actor, owned, cursor))


@router.get("/handed/rows")
async def rows(service: Live, actor: Person, owned: Owned | None = None, cursor: Cursor = None) -> Response:
    """The list alone, asked for when it changed."""
    view = await _listed(service, actor, owned, cursor)
    return render("handed_rows.html", **view, actor=actor, now=service.resources.clock())


@router.post("/executions/{execution_id}/take-over")
async def take_over(request: Request, service: Live, actor: Decider, execution_id: UUID) -> Response:
    async def take(text: str) -> None:
        await service.handing.take_over(actor, execution_id, checked(text, "reason"))

    return await _done(request, service, actor, execution_id, "take-over", take)


@router.post("/executions/{execution_id}/assign")
async def assign(request: Request, service: Live, actor: Decider, execution_id: UUID) -> Response:
    async def take(_: str) -> None:
        await service.handing.assign(actor, execution_id)

    return await _done(request, service, actor, execution_id, "assign", take)


@router.post("/executions/{execution_id}/solve")
async def solve(request: Request, service: Live, actor: Decider, execution_id: UUID) -> Response:
    async def end(text: str) -> None:
        await service.handing.solve(actor, execution_id, checked(text, "note"))

    return await _done(request, service, actor, execution_id, "solve", end)


@router.post("/executions/{execution_id}/hand-back")
async def back(request: Request, service: Live, actor: Decider, execution_id: UUID) -> Response:
    async def give(text: str) -> None:
        await hand_back(service, actor, execution_id, text)

    return await _done(request, service, actor, execution_id, "hand-back", give)


async def _done(
    request: Request,
    service: Service,
    actor: Actor,
    execution_id: UUID,
    form: str,
    act: Callable[[str], Awaitable[None]],
) -> Response:
    """Act on what was typed; a refusal is told above the form, with what was typed still there."""
    typed = (await request.form()).get("text", "")
    text = typed.replace("\r\n", "\n") if isinstance(typed, str) else ""
    try:
        await act(text)
    except CallerError as error:
        problem = problem_of(error, request)
        draft = Draft(text, problem, form=form)
        return await case_page(service, actor, execution_id, status=problem.status, draft=draft)
    return RedirectResponse(f"/desk/executions/{execution_id}", 303)


async def _listed(service: Service, actor: Actor, owned: Owned | None, cursor: str | None) -> dict[str, Any]:
    found = await service.handing.page(actor, limit=SHOWN + 1, after=position_of(cursor), owned=owned)
    last = found[SHOWN - 1] if len(found) > SHOWN else None
    return {
        "owned": owned,
        "cases": found[:SHOWN],
        "cursor": cursor,
        "next_cursor": cursor_of(last.created_at, last.execution_id) if last is not None else None,
    }
