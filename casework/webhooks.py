"""Webhooks: addresses that are told what happens, each with a secret that its messages are signed with.

A secret must be readable to sign, so it is not kept at all: a random seed is, and the secret is the HMAC of the seed
with the pepper, which is not in the database. So a copy of the database signs nothing.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from casework import audit
from casework.actor import Actor
from casework.deliveries import find_webhook, switch_off
from casework.egress import Egress
from casework.errors import Conflict
from casework.outbox import FactType
from casework.tables import deliveries, webhooks

Seal = Callable[[str], bytes]
"""HMAC-SHA256 with the pepper: `Identity.seal`."""

MOST = 50
"""Webhooks of one tenant: every fact is told to all that asked for it."""
SEED_BYTES = 32
OVERLAP = timedelta(hours=24)
"""How long a secret that was replaced still signs too."""


class Webhook(BaseModel):
    """One row of `casework.webhooks`, as the API shows it: without its secret."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    webhook_id: UUID
    url: Annotated[str, Field(examples=["https://crm.example.com/hooks/casework"])]
    types: list[FactType]
    """What it is told."""
    enabled: bool
    off_because: str | None
    """Why Casework switched it off; null: it did not."""
    paused_until: datetime | None
    """Nothing is sent before, because the receiver asked for a pause."""
    delivered_at: datetime | None
    """When a message last arrived."""
    old_until: datetime | None
    """Until when the secret before this one signs too."""
    created_by: str
    created_at: datetime
    updated_at: datetime


class Webhooks:
    """Manages the webhooks of tenants. Safe to share; every method is one transaction."""

    def __init__(self, engine: AsyncEngine, egress: Egress, seal: Seal) -> None:
        self.engine = engine
        self.egress = egress
        self._seal = seal

    async def add(self, actor: Actor, url: str, types: Sequence[FactType]) -> tuple[Webhook, str]:
        """Returns it and its secret, once.

        Raises InputInvalid for a URL that may not be used, Conflict when there are too many.
        """
        await self.egress.check(url)
        webhook_id, seed = uuid4(), secrets.token_hex(SEED_BYTES)
        async with self.engine.begin() as db:
            mine = select(func.count()).select_from(webhooks).where(webhooks.c.tenant == actor.tenant)
            if (await db.scalar(mine) or 0) >= MOST:
                raise Conflict(f"there are {MOST} webhooks already; delete one first")
            row = (
                await db.execute(
                    insert(webhooks)
                    .values(
                        webhook_id=webhook_id,
                        tenant=actor.tenant,
                        url=url,
                        types=_distinct(types),
                        seed=seed,
                        created_by=actor.actor_id,
                    )
                    .returning(webhooks)
                )
            ).one()
            await audit.append(
                db, actor.tenant, act="webhook.add", by=actor.actor_id, webhook=str(webhook_id), host=_host(url)
            )
        return Webhook.model_validate(row), secret_of(self._seal, seed)

    async def all_of(self, tenant: str) -> list[Webhook]:
        """All of them, oldest first: there are never more than `MOST`."""
        query = select(webhooks).where(webhooks.c.tenant == tenant).order_by(webhooks.c.created_at)
        async with self.engine.connect() as db:
            return [Webhook.model_validate(row) for row in await db.execute(query)]

    async def get(self, tenant: str, webhook_id: UUID) -> Webhook:
        """Raises NotFound."""
        async with self.engine.connect() as db:
            return Webhook.model_validate(await find_webhook(db, tenant, webhook_id))

    async def change(
        self,
        actor: Actor,
        webhook_id: UUID,
        *,
        url: str | None = None,
        types: Sequence[FactType] | None = None,
        enabled: bool | None = None,
    ) -> Webhook:
        """Change what is given. Raises NotFound, InputInvalid."""
        if url is not None:
            await self.egress.check(url)
        async with self.engine.begin() as db:
            row = await find_webhook(db, actor.tenant, webhook_id, lock=True)
            new = {
                "url": url or row.url,
                "types": _distinct(types) if types is not None else row.types,
                "updated_at": func.now(),
            }
            if enabled:
                new |= {"enabled": True, "off_because": None, "paused_until": None}
            changed = update(webhooks).where(webhooks.c.webhook_id == webhook_id).values(new)
            row = (await db.execute(changed.returning(webhooks))).one()
            await audit.append(
                db,
                actor.tenant,
                act="webhook.change",
                by=actor.actor_id,
                webhook=str(webhook_id),
                host=_host(row.url),
                types=row.types,
            )
            if enabled is False and row.enabled:
                await switch_off(db, actor.tenant, webhook_id, None, actor)
        return await self.get(actor.tenant, webhook_id)

    async def rotate(self, actor: Actor, webhook_id: UUID) -> tuple[Webhook, str]:
        """Give it a new secret, returned once; the one before signs too for `OVERLAP`, earlier ones no longer.

        Raises NotFound.
        """
        seed = secrets.token_hex(SEED_BYTES)
        async with self.engine.begin() as db:
            await find_webhook(db, actor.tenant, webhook_id, lock=True)
            new = {
                "old_seed": webhooks.c.seed,
                "old_until": func.now() + OVERLAP,
                "seed": seed,
                "updated_at": func.now(),
            }
            changed = update(webhooks).where(webhooks.c.webhook_id == webhook_id).values(new)
            row = (await db.execute(changed.returning(webhooks))).one()
            await audit.append(db, actor.tenant, act="webhook.rotate", by=actor.actor_id, webhook=str(webhook_id))
        return Webhook.model_validate(row), secret_of(self._seal, seed)

    async def delete(self, actor: Actor, webhook_id: UUID) -> None:
        """Remove it with all its messages. Raises NotFound."""
        async with self.engine.begin() as db:
            await find_webhook(db, actor.tenant, webhook_id, lock=True)
            await db.execute(deliveries.delete().where(deliveries.c.webhook_id == webhook_id))
            await db.execute(webhooks.delete().where(webhooks.c.webhook_id == webhook_id))
            await audit.append(db, actor.tenant, act="webhook.delete", by=actor.actor_id, webhook=str(webhook_id))


def secret_of(seal: Seal, seed: str) -> str:
    """The secret as receivers are given it: `whsec_` and 32 bytes in base64."""
    return "whsec_" + base64.b64encode(seal(f"webhook:{seed}")).decode()


def _distinct(types: Sequence[FactType]) -> list[str]:
    return list(dict.fromkeys(types))


def _host(url: str) -> str:
    """What of a URL may stand in the audit log: its path may hold a password of its own."""
    return urlsplit(url).netloc
