"""API keys.

A key is `cw_<key id>_<secret>`, random and shown once; only its HMAC with the pepper is stored, so a copy of the
database does not authenticate.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Row, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework import audit
from casework.actor import SCOPES, Actor, KeyScope, Role
from casework.errors import InputInvalid, NotFound, NotSignedIn
from casework.people import check_roles
from casework.resources import Pool
from casework.tables import actors, api_keys

SECRET_BYTES = 32
NOTED_EVERY = timedelta(minutes=1)
"""How exactly a key's last use is kept: enough to see what is unused, and it spares a write per request."""
ABSENT = bytes(32)
"""Compared with when there is no such key, so that unknown and wrong keys take alike."""
OVERLAP = timedelta(hours=24)
"""How long a key lives on once it was rotated, unless asked otherwise."""
LONGEST_OVERLAP = timedelta(days=30)

LIVE = """SELECT key_id, hmac, actor_id, tenant, roles, limits, scopes,
    (last_used_at IS NULL OR last_used_at < now() - %(noted_every)s)
        AND current_setting('transaction_read_only') = 'off' AS to_note
FROM casework.api_keys JOIN casework.actors USING (tenant, actor_id)
WHERE key_id = %(key_id)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    AND disabled_at IS NULL"""
USED = "UPDATE casework.api_keys SET last_used_at = now() WHERE key_id = %(key_id)s"


class Key(BaseModel):
    """A key without its secret."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    key_id: str
    """The part between the underscores."""
    actor_id: str
    """Who acts with it."""
    scopes: list[KeyScope] | None
    """What it may be used for; null: everything its actor's roles allow."""
    created_at: datetime
    expires_at: datetime | None
    """null: it does not expire."""
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To the minute; null: never."""
    live: bool
    """Whether it lets anybody in now."""


class Identity:
    """Authenticates keys and manages them. Safe to share; every method is one transaction."""

    def __init__(self, engine: AsyncEngine, pool: Pool, pepper: str) -> None:
        self.engine = engine
        self.pool = pool
        self._pepper = pepper.encode()

    def seal(self, value: str) -> bytes:
        """HMAC-SHA256 with the pepper."""
        return hmac.new(self._pepper, value.encode(), hashlib.sha256).digest()

    async def authenticate(self, key: str) -> tuple[Actor, str]:
        """Who holds this key, and its id. Raises NotSignedIn for any key that is not live and right."""
        prefix, _, rest = key.partition("_")
        key_id, _, secret = rest.partition("_")
        if prefix != "cw" or not key_id or not secret:
            raise NotSignedIn
        row = await self._live_key(key_id)
        if not hmac.compare_digest(row["hmac"] if row is not None else ABSENT, self.seal(key)) or row is None:
            raise NotSignedIn
        return await self._holder(row), key_id

    async def add_key(
        self,
        tenant: str,
        actor_id: str,
        roles: Collection[Role] | None = None,
        *,
        by: Actor,
        scopes: Iterable[KeyScope] | None = None,
        expires_at: datetime | None = None,
    ) -> str:
        """Make a key for an actor; with `roles`, create the actor or replace its roles. Returns the key, once.

        Raises NotFound when the actor does not exist and no roles are given; InputInvalid for a scope that the roles
        do not allow.
        """
        asked = sorted(set(scopes)) if scopes is not None else None
        async with self.engine.begin() as db:
            if roles is not None:
                check_roles(roles)
                row = upsert(actors).values(tenant=tenant, actor_id=actor_id, roles=sorted(roles))
                await db.execute(
                    row.on_conflict_do_update(index_elements=["tenant", "actor_id"], set_={"roles": row.excluded.roles})
                )
            owner = select(actors).where(actors.c.tenant == tenant, actors.c.actor_id == actor_id)
            found = (await db.execute(owner.with_for_update(read=True))).one_or_none()
            if found is None:
                raise NotFound(f"there is nobody called {actor_id}; give roles to create them")
            _check_scopes(asked, found.roles)
            if found.disabled_at is not None:
                raise InputInvalid(f"{actor_id} is disabled: enable them first", field="actor_id")
            key_id, key = await self._insert(db, tenant, actor_id, asked, expires_at)
            named = {"scopes": asked} if asked is not None else {}
            await audit.append(db, tenant, act="key.add", by=by.actor_id, actor=actor_id, key=key_id, **named)
        return key

    async def rotate_key(self, tenant: str, key_id: str, *, by: Actor, overlap: timedelta = OVERLAP) -> str:
        """Make a key like this one, which lives on for `overlap` and not longer than it would have. Returns the key.

        A key with an expiry is followed by one that lives as long as it was meant to. Raises NotFound when there is no
        such live key, InputInvalid.
        """
        if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
            raise InputInvalid(f"the old key may live on for 0 to {LONGEST_OVERLAP.days} days", field="overlap")
        async with self.engine.begin() as db:
            old = await _lock(db, tenant, key_id)
            now = (await db.execute(select(func.now()))).scalar_one()
            lifetime = old.expires_at - old.created_at if old.expires_at is not None else None
            expires_at = now + lifetime if lifetime is not None else None
            new_id, key = await self._insert(db, tenant, old.actor_id, old.scopes, expires_at)
            ends_at = min(filter(None, (old.expires_at, now + overlap)))
            await db.execute(update(api_keys).where(api_keys.c.key_id == key_id).values(expires_at=ends_at))
            told = {"actor": old.actor_id, "key": key_id, "new_key": new_id, "until": ends_at.isoformat()}
            await audit.append(db, tenant, act="key.rotate", by=by.actor_id, **told)
        return key

    async def revoke_key(self, tenant: str, key_id: str, *, by: Actor) -> None:
        """Raises NotFound when there is no such live key."""
        async with self.engine.begin() as db:
            await _lock(db, tenant, key_id)
            await db.execute(update(api_keys).where(api_keys.c.key_id == key_id).values(revoked_at=func.now()))
            await audit.append(db, tenant, act="key.revoke", by=by.actor_id, key=key_id)

    async def keys(self, tenant: str, actor_id: str | None = None) -> list[Key]:
        """Every key of the tenant, or of one actor, newest first."""
        query = _keys(tenant).order_by(api_keys.c.created_at.desc(), api_keys.c.key_id)
        if actor_id is not None:
            query = query.where(api_keys.c.actor_id == actor_id)
        async with self.engine.connect() as db:
            return [Key.model_validate(row) for row in await db.execute(query)]

    async def key(self, tenant: str, key_id: str, of: str | None = None) -> Key:
        """`of`: whose it must be. Raises NotFound for an unknown id and for somebody else's alike."""
        query = _keys(tenant).where(api_keys.c.key_id == key_id)
        if of is not None:
            query = query.where(api_keys.c.actor_id == of)
        async with self.engine.connect() as db:
            row = (await db.execute(query)).one_or_none()
        if row is None:
            raise NotFound(f"there is no key {key_id}")
        return Key.model_validate(row)

    async def _insert(
        self, db: AsyncConnection, tenant: str, actor_id: str, scopes: Sequence[str] | None, expires_at: datetime | None
    ) -> tuple[str, str]:
        key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(SECRET_BYTES)
        key = f"cw_{key_id}_{secret}"
        row = {"key_id": key_id, "tenant": tenant, "actor_id": actor_id, "hmac": self.seal(key)}
        await db.execute(insert(api_keys).values(**row, scopes=scopes, expires_at=expires_at))
        return key_id, key

    async def _live_key(self, key_id: str) -> dict[str, Any] | None:
        """The key with its actor; None when there is none, it is revoked or expired, or its actor is disabled."""
        async with self.pool.connection() as db:
            found = await db.execute(LIVE, {"key_id": key_id, "noted_every": NOTED_EVERY})
            return await found.fetchone()

    async def _holder(self, row: dict[str, Any]) -> Actor:
        if row["to_note"]:
            async with self.pool.connection() as db:
                await db.execute(USED, {"key_id": row["key_id"]})
        return Actor(
            actor_id=row["actor_id"],
            tenant=row["tenant"],
            roles=frozenset(map(Role, row["roles"])),
            limits=row["limits"],
            scopes=frozenset(map(KeyScope, row["scopes"])) if row["scopes"] is not None else None,
        )


def _unexpired() -> Any:
    return or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > func.now())


def _keys(tenant: str) -> Any:
    live = api_keys.c.revoked_at.is_(None) & _unexpired() & actors.c.disabled_at.is_(None)
    same = (actors.c.tenant == api_keys.c.tenant) & (actors.c.actor_id == api_keys.c.actor_id)
    return select(api_keys, live.label("live")).join(actors, same).where(api_keys.c.tenant == tenant)


async def _lock(db: AsyncConnection, tenant: str, key_id: str) -> Row[Any]:
    query = select(api_keys).where(
        api_keys.c.key_id == key_id, api_keys.c.tenant == tenant, api_keys.c.revoked_at.is_(None), _unexpired()
    )
    found = (await db.execute(query.with_for_update())).one_or_none()
    if found is None:
        raise NotFound(f"there is no live key {key_id}")
    return found


def _check_scopes(scopes: list[KeyScope] | None, roles: Iterable[str]) -> None:
    if scopes is None:
        return
    allowed = frozenset[KeyScope]().union(*(SCOPES[Role(role)] for role in roles))
    beyond = [scope for scope in scopes if scope not in allowed]
    if beyond or not scopes:
        what = f"{', '.join(beyond)}: beyond what the roles allow" if beyond else "name at least one scope"
        raise InputInvalid(f"{what}; choose from {', '.join(sorted(allowed))}", field="scopes")
