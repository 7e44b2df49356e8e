"""What senders do with messages to webhooks: claim one, and record what came of it. Tried for about three days.

A sender claims a message for a while, in one statement, and sends it with no transaction open. If it dies, the claim
runs out and another sends it again, under the same id. `attempts` is the fence: what a late sender has to say about an
attempt that is no longer the last changes nothing.

Lock order: webhook row, delivery row, audit head.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework.actor import SYSTEM
from casework.deliveries import DeliveryState, switch_off
from casework.egress import Answer
from casework.tables import deliveries, webhooks

SCHEDULE: Sequence[timedelta] = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
"""Pause after each attempt that failed: the one that Standard Webhooks recommends, over three days."""
JITTER = 0.2
"""At most this share is added to a pause, so that what failed together does not come back together."""
LONGEST_PAUSE = timedelta(hours=24)
"""However long a receiver asks to be left alone."""
CLAIM_TIMEOUTS = 1.5
"""How long a claim holds, in time-outs of one request: longer than a sender may be at it."""
GONE, TOO_MANY, UNAVAILABLE = 410, 429, 503

# One pass over the webhooks, in a new order each time: a receiver that is slow or dead, however much waits for it,
# takes no more than its share of the senders.
CLAIM = text(
    """
    WITH due AS (
        SELECT d.delivery_id
        FROM (
            SELECT w.webhook_id, :at_once - coalesce(b.sending, 0) AS free
            FROM casework.webhooks w
            LEFT JOIN unnest(cast(:busy AS uuid[]), cast(:sending AS int[])) AS b (webhook_id, sending)
              ON b.webhook_id = w.webhook_id
            WHERE w.enabled AND (w.paused_until IS NULL OR w.paused_until <= now())
            ORDER BY random()) w
        CROSS JOIN LATERAL (
            SELECT delivery_id FROM casework.deliveries
            WHERE webhook_id = w.webhook_id AND state = 'pending' AND next_at <= now()
              AND (claimed_until IS NULL OR claimed_until <= now())
            ORDER BY next_at LIMIT w.free FOR UPDATE SKIP LOCKED) d
        LIMIT :free)
    UPDATE casework.deliveries d SET attempts = d.attempts + 1, claimed_until = now() + :claim
    FROM due, casework.webhooks w
    WHERE d.delivery_id = due.delivery_id AND w.webhook_id = d.webhook_id
    RETURNING d.delivery_id, d.webhook_id, d.type, d.data, d.created_at, d.attempts, w.url, w.seed,
              CASE WHEN w.old_until > now() THEN w.old_seed END AS old_seed"""
)


@dataclass(frozen=True)
class Outgoing:
    """A message that this sender, and no other, sends now."""

    delivery_id: UUID
    webhook_id: UUID
    type: str
    data: Mapping[str, Any]
    created_at: datetime
    attempt: int
    """1 for the first; the fence of what is recorded about it."""
    url: str
    seeds: Sequence[str]
    """Of the secrets to sign with; two while a new secret takes over."""


class Attempts:
    """Claims and settles messages. Safe to share; every method is one transaction."""

    def __init__(self, engine: AsyncEngine, timeout: timedelta, schedule: Sequence[timedelta] = SCHEDULE) -> None:
        self.engine = engine
        self.timeout = timeout
        self.schedule = schedule

    async def claim(self, sending: Mapping[UUID, int], *, free: int, at_once: int) -> list[Outgoing]:
        """Take up to `free` due messages for as long as one request may take, never more than `at_once` per webhook.

        `sending`: how many of each webhook this sender has under way.
        """
        claimed = {
            "busy": list(sending),
            "sending": list(sending.values()),
            "at_once": at_once,
            "free": free,
            "claim": self.timeout * CLAIM_TIMEOUTS,
        }
        async with self.engine.begin() as db:
            rows = (await db.execute(CLAIM, claimed)).all()
        return [
            Outgoing(
                delivery_id=row.delivery_id,
                webhook_id=row.webhook_id,
                type=row.type,
                data=row.data,
                created_at=row.created_at,
                attempt=row.attempts,
                url=row.url,
                seeds=[seed for seed in (row.seed, row.old_seed) if seed is not None],
            )
            for row in rows
        ]

    async def settle(self, sent: Outgoing, answer: Answer) -> DeliveryState | None:
        """Record what came of an attempt. None: nothing was recorded, it was taken over or deleted meanwhile."""
        async with self.engine.begin() as db:
            of = webhooks.c.webhook_id == sent.webhook_id
            webhook = (await db.execute(select(webhooks).where(of).with_for_update(key_share=True))).one_or_none()
            if webhook is None:
                return None
            pause = self._pause(sent, answer) if webhook.enabled else None
            state = DeliveryState.PENDING if pause is not None else DeliveryState.FAILED
            if answer.ok:
                state = DeliveryState.DELIVERED
            if not await _record(db, sent, answer, state, pause):
                return None
            if answer.ok:
                await db.execute(update(webhooks).where(of).values(delivered_at=func.now()))
            elif webhook.enabled:
                await self._heed(db, webhook, sent, answer, pause)
        return state

    def _pause(self, sent: Outgoing, answer: Answer) -> timedelta | None:
        """How long to leave a message that did not arrive; None: for good."""
        if answer.status == GONE or sent.attempt > len(self.schedule):
            return None
        planned = self.schedule[sent.attempt - 1] * random.uniform(1, 1 + JITTER)
        return min(max(planned, answer.retry_after or planned), LONGEST_PAUSE)

    async def _heed(
        self, db: AsyncConnection, webhook: Row[Any], sent: Outgoing, answer: Answer, pause: timedelta | None
    ) -> None:
        """What a failed attempt means for the webhook as a whole."""
        lasting = sent.attempt == len(self.schedule) + 1
        unheard = webhook.delivered_at is None or webhook.delivered_at < sent.created_at
        if answer.status == GONE:
            await switch_off(db, webhook.tenant, webhook.webhook_id, "the receiver answered 410 Gone", SYSTEM)
        elif lasting and unheard:
            await switch_off(db, webhook.tenant, webhook.webhook_id, "nothing arrived there for days", SYSTEM)
        elif pause is not None and answer.retry_after is not None and answer.status in (TOO_MANY, UNAVAILABLE):
            rested = update(webhooks).where(webhooks.c.webhook_id == webhook.webhook_id)
            await db.execute(rested.values(paused_until=func.now() + min(answer.retry_after, LONGEST_PAUSE)))


async def _record(
    db: AsyncConnection, sent: Outgoing, answer: Answer, state: DeliveryState, pause: timedelta | None
) -> bool:
    """Write down an attempt, unless a later one was begun."""
    attempt = update(deliveries).where(
        deliveries.c.delivery_id == sent.delivery_id, deliveries.c.attempts == sent.attempt
    )
    over = state is not DeliveryState.PENDING
    values: dict[str, Any] = {
        "state": state,
        "claimed_until": None,
        "last_status": answer.status,
        "last_error": None if answer.ok else answer.error or f"HTTP {answer.status}",
        "finished_at": func.now() if over else None,
    }
    if not over:
        values["next_at"] = func.now() + pause
    return bool((await db.execute(attempt.values(**values))).rowcount)
