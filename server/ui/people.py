"""The desk's page of people: who works here, what they may, and the keys of services. The API's own functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData

from casework.actor import SCOPES, Actor, Currency, KeyScope, Role
from casework.errors import CallerError, InputInvalid
from casework.identity import LONGEST_OVERLAP, Key
from casework.money import amount, amounts, minor_of
from casework.people import Person
from server.auth import Admin, Inspector, Live
from server.keys import LONGEST_DAYS, KeyId, MadeKey, make, rotate
from server.people import Name
from server.problems import problem_of
from server.service import Service
from server.ui.shell import page

router = APIRouter(prefix="/desk/people", include_in_schema=False)
keys_router = APIRouter(prefix="/desk/keys", include_in_schema=False)

CURRENCY: TypeAdapter[str] = TypeAdapter(Currency)
HOURS = LONGEST_OVERLAP // timedelta(hours=1)

ROLES = {
    Role.OPERATOR: "starts, watches and cancels cases",
    Role.APPROVER: "decides approvals, up to their limits",
    Role.ADMIN: "manages people and keys",
    Role.AUDITOR: "reads everything, changes nothing",
    Role.SERVICE: "a machine that starts cases; goes with no other role",
}
"""What each role is for, in the page's words."""


@router.get("")
async def people_page(service: Live, actor: Inspector) -> Response:
    return await _people(service, actor)


@router.post("")
async def add(request: Request, service: Live, actor: Admin) -> Response:
    """Add somebody, and go to their page."""
    form = await request.form()
    name = str(form.get("name", "")).strip()
    try:
        added = await service.people.add(actor, name, _roles(form), _limits(form))
    except CallerError as error:
        problem = problem_of(error, request)
        return await _people(service, actor, status=problem.status, problem=problem, typed=_typed(form))
    return RedirectResponse(_path(added.actor_id), 303)


@router.get("/{actor_id}")
async def person_page(service: Live, actor: Inspector, actor_id: Name) -> Response:
    return await _person(service, actor, actor_id)


@router.post("/{actor_id}")
async def change(request: Request, service: Live, actor: Admin, actor_id: Name) -> Response:
    """Roles and limits."""
    form = await request.form()

    async def act() -> None:
        await service.people.change(actor, actor_id, roles=_roles(form), limits=_limits(form))

    return await _acted(request, service, actor, actor_id, act)


@router.post("/{actor_id}/disable")
async def disable(request: Request, service: Live, actor: Admin, actor_id: Name) -> Response:
    async def act() -> None:
        await service.people.change(actor, actor_id, disabled=True)

    return await _acted(request, service, actor, actor_id, act)


@router.post("/{actor_id}/enable")
async def enable(request: Request, service: Live, actor: Admin, actor_id: Name) -> Response:
    async def act() -> None:
        await service.people.change(actor, actor_id, disabled=False)

    return await _acted(request, service, actor, actor_id, act)


@router.post("/{actor_id}/invitation")
async def invite(request: Request, service: Live, actor: Admin, actor_id: Name) -> Response:
    """The page with the link, which is shown this once."""
    try:
        invitation = await service.people.invite(actor, actor_id)
    except CallerError as error:
        return await _refused(request, service, actor, actor_id, error)
    link = f"{request.url.scheme}://{request.url.netloc}{invitation.path}"
    return await _person(service, actor, actor_id, link=link)


@router.post("/{actor_id}/keys")
async def add_key(request: Request, service: Live, actor: Admin, actor_id: Name) -> Response:
    """The page with the key, which is shown this once."""
    form = await request.form()
    try:
        made = await make(service, actor, actor_id, scopes_of(form), days_of(form))
    except CallerError as error:
        return await _refused(request, service, actor, actor_id, error)
    return await _person(service, actor, actor_id, made=made)


@keys_router.post("/{key_id}/rotate")
async def rotate_key(request: Request, service: Live, actor: Admin, key_id: KeyId) -> Response:
    owner = (await service.identity.key(actor.tenant, key_id)).actor_id
    try:
        made = await rotate(service, actor, key_id, overlap_of(await request.form()))
    except CallerError as error:
        return await _refused(request, service, actor, owner, error)
    return await _person(service, actor, owner, made=made)


@keys_router.post("/{key_id}/revoke")
async def revoke_key(request: Request, service: Live, actor: Admin, key_id: KeyId) -> Response:
    owner = (await service.identity.key(actor.tenant, key_id)).actor_id

    async def act() -> None:
        await service.identity.revoke_key(actor.tenant, key_id, by=actor)

    return await _acted(request, service, actor, owner, act)


def scopes_of(form: FormData) -> list[KeyScope] | None:
    """None when none was ticked: everything that the roles allow. Raises InputInvalid."""
    ticked = [str(value) for value in form.getlist("scopes")]
    try:
        return [KeyScope(value) for value in ticked] or None
    except ValueError as error:
        raise InputInvalid(f"scopes: choose from {', '.join(KeyScope)}", field="scopes") from error


def days_of(form: FormData) -> int | None:
    """Raises InputInvalid."""
    return _whole(form, "days", 1, LONGEST_DAYS)


def overlap_of(form: FormData) -> timedelta:
    """Raises InputInvalid."""
    return timedelta(hours=_whole(form, "hours", 0, HOURS) or 0)


def granted(roles: list[Role]) -> list[KeyScope]:
    """The scopes that a key of somebody with these roles can have."""
    return sorted(frozenset[KeyScope]().union(*(SCOPES[role] for role in roles)))


def _whole(form: FormData, name: str, low: int, high: int) -> int | None:
    written = str(form.get(name, "")).strip()
    if not written:
        return None
    if not (written.isascii() and written.isdigit() and len(written) < 10 and low <= int(written) <= high):
        raise InputInvalid(f"{name}: write a whole number from {low} to {high}", field=name)
    return int(written)


def _roles(form: FormData) -> set[Role]:
    """Raises InputInvalid."""
    try:
        return {Role(str(value)) for value in form.getlist("roles")}
    except ValueError as error:
        raise InputInvalid(f"roles: choose from {', '.join(Role)}", field="roles") from error


def _limits(form: FormData) -> dict[str, int]:
    """Pairs of a currency and an amount; a row without an amount takes the limit away. Raises InputInvalid."""
    limits = {}
    for currency, written in zip(form.getlist("currency"), form.getlist("amount"), strict=False):
        if not str(written).strip():
            continue
        try:
            code = CURRENCY.validate_python(str(currency).strip().upper())
        except ValidationError as error:
            raise InputInvalid(f"{currency!r} is no currency; write it like EUR", field="currency") from error
        limits[code] = minor_of(str(written), code)
    return limits


def _typed(form: FormData) -> dict[str, Any]:
    """The form as it was sent, so that nothing must be typed twice."""
    rows = zip(form.getlist("currency"), form.getlist("amount"), strict=False)
    return {"name": form.get("name", ""), "roles": form.getlist("roles"), "limits": list(rows)}


def _rows(person: Person) -> list[tuple[str, str]]:
    """A person's limits as the form shows them."""
    return [(c, amount(minor, c).removesuffix(f" {c}")) for c, minor in sorted(person.limits.items())]


async def _people(
    service: Service, actor: Actor, status: int = 200, problem: Any = None, typed: Any = None
) -> Response:
    everybody = await service.people.all(actor.tenant)
    return await page(
        service,
        actor,
        "people.html",
        here="people",
        status=status,
        people=[(person, amounts(person.limits), _path(person.actor_id)) for person in everybody],
        may_change=actor.has(Role.ADMIN),
        roles=ROLES,
        problem=problem,
        typed=typed or {"name": "", "roles": [], "limits": []},
    )


async def _person(
    service: Service,
    actor: Actor,
    actor_id: str,
    status: int = 200,
    problem: Any = None,
    link: str = "",
    made: MadeKey | None = None,
) -> Response:
    person = await service.people.get(actor.tenant, actor_id)
    keys: list[Key] = await service.identity.keys(actor.tenant, actor_id)
    return await page(
        service,
        actor,
        "person.html",
        here="people",
        status=status,
        person=person,
        path=_path(actor_id),
        may_change=actor.has(Role.ADMIN) and actor.actor_id != actor_id,
        is_service=Role.SERVICE in person.roles,
        roles=ROLES,
        limits=_rows(person),
        limits_in_words=amounts(person.limits),
        keys=keys,
        scopes=granted(person.roles),
        problem=problem,
        link=link,
        made=made,
    )


async def _acted(
    request: Request, service: Service, actor: Actor, actor_id: str, act: Callable[[], Awaitable[None]]
) -> Response:
    """Do it and show the page anew, or the page with what stands against it."""
    try:
        await act()
    except CallerError as error:
        return await _refused(request, service, actor, actor_id, error)
    return RedirectResponse(_path(actor_id), 303)


async def _refused(request: Request, service: Service, actor: Actor, actor_id: str, error: CallerError) -> Response:
    """Raises NotFound when there is no such person to show."""
    problem = problem_of(error, request)
    return await _person(service, actor, actor_id, problem.status, problem)


def _path(actor_id: str) -> str:
    return f"/desk/people/{quote(actor_id, safe='')}"
