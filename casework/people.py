"""Who works here: people and services, their roles, their money limits, and how they get their passwords."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework import audit
from casework.actor import Actor, Money, Role
from casework.errors import InputInvalid, NameTaken, NotAllowed, NotFound
from casework.passwords import Hasher, refuse_weak
from casework.tables import actors, api_keys, invitations, passwords, sessions

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
RESERVED = frozenset({"system", "studio"})
"""Names under which Casework itself acts."""
INVITED_FOR = timedelta(days=2)
"""How long the link works with which somebody chooses their password."""
TOKEN_BYTES = 32


class Person(BaseModel):
    """Somebody, or a service, as an admin sees them."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    actor_id: str
    """What they sign in with, and what approvals and audit lines record."""
    roles: list[Role]
    limits: Money
    """How much money they may approve, per currency. One that is not named: none at all."""
    disabled_at: datetime | None
    """Since when nothing of theirs is let in; None: they may come in."""
    created_at: datetime
    has_password: bool
    invited_until: datetime | None
    """A link to choose a password is out and works until then; None: none is."""


class Invitation(BaseModel):
    path: str
    """Open it on this service to choose a password. Works once. Shown here and never again."""
    expires_at: datetime


class People:
    """Manages people and services. Safe to share; every method is one transaction with its audit line."""

    def __init__(self, engine: AsyncEngine, seal: Callable[[str], bytes], hasher: Hasher) -> None:
        self.engine = engine
        self.seal = seal
        self.hasher = hasher

    async def all(self, tenant: str) -> list[Person]:
        """Everybody of the tenant, by name; the disabled ones last."""
        query = _query(tenant).order_by(actors.c.disabled_at.is_not(None), actors.c.actor_id)
        async with self.engine.connect() as db:
            return [Person.model_validate(row) for row in await db.execute(query)]

    async def get(self, tenant: str, actor_id: str) -> Person:
        """Raises NotFound for an unknown name and for another tenant's alike."""
        async with self.engine.connect() as db:
            row = (await db.execute(_query(tenant).where(actors.c.actor_id == actor_id))).one_or_none()
        if row is None:
            raise _nobody(actor_id)
        return Person.model_validate(row)

    async def add(self, by: Actor, actor_id: str, roles: Collection[Role], limits: Mapping[str, int]) -> Person:
        """Raises InputInvalid, NameTaken."""
        if NAME.fullmatch(actor_id) is None or actor_id in RESERVED:
            raise InputInvalid("a name has up to 64 letters, digits and . _ @ + -, such as ana", field="actor_id")
        check_roles(roles)
        row = upsert(actors).values(tenant=by.tenant, actor_id=actor_id, roles=sorted(roles), limits=dict(limits))
        async with self.engine.begin() as db:
            added = await db.scalar(row.on_conflict_do_nothing().returning(actors.c.actor_id))
            if added is None:
                raise NameTaken(f"there is somebody called {actor_id} already", field="actor_id")
            await self._audit(db, by, "person.add", actor_id, roles=sorted(roles), limits=dict(limits))
        return await self.get(by.tenant, actor_id)

    async def change(
        self,
        by: Actor,
        actor_id: str,
        *,
        roles: Collection[Role] | None = None,
        limits: Mapping[str, int] | None = None,
        disabled: bool | None = None,
    ) -> Person:
        """Change what is not None, from now on: decisions under way are judged by the new rights.

        Disabling ends their sessions and links and revokes their keys, for good. Nobody changes their own rights.
        Raises NotFound, NotAllowed, InputInvalid.
        """
        if by.actor_id == actor_id:
            raise NotAllowed("nobody changes their own rights: ask another admin")
        if roles is not None:
            check_roles(roles)
        async with self.engine.begin() as db:
            before = await _lock(db, by.tenant, actor_id)
            if roles is not None and (Role.SERVICE in roles) != (Role.SERVICE in before.roles):
                # Whoever made a service's key would hold a person's.
                raise InputInvalid(
                    "a service does not become a person, nor a person a service: add another", field="roles"
                )
            new: dict[str, Any] = {}
            if roles is not None:
                new["roles"] = sorted(roles)
            if limits is not None:
                new["limits"] = dict(limits)
            if disabled is not None and disabled != (before.disabled_at is not None):
                new["disabled_at"] = func.now() if disabled else None
            if new:
                await db.execute(update(actors).where(*_is(actors, by.tenant, actor_id)).values(new))
            if "disabled_at" in new:
                if disabled:
                    await _shut_out(db, by.tenant, actor_id)
                await self._audit(db, by, "person.disable" if disabled else "person.enable", actor_id)
            kept = {name: new[name] for name in ("roles", "limits") if name in new}
            if kept:
                was = {name: getattr(before, name) for name in kept}
                await self._audit(db, by, "person.change", actor_id, before=was, after=kept)
        return await self.get(by.tenant, actor_id)

    async def invite(self, by: Actor, actor_id: str) -> Invitation:
        """A link with which they choose a password, once, within INVITED_FOR. Voids an earlier one.

        Raises NotFound, InputInvalid for services and people who are disabled.
        """
        token = secrets.token_urlsafe(TOKEN_BYTES)
        row = upsert(invitations).values(
            tenant=by.tenant, actor_id=actor_id, hmac=self._seal(token), expires_at=func.now() + INVITED_FOR
        )
        row = row.on_conflict_do_update(
            index_elements=["tenant", "actor_id"],
            set_={"hmac": row.excluded.hmac, "expires_at": row.excluded.expires_at},
        )
        async with self.engine.begin() as db:
            _refuse_password(await _lock(db, by.tenant, actor_id))
            expires_at = await db.scalar(row.returning(invitations.c.expires_at))
            await self._audit(db, by, "person.invite", actor_id)
        return Invitation(path=f"/welcome?token={token}", expires_at=expires_at)

    async def invited(self, token: str) -> Actor:
        """Whom a link is for. Raises NotFound when it was used, is too old, or never was."""
        async with self.engine.connect() as db:
            return _actor(await _invited(db, self._seal(token)))

    async def accept(self, token: str, password: str) -> Actor:
        """Choose a password with a link, which is used up by it. Raises NotFound, InputInvalid."""
        invited = await self.invited(token)
        refuse_weak(password, invited.actor_id)
        hashed = await self.hasher.hash(password)
        async with self.engine.begin() as db:
            await _lock(db, invited.tenant, invited.actor_id)
            actor = _actor(await _invited(db, self._seal(token)))  # again: it may have been used meanwhile
            await self._set(db, actor, actor.actor_id, hashed)
        return actor

    async def set_password(self, by: Actor, actor_id: str, password: str) -> None:
        """Ends every session of theirs, and voids a link that is out. Raises NotFound, InputInvalid."""
        refuse_weak(password, actor_id)
        hashed = await self.hasher.hash(password)
        async with self.engine.begin() as db:
            _refuse_password(await _lock(db, by.tenant, actor_id))
            await self._set(db, by, actor_id, hashed)

    async def has_password(self, tenant: str, actor_id: str, password: str) -> bool:
        """Whether this is still their password. Not for signing in: nobody's tries are counted here."""
        async with self.engine.connect() as db:
            hashed = await db.scalar(select(passwords.c.hash).where(*_is(passwords, tenant, actor_id)))
        return await self.hasher.matches(hashed, password)

    async def _set(self, db: AsyncConnection, by: Actor, actor_id: str, hashed: str) -> None:
        row = upsert(passwords).values(tenant=by.tenant, actor_id=actor_id, hash=hashed)
        changed = row.on_conflict_do_update(
            index_elements=["tenant", "actor_id"], set_={"hash": row.excluded.hash, "set_at": func.now()}
        )
        await db.execute(changed)
        for table in (sessions, invitations):
            await db.execute(delete(table).where(*_is(table, by.tenant, actor_id)))
        await self._audit(db, by, "person.password", actor_id)

    def _seal(self, token: str) -> bytes:
        return self.seal(f"invitation:{token}")

    async def _audit(self, db: AsyncConnection, by: Actor, act: str, actor_id: str, **more: Any) -> None:
        await audit.append(db, by.tenant, act=act, by=by.actor_id, actor=actor_id, **more)


def check_roles(roles: Collection[Role]) -> None:
    """Raises InputInvalid: a service is nothing else, so that no key of a machine ever decides."""
    if not roles:
        raise InputInvalid("name at least one role", field="roles")
    if Role.SERVICE in roles and len(roles) > 1:
        raise InputInvalid("a service has no other role: it never decides", field="roles")


async def present_rights(db: AsyncConnection, actor: Actor) -> Actor:
    """The actor with the rights of this moment, which nobody changes until the transaction ends. Raises NotAllowed."""
    found = (await rights_of(db, actor.tenant, {actor.actor_id})).get(actor.actor_id)
    if found is None:
        raise NotAllowed(f"{actor.actor_id} may not decide anything: there is no such person here any more")
    return found


async def rights_of(db: AsyncConnection, tenant: str, actor_ids: Iterable[str]) -> dict[str, Actor]:
    """By name: who of these may come in, with the rights of this moment. Holds them until the transaction ends."""
    query = (
        select(actors)
        .where(actors.c.tenant == tenant, actors.c.actor_id.in_(list(actor_ids)), actors.c.disabled_at.is_(None))
        .order_by(actors.c.actor_id)
        .with_for_update(read=True)
    )
    return {row.actor_id: _actor(row) for row in await db.execute(query)}


def _query(tenant: str) -> Any:
    link = invitations.c.expires_at
    return (
        select(
            actors,
            passwords.c.hash.is_not(None).label("has_password"),
            link.label("invited_until"),
        )
        .outerjoin(passwords, _same(passwords))
        .outerjoin(invitations, _same(invitations) & (link > func.now()))
        .where(actors.c.tenant == tenant)
    )


def _same(table: Any) -> Any:
    return (table.c.tenant == actors.c.tenant) & (table.c.actor_id == actors.c.actor_id)


def _is(table: Any, tenant: str, actor_id: str) -> tuple[Any, Any]:
    return table.c.tenant == tenant, table.c.actor_id == actor_id


def _actor(row: Row[Any]) -> Actor:
    return Actor(actor_id=row.actor_id, tenant=row.tenant, roles=frozenset(map(Role, row.roles)), limits=row.limits)


def _nobody(actor_id: str) -> NotFound:
    return NotFound(f"there is nobody called {actor_id}")


async def _lock(db: AsyncConnection, tenant: str, actor_id: str) -> Row[Any]:
    """Raises NotFound."""
    found = (await db.execute(select(actors).where(*_is(actors, tenant, actor_id)).with_for_update())).one_or_none()
    if found is None:
        raise _nobody(actor_id)
    return found


async def _invited(db: AsyncConnection, hmac: bytes) -> Row[Any]:
    query = select(actors).join(invitations, _same(invitations))
    query = query.where(
        invitations.c.hmac == hmac, invitations.c.expires_at > func.now(), actors.c.disabled_at.is_(None)
    )
    found = (await db.execute(query)).one_or_none()
    if found is None:
        raise NotFound("this link was used already, or is too old: ask for another one")
    return found


async def _shut_out(db: AsyncConnection, tenant: str, actor_id: str) -> None:
    for table in (sessions, invitations):
        await db.execute(delete(table).where(*_is(table, tenant, actor_id)))
    live = update(api_keys).where(*_is(api_keys, tenant, actor_id), api_keys.c.revoked_at.is_(None))
    await db.execute(live.values(revoked_at=func.now()))


def _refuse_password(row: Row[Any]) -> None:
    if Role.SERVICE in row.roles:
        raise InputInvalid("a service has no password: give it an API key", field="actor_id")
    if row.disabled_at is not None:
        raise InputInvalid(f"{row.actor_id} is disabled: enable them first", field="actor_id")
