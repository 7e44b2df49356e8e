"""Sends the messages of webhooks, beside a worker's executions: woken by the commit of what there is to tell."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from standardwebhooks import Webhook as Signer

from casework.attempts import Attempts, Outgoing
from casework.egress import Egress
from casework.faults import fault
from casework.listening import notices
from casework.outbox import CHANNEL
from casework.resources import Resources
from casework.telemetry import logger
from casework.webhooks import Seal, secret_of

log = logger(__name__)

AT_ONCE = 64
"""Requests under way in one process."""
AT_ONCE_PER_WEBHOOK = 4
"""Of these to one webhook: a receiver that is dead or slow takes no more."""
LOOK_EVERY = timedelta(seconds=5)
"""How often to look for what is due again. New messages do not wait for it."""
DEAF_PAUSE_S = 1.0
"""Between two tries to hear again."""
STOP_TIMEOUT_S = 1.0
"""How long a stopping process waits for answers; what is under way then is sent again by another."""


class Sender:
    """Sends what is due. One per worker process."""

    def __init__(
        self,
        attempts: Attempts,
        egress: Egress,
        seal: Seal,
        resources: Resources,
        look_every: timedelta = LOOK_EVERY,
    ) -> None:
        self.attempts = attempts
        self.egress = egress
        self.look_every = look_every
        self._seal = seal
        self._resources = resources
        self._sending: dict[asyncio.Task[None], UUID] = {}
        self._look = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send until left; then take nothing more, and wait a moment for what is under way."""
        tasks = [
            asyncio.create_task(self._send_due(), name="sender"),
            asyncio.create_task(self._hear(), name="hearing"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            under_way = list(self._sending)
            if under_way:
                await asyncio.wait(under_way, timeout=STOP_TIMEOUT_S)
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def _send_due(self) -> None:
        while True:
            self._look.clear()
            try:
                await self._take_up()
            except Exception:
                log.exception("sender.failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(self.look_every.total_seconds()):
                    await self._look.wait()

    async def _take_up(self) -> None:
        free = AT_ONCE - len(self._sending)
        if not free:
            return
        for message in await self.attempts.claim(
            Counter(self._sending.values()), free=free, at_once=AT_ONCE_PER_WEBHOOK
        ):
            task = asyncio.create_task(self._send(message), name=f"webhook {message.delivery_id}")
            self._sending[task] = message.webhook_id
            task.add_done_callback(self._sent)

    async def _send(self, message: Outgoing) -> None:
        body = body_of(message)
        headers = headers_of(message, body, self._resources.clock(), self._seal)
        await fault("before_post")
        answer = await self.egress.post(message.url, headers, body, self.attempts.timeout)
        await fault("after_post")
        state = await self.attempts.settle(message, answer)
        log.info(
            "webhook.answered",
            webhook_id=str(message.webhook_id),
            delivery_id=str(message.delivery_id),
            type=message.type,
            attempt=message.attempt,
            status=answer.status,
            error=answer.error,
            state=state,
        )

    def _sent(self, task: asyncio.Task[None]) -> None:
        """Free its place. An attempt whose outcome could not be recorded is made again when its claim has run out."""
        webhook_id = self._sending.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("webhook.not_recorded", webhook_id=str(webhook_id), exc_info=error)
        self._look.set()

    async def _hear(self) -> None:
        """Look when a commit brings something to send, for ever, over a new connection when one is lost."""
        while True:
            with suppress(psycopg.Error):
                async for _ in notices(self._resources.database_url, self._resources.pool, CHANNEL):
                    self._look.set()
            log.warning("sender.deaf")
            await asyncio.sleep(DEAF_PAUSE_S)


def body_of(message: Outgoing) -> bytes:
    """As Standard Webhooks has it; the same bytes in all attempts."""
    body: dict[str, Any] = {
        "type": message.type,
        "timestamp": message.created_at.astimezone(UTC).isoformat(),
        "data": dict(message.data),
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def headers_of(message: Outgoing, body: bytes, now: datetime, seal: Seal) -> dict[str, str]:
    """Signed with each secret that counts now."""
    message_id = str(message.delivery_id)
    return {
        "content-type": "application/json",
        "user-agent": "Casework",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(_signatures(message_id, message.seeds, body, now, seal)),
    }


def _signatures(message_id: str, seeds: Sequence[str], body: bytes, now: datetime, seal: Seal) -> list[str]:
    return [Signer(secret_of(seal, seed)).sign(message_id, now, body.decode()) for seed in seeds]
