"""Who is asking, and whether they may. Every route names the roles it is for, or stands in PUBLIC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Depends, Request, Security
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from casework.actor import Actor, KeyScope, Role
from casework.errors import NotAllowed, NotSignedIn, SettingsInvalid
from casework.rights import listed
from server import session
from server.service import Service

PUBLIC: Final = frozenset({"/healthz", "/readyz", "/sign-in", "/sign-out", "/welcome", "/docs"})
"""Routes without an actor. They show no data of anybody."""
READING: Final = frozenset({KeyScope.EXECUTIONS_READ, KeyScope.AUDIT_READ})
"""Scopes that change nothing."""
PEOPLE: Final = frozenset(Role) - {Role.SERVICE}

API_KEY = HTTPBearer(auto_error=False, scheme_name="API key", description="An API key: `cw_…`.")


async def live_service(request: Request) -> Service:
    """The process's service, which create_app was given. `async`: FastAPI runs other dependencies in a thread."""
    service: Service = request.app.state.service
    return service


Live = Annotated[Service, Depends(live_service)]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(API_KEY)]


class Require:
    """A dependency that yields the actor, if they hold one of the roles, and with a key that is for this."""

    def __init__(self, scope: KeyScope, *roles: Role) -> None:
        self.scope = scope
        self.roles = frozenset(roles)

    @property
    def guards_changes(self) -> bool:
        """Whether a route behind it may change something."""
        return self.scope not in READING and Role.AUDITOR not in self.roles

    async def __call__(self, request: Request, service: Live, bearer: Bearer) -> Actor:
        """Raises NotSignedIn, NotAllowed."""
        actor = await _actor(request, service, bearer)
        structlog.contextvars.bind_contextvars(actor=actor.actor_id, tenant=actor.tenant)
        if not actor.roles & self.roles:
            raise NotAllowed(f"this is for the roles {listed(self.roles)}; yours: {listed(actor.roles) or 'none'}")
        if not actor.may(self.scope):
            raise NotAllowed(f"this API key is not for {self.scope}")
        return actor


class SignedIn:
    """A dependency that yields whoever is signed in at the desk: what concerns their own account takes no key."""

    guards_changes = True

    async def __call__(self, request: Request, service: Live, bearer: Bearer) -> Actor:
        """Raises NotSignedIn, NotAllowed."""
        actor = await _actor(request, service, bearer)
        structlog.contextvars.bind_contextvars(actor=actor.actor_id, tenant=actor.tenant)
        if bearer is not None or not actor.roles & PEOPLE:
            raise NotAllowed("sign in at the desk for this: an API key does not change its owner's account")
        return actor


Starter = Annotated[Actor, Depends(Require(KeyScope.EXECUTIONS_WRITE, Role.OPERATOR, Role.ADMIN, Role.SERVICE))]
"""Starts and cancels executions."""
Reader = Annotated[Actor, Depends(Require(KeyScope.EXECUTIONS_READ, *Role))]
"""Reads what their tenant has."""
Person = Annotated[Actor, Depends(Require(KeyScope.EXECUTIONS_READ, *PEOPLE))]
"""Looks at the pages."""
Decider = Annotated[Actor, Depends(Require(KeyScope.APPROVALS_DECIDE, Role.OPERATOR, Role.APPROVER, Role.ADMIN))]
"""Answers approvals (which ones, each approval says), takes cases over, and works on what was handed to people."""
Inspector = Annotated[Actor, Depends(Require(KeyScope.AUDIT_READ, Role.ADMIN, Role.AUDITOR))]
"""Reads the audit log, and who may do what."""
Admin = Annotated[Actor, Depends(Require(KeyScope.ADMIN, Role.ADMIN))]
"""Manages people, keys and webhooks."""
Account = Annotated[Actor, Depends(SignedIn())]
"""Whoever it is, about their own account."""


def refuse_undeclared(router: APIRouter) -> None:
    """Deny by default. Raises SettingsInvalid for a route that is not public and names no roles, and for one that
    could change something and lets in auditors, or keys that are for reading."""
    for route in router.routes:
        if not isinstance(route, APIRoute) or route.path in PUBLIC:
            continue
        guards = list(_guards(route.dependant))
        if not guards:
            raise SettingsInvalid(f"route {route.path} names no roles: give it an actor from server/auth.py")
        unsafe = set(route.methods or ()) - session.SAFE_METHODS
        if unsafe and not any(guard.guards_changes for guard in guards):
            raise SettingsInvalid(f"route {route.path} changes something, and is open to who may only read")


async def key_holder(service: Service, key: str) -> Actor:
    """The actor of an API key. Raises NotSignedIn."""
    if not (key.isascii() and key.isprintable()):
        raise NotSignedIn
    return (await service.identity.authenticate(key))[0]


async def _actor(request: Request, service: Service, bearer: HTTPAuthorizationCredentials | None) -> Actor:
    if bearer is not None:
        return await key_holder(service, bearer.credentials)
    token = session.token_of(request)
    if token is None:
        raise NotSignedIn
    session.refuse_foreign_origin(request)
    return await service.sessions.holder(token, by_hand=session.by_hand(request))


def _guards(dependant: Dependant) -> Iterator[Require | SignedIn]:
    if isinstance(dependant.call, Require | SignedIn):
        yield dependant.call
    for inner in dependant.dependencies:
        yield from _guards(inner)
