"""A person's own account: their password, and API keys of their own. For whoever is signed in; not with a key."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from casework.actor import Actor
from casework.errors import CallerError, InputInvalid, NotSignedIn
from casework.money import amounts
from server.auth import Account, Live
from server.keys import KeyId, MadeKey, make, rotate
from server.problems import problem_of
from server.service import Service
from server.ui.people import days_of, granted, overlap_of, scopes_of
from server.ui.shell import page
from server.ui.signing_in import Text, address_of, refuse_unlike, signed_in

router = APIRouter(prefix="/desk/account", include_in_schema=False)


@router.get("")
async def account(service: Live, actor: Account) -> Response:
    return await _page(service, actor)


@router.post("/password")
async def change_password(
    request: Request, service: Live, actor: Account, old: Text = "", password: Text = "", again: Text = ""
) -> Response:
    """Every session of theirs ends; this browser gets a new one."""
    address = address_of(request)
    try:
        refuse_unlike(password, again)
        await _check_old(service, actor, old, address)
        await service.people.set_password(actor, actor.actor_id, password)
    except CallerError as error:
        return await _refused(request, service, actor, error)
    token = await service.sessions.sign_in(actor.tenant, actor.actor_id, password, address)
    return signed_in(request, service, token, "/desk/account")


@router.post("/keys")
async def add_key(request: Request, service: Live, actor: Account) -> Response:
    """The page with the key, which is shown this once."""
    form = await request.form()
    try:
        made = await make(service, actor, actor.actor_id, scopes_of(form), days_of(form))
    except CallerError as error:
        return await _refused(request, service, actor, error)
    return await _page(service, actor, made=made)


@router.post("/keys/{key_id}/rotate")
async def rotate_key(request: Request, service: Live, actor: Account, key_id: KeyId) -> Response:
    await _own(service, actor, key_id)
    try:
        made = await rotate(service, actor, key_id, overlap_of(await request.form()))
    except CallerError as error:
        return await _refused(request, service, actor, error)
    return await _page(service, actor, made=made)


@router.post("/keys/{key_id}/revoke")
async def revoke_key(service: Live, actor: Account, key_id: KeyId) -> Response:
    await _own(service, actor, key_id)
    await service.identity.revoke_key(actor.tenant, key_id, by=actor)
    return RedirectResponse("/desk/account", 303)


async def _own(service: Service, actor: Actor, key_id: str) -> None:
    """Raises NotFound: a colleague's key is nobody else's business either."""
    await service.identity.key(actor.tenant, key_id, of=actor.actor_id)


async def _check_old(service: Service, actor: Actor, old: str, address: str) -> None:
    """Raises InputInvalid, TooManyTries: an unattended browser is no way to somebody's password."""
    try:
        await service.sessions.check(actor.tenant, actor.actor_id, old, address)
    except NotSignedIn as error:
        raise InputInvalid("this is not your present password", field="old") from error


async def _page(
    service: Service, actor: Actor, status: int = 200, problem: Any = None, made: MadeKey | None = None
) -> Response:
    return await page(
        service,
        actor,
        "account.html",
        here="account",
        status=status,
        limits_in_words=amounts(actor.limits),
        keys=await service.identity.keys(actor.tenant, actor.actor_id),
        scopes=granted(sorted(actor.roles)),
        problem=problem,
        made=made,
    )


async def _refused(request: Request, service: Service, actor: Actor, error: CallerError) -> Response:
    problem = problem_of(error, request)
    return await _page(service, actor, problem.status, problem)
