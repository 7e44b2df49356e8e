"""Signing in with name and password, choosing a password with a link, and signing out."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from casework.actor import Actor
from casework.errors import CallerError, InputInvalid
from server import session
from server.auth import Live
from server.demo_people import shown_at_the_door
from server.problems import headers_of
from server.service import Service
from server.ui.rendering import render

router = APIRouter(include_in_schema=False)

OUR_PATHS = re.compile(r"/(desk/[\w/-]*)?")
"""Where signing in may lead to: never to another site."""
DEFAULT_TENANT = "default"
LONGEST_NAME = 200
Text = Annotated[str, Form(max_length=1000)]


@router.get("/sign-in")
async def sign_in_page(request: Request, service: Live, next_: Annotated[str, Query(alias="next")] = "/") -> Response:
    return _door(request, service, _ours(next_))


@router.post("/sign-in")
async def sign_in(
    request: Request,
    service: Live,
    name: Text = "",
    password: Text = "",
    next_: Annotated[str, Form(alias="next")] = "/",
) -> Response:
    """Set the session's cookie. What is wrong is told on the page, alike for every name."""
    session.refuse_foreign_origin(request)
    tenant, actor_id = split_name(name)
    try:
        token = await service.sessions.sign_in(tenant, actor_id, password, address_of(request))
    except CallerError as error:
        return _door(request, service, _ours(next_), error, name)
    return signed_in(request, service, token, _ours(next_))


@router.post("/sign-out")
async def sign_out(request: Request, service: Live) -> Response:
    session.refuse_foreign_origin(request)
    token = session.token_of(request)
    if token is not None:
        await service.sessions.sign_out(token)
    response = RedirectResponse("/sign-in", 303)
    session.end(response)
    return response


@router.get("/welcome")
async def welcome_page(service: Live, token: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Where the link of an invitation leads. The token stands in no log: queries are not logged."""
    return _welcome(await service.people.invited(token), token)


@router.post("/welcome")
async def welcome(request: Request, service: Live, token: Text = "", password: Text = "", again: Text = "") -> Response:
    """Set the password, and sign in with it."""
    session.refuse_foreign_origin(request)
    invited = await service.people.invited(token)
    try:
        refuse_unlike(password, again)
        await service.people.accept(token, password)
    except InputInvalid as error:
        return _welcome(invited, token, error)
    started = await service.sessions.sign_in(invited.tenant, invited.actor_id, password, address_of(request))
    return signed_in(request, service, started, "/")


def signed_in(request: Request, service: Service, token: str, target: str) -> Response:
    response = RedirectResponse(target, 303)
    session.start(response, request, token, service.resources.settings.session_lifetime)
    return response


def split_name(name: str) -> tuple[str, str]:
    """`ana` → the default tenant's ana; `north/ana` → the tenant north's. What no name can be becomes none."""
    tenant, _, actor_id = name.strip()[:LONGEST_NAME].replace("\x00", "").rpartition("/")
    return tenant or DEFAULT_TENANT, actor_id


def address_of(request: Request) -> str:
    """Where the request comes from. Behind a proxy, uvicorn takes it from X-Forwarded-For (FORWARDED_ALLOW_IPS)."""
    return request.client.host if request.client is not None else "unknown"


def refuse_unlike(password: str, again: str) -> None:
    """Raises InputInvalid."""
    if password != again:
        raise InputInvalid("the two passwords are not the same", field="password")


def _door(
    request: Request, service: Service, target: str, error: CallerError | None = None, name: str = ""
) -> Response:
    view = {"next": target, "who": name[:LONGEST_NAME], "actor": None, "error": error.message if error else ""}
    demo = shown_at_the_door(service.resources.settings, request.url.hostname)
    response = render("sign_in.html", error.status if error else 200, demo=demo, **view)
    response.headers.update(headers_of(error) if error else {})
    return response


def _welcome(invited: Actor, token: str, error: InputInvalid | None = None) -> Response:
    view = {"actor": None, "who": invited.actor_id, "token": token, "error": error.message if error else ""}
    return render("welcome.html", error.status if error else 200, **view)


def _ours(path: str) -> str:
    return path if OUR_PATHS.fullmatch(path) else "/"
