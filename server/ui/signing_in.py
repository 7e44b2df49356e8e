"""Signing in with an API key, and out."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from casework.actor import Role
from casework.errors import CallerError, NotAllowed
from server import session
from server.auth import Live, key_holder
from server.ui.rendering import render

router = APIRouter(include_in_schema=False)

OUR_PATHS = re.compile(r"/(desk/[\w/-]*)?")
"""Where signing in may lead to: never to another site."""


@router.get("/sign-in")
async def sign_in_page(next_: Annotated[str, Query(alias="next")] = "/") -> Response:
    return render("sign_in.html", next=_ours(next_), error="", actor=None)


@router.post("/sign-in")
async def sign_in(
    request: Request,
    service: Live,
    key: Annotated[str, Form()] = "",
    next_: Annotated[str, Form(alias="next")] = "/",
) -> Response:
    """Set the session's cookie; a wrong key is told on the page."""
    session.refuse_foreign_origin(request)
    try:
        actor, key_id = await key_holder(service, key.strip())
        if actor.has(Role.SERVICE):
            raise NotAllowed("This key belongs to a service. People sign in with keys of their own.")
    except CallerError as error:
        words = "This key is not valid, or was revoked." if error.status == 401 else error.message
        return render("sign_in.html", error.status, next=_ours(next_), error=words, actor=None)
    response = RedirectResponse(_ours(next_), 303)
    session.start(response, request, service.identity, key_id, service.resources.clock())
    return response


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    session.refuse_foreign_origin(request)
    response = RedirectResponse("/sign-in", 303)
    session.end(response)
    return response


def _ours(path: str) -> str:
    return path if OUR_PATHS.fullmatch(path) else "/"
