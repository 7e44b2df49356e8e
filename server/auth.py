"""Who is asking, and whether they may. Every route names the roles it is for, or stands in PUBLIC."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Depends, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from casework.actor import Actor, Role
from casework.errors import NotAllowed, NotSignedIn, SettingsInvalid
from server import session
from server.service import Service

PUBLIC: Final = frozenset({"/healthz", "/readyz", "/sign-in", "/sign-out", "/docs"})
"""Routes without an actor. They show no data of anybody."""

API_KEY = HTTPBearer(auto_error=False, scheme_name="API key", description="An API key: `cw_…`.")


async def live_service(request: Request) -> Service:
    """The process's service, which create_app was given. `async`: FastAPI runs other dependencies in a thread."""
    service: Service = request.app.state.service
    return service


Live = Annotated[Service, Depends(live_service)]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(API_KEY)]


class Require:
    """A dependency that yields the actor, if they hold one of the roles."""

    def __init__(self, *roles: Role) -> None:
        self.roles = frozenset(roles)

    async def __call__(self, request: Request, service: Live, bearer: Bearer) -> Actor:
        """Raises NotSignedIn, NotAllowed."""
        actor = await _actor(request, service, bearer)
        structlog.contextvars.bind_contextvars(actor=actor.actor_id, tenant=actor.tenant)
        if not actor.roles & self.roles:
            raise NotAllowed(f"this is for the roles {_listed(self.roles)}; yours: {_listed(actor.roles) or 'none'}")
        return actor


Starter = Annotated[Actor, Depends(Require(Role.OPERATOR, Role.ADMIN, Role.SERVICE))]
"""Starts and cancels executions."""
Reader = Annotated[Actor, Depends(Require(*Role))]
"""Reads what their tenant has."""
Person = Annotated[Actor, Depends(Require(Role.OPERATOR, Role.APPROVER, Role.ADMIN))]
"""Uses the pages and answers approvals; which ones, each approval says."""
Admin = Annotated[Actor, Depends(Require(Role.ADMIN))]
"""Manages webhooks."""


def refuse_undeclared(router: APIRouter) -> None:
    """Deny by default: raises SettingsInvalid for a route that is not public and names no roles."""
    for route in router.routes:
        if isinstance(route, APIRoute) and route.path not in PUBLIC and not _declares_roles(route.dependant):
            raise SettingsInvalid(f"route {route.path} names no roles: give it an actor from server/auth.py")


async def key_holder(service: Service, key: str) -> tuple[Actor, str]:
    """The actor of an API key, and the key's id. Raises NotSignedIn."""
    if not (key.isascii() and key.isprintable()):
        raise NotSignedIn
    return await service.identity.authenticate(key)


async def _actor(request: Request, service: Service, bearer: HTTPAuthorizationCredentials | None) -> Actor:
    if bearer is not None:
        return (await key_holder(service, bearer.credentials))[0]
    cookie = request.cookies.get(session.COOKIE)
    if cookie is None:
        raise NotSignedIn
    session.refuse_foreign_origin(request)
    return await session.holder(cookie, service.identity, service.resources.clock())


def _declares_roles(dependant: Dependant) -> bool:
    return isinstance(dependant.call, Require) or any(map(_declares_roles, dependant.dependencies))


def _listed(roles: Iterable[Role]) -> str:
    return ", ".join(sorted(roles))
