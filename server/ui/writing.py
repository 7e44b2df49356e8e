"""Passing on a further message from a case's page: the same function as the API's."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import ValidationError

from casework.errors import CallerError, InputInvalid
from server.auth import Live, Starter
from server.messages import NewMessage, take
from server.problems import problem_of
from server.storable import refuse_unstorable
from server.ui.cases import Draft, case_page

router = APIRouter(prefix="/desk/executions/{execution_id}", include_in_schema=False)


@router.post("/messages")
async def write(request: Request, service: Live, actor: Starter, execution_id: UUID) -> Response:
    """Take the message; a refused one is told above the form, with what was typed still there."""
    form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    text = form.get("text", "").replace("\r\n", "\n")
    try:
        refuse_unstorable(form)
        await take(service, actor, execution_id, _checked(text), form.get("key", "")[:200] or None)
    except CallerError as error:
        problem = problem_of(error, request)
        return await case_page(service, actor, execution_id, status=problem.status, draft=Draft(text, problem))
    return RedirectResponse(f"/desk/executions/{execution_id}#story", 303)


def _checked(text: str) -> str:
    """As the API's body is checked. Raises InputInvalid."""
    try:
        return NewMessage(text=text).text
    except ValidationError as error:
        raise InputInvalid(f"text: {error.errors()[0]['msg']}", field="text") from error
