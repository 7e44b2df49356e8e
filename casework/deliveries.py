"""Messages to webhooks as admins see them: what was told, what came of it, and once more by hand.

casework/attempts.py has what senders do with them. Lock order: webhook row, delivery row, audit head.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Row, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework import audit
from casework.actor import Actor
from casework.errors import Conflict, NotFound
from casework.outbox import CHANNEL
from casework.tables import deliveries, webhooks

TEST_TYPE = "webhook.test"
PRUNED_AT_ONCE = 1000
NOTIFY = select(func.pg_notify(CHANNEL, ""))


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    """The receiver answered with a 2xx."""
    FAILED = "failed"
    """Given up; it can be tried again by hand."""


class Delivery(BaseModel):
    """One message to one webhook, and what came of it so far."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    delivery_id: UUID
    """The `webhook-id` header of the message, in all its attempts."""
    webhook_id: UUID
    type: str
    data: dict[str, Any]
    state: DeliveryState
    attempts: int
    next_at: datetime | None
    """When it is tried next; null: not by itself."""
    last_status: int | None
    """HTTP status of the last attempt's answer; null: there was none."""
    last_error: str | None
    """Why the last attempt failed; null: it did not, or there was none."""
    created_at: datetime
    """When the fact happened; the message's `timestamp`."""
    finished_at: datetime | None


class Deliveries:
    """Reads messages and sends them by hand. Safe to share; every method is one transaction."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def page(
        self,
        tenant: str,
        webhook_id: UUID,
        *,
        limit: int,
        before: tuple[datetime, UUID] | None = None,
        state: DeliveryState | None = None,
    ) -> list[Delivery]:
        """Newest first. `before`: (created_at, delivery_id) of the last one of the previous page. Raises NotFound."""
        where: list[ColumnElement[bool]] = [deliveries.c.webhook_id == webhook_id]
        if state is not None:
            where.append(deliveries.c.state == state)
        if before is not None:
            where.append(tuple_(deliveries.c.created_at, deliveries.c.delivery_id) < tuple_(*before))
        newest = deliveries.c.created_at.desc(), deliveries.c.delivery_id.desc()
        async with self.engine.connect() as db:
            await find_webhook(db, tenant, webhook_id)
            return [
                _shown(row) for row in await db.execute(select(deliveries).where(*where).order_by(*newest).limit(limit))
            ]

    async def test(self, tenant: str, webhook_id: UUID) -> Delivery:
        """Queue a message that says nothing but that it is a test. Raises NotFound, Conflict when it is off."""
        async with self.engine.begin() as db:
            await _find_enabled(db, tenant, webhook_id)
            about = {"webhook_id": str(webhook_id), "path": f"/webhooks/{webhook_id}"}
            made = insert(deliveries).values(delivery_id=uuid4(), webhook_id=webhook_id, type=TEST_TYPE, data=about)
            row = (await db.execute(made.returning(deliveries))).one()
            await db.execute(NOTIFY)
        return _shown(row)

    async def retry(self, tenant: str, webhook_id: UUID, delivery_id: UUID) -> Delivery:
        """Try a message once more, now, whatever became of it; then as its schedule goes on, if any of it is left.

        Raises NotFound; Conflict while it is being sent, or when the webhook is off.
        """
        which = deliveries.c.webhook_id == webhook_id, deliveries.c.delivery_id == delivery_id
        async with self.engine.begin() as db:
            await _find_enabled(db, tenant, webhook_id)
            row = (
                await db.execute(
                    select(deliveries, (deliveries.c.claimed_until > func.now()).label("claimed"))
                    .where(*which)
                    .with_for_update()
                )
            ).one_or_none()
            if row is None:
                raise NotFound(f"there is no delivery {delivery_id}")
            if row.claimed:
                raise Conflict(f"delivery {delivery_id} is being sent right now; see first what comes of it")
            again = (
                update(deliveries)
                .where(*which)
                .values(state=DeliveryState.PENDING, next_at=func.now(), finished_at=None)
            )
            row = (await db.execute(again.returning(deliveries))).one()
            await db.execute(NOTIFY)
        return _shown(row)

    async def prune(self, older_than: timedelta) -> int:
        """Forget the oldest messages of facts that far back, whatever became of them. Returns how many."""
        async with self.engine.begin() as db:
            old = select(deliveries.c.delivery_id).where(deliveries.c.created_at < func.now() - older_than)
            old = old.order_by(deliveries.c.created_at).limit(PRUNED_AT_ONCE)
            return (await db.execute(deliveries.delete().where(deliveries.c.delivery_id.in_(old)))).rowcount


async def find_webhook(db: AsyncConnection, tenant: str, webhook_id: UUID, *, lock: bool = False) -> Row[Any]:
    """Raises NotFound for an unknown id and for another tenant's alike."""
    query = select(webhooks).where(webhooks.c.webhook_id == webhook_id, webhooks.c.tenant == tenant)
    row = (await db.execute(query.with_for_update() if lock else query)).one_or_none()
    if row is None:
        raise NotFound(f"there is no webhook {webhook_id}")
    return row


async def switch_off(db: AsyncConnection, tenant: str, webhook_id: UUID, why: str | None, by: Actor) -> None:
    """Send nothing there any more; what waited for it has failed. `why`: None when an admin wants it so."""
    off = update(webhooks).where(webhooks.c.webhook_id == webhook_id)
    await db.execute(off.values(enabled=False, off_because=why, updated_at=func.now()))
    waiting = update(deliveries).where(
        deliveries.c.webhook_id == webhook_id, deliveries.c.state == DeliveryState.PENDING
    )
    await db.execute(
        waiting.values(state=DeliveryState.FAILED, last_error="the webhook was switched off", finished_at=func.now())
    )
    await audit.append(
        db, tenant, act="webhook.switch_off", by=by.actor_id, webhook=str(webhook_id), because=why or "asked for"
    )


async def _find_enabled(db: AsyncConnection, tenant: str, webhook_id: UUID) -> None:
    webhook = await find_webhook(db, tenant, webhook_id, lock=True)
    if not webhook.enabled:
        raise Conflict(f"webhook {webhook_id} is switched off; switch it on first")


def _shown(row: Row[Any]) -> Delivery:
    pending = row.state == DeliveryState.PENDING
    return Delivery.model_validate({**row._mapping, "next_at": row.next_at if pending else None})
