"""People, services and their API keys.

A key is `cw_<key id>_<secret>`, random and shown once; only its HMAC with the pepper is stored, so a copy of the
database does not authenticate.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine

from casework import audit
from casework.actor import Actor, Role
from casework.errors import NotFound, NotSignedIn
from casework.resources import Pool
from casework.tables import actors, api_keys

SECRET_BYTES = 32
NOTED_EVERY = timedelta(minutes=1)
"""How exactly a key's last use is kept: enough to see what is unused, and it spares a write per request."""
ABSENT = bytes(32)
"""Compared with when there is no such key, so that unknown and wrong keys take alike."""

LIVE = """SELECT key_id, hmac, actor_id, tenant, roles,
    (last_used_at IS NULL OR last_used_at < now() - %(noted_every)s)
        AND current_setting('transaction_read_only') = 'off' AS to_note
FROM casework.api_keys JOIN casework.actors USING (tenant, actor_id)
WHERE key_id = %(key_id)s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"""
USED = "UPDATE casework.api_keys SET last_used_at = now() WHERE key_id = %(key_id)s"


class Identity:
    """Authenticates keys and manages who may do what. Safe to share; every method is one transaction."""

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

    async def holder(self, key_id: str) -> Actor:
        """Who holds the live key with this id. Raises NotSignedIn."""
        row = await self._live_key(key_id)
        if row is None:
            raise NotSignedIn
        return await self._holder(row)

    async def add_key(
        self,
        tenant: str,
        actor_id: str,
        roles: Iterable[Role] | None = None,
        *,
        by: Actor,
        expires_at: datetime | None = None,
    ) -> str:
        """Make a key for an actor; with `roles`, create the actor or replace its roles. Returns the key, once.

        Raises NotFound when the actor does not exist and no roles are given.
        """
        key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(SECRET_BYTES)
        key = f"cw_{key_id}_{secret}"
        async with self.engine.begin() as db:
            if roles is not None:
                row = upsert(actors).values(tenant=tenant, actor_id=actor_id, roles=sorted(roles))
                await db.execute(
                    row.on_conflict_do_update(index_elements=["tenant", "actor_id"], set_={"roles": row.excluded.roles})
                )
            elif not await db.scalar(
                select(func.count()).select_from(actors).where(actors.c.tenant == tenant, actors.c.actor_id == actor_id)
            ):
                raise NotFound(f"there is no actor {actor_id}; give roles to create one")
            await db.execute(
                insert(api_keys).values(
                    key_id=key_id, tenant=tenant, actor_id=actor_id, hmac=self.seal(key), expires_at=expires_at
                )
            )
            await audit.append(db, tenant, act="key.add", by=by.actor_id, actor=actor_id, key=key_id)
        return key

    async def revoke_key(self, tenant: str, key_id: str, *, by: Actor) -> None:
        """Raises NotFound when there is no such live key."""
        async with self.engine.begin() as db:
            done = await db.execute(
                update(api_keys)
                .where(api_keys.c.key_id == key_id, api_keys.c.tenant == tenant, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=func.now())
            )
            if not done.rowcount:
                raise NotFound(f"there is no live key {key_id}")
            await audit.append(db, tenant, act="key.revoke", by=by.actor_id, key=key_id)

    async def keys(self, tenant: str) -> list[dict[str, object]]:
        """Every key of the tenant without its secret, with its actor's roles, newest first."""
        query = (
            select(
                api_keys.c.key_id,
                api_keys.c.actor_id,
                actors.c.roles,
                api_keys.c.created_at,
                api_keys.c.expires_at,
                api_keys.c.revoked_at,
                api_keys.c.last_used_at,
            )
            .join(actors, (actors.c.tenant == api_keys.c.tenant) & (actors.c.actor_id == api_keys.c.actor_id))
            .where(api_keys.c.tenant == tenant)
            .order_by(api_keys.c.created_at.desc())
        )
        async with self.engine.connect() as db:
            return [dict(row._mapping) for row in await db.execute(query)]

    async def _live_key(self, key_id: str) -> dict[str, Any] | None:
        """The key with its actor; None when there is none, or it is revoked or expired."""
        async with self.pool.connection() as db:
            found = await db.execute(LIVE, {"key_id": key_id, "noted_every": NOTED_EVERY})
            return await found.fetchone()

    async def _holder(self, row: dict[str, Any]) -> Actor:
        if row["to_note"]:
            async with self.pool.connection() as db:
                await db.execute(USED, {"key_id": row["key_id"]})
        return Actor(actor_id=row["actor_id"], tenant=row["tenant"], roles=frozenset(map(Role, row["roles"])))
