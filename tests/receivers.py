"""Receivers of webhooks: real HTTP servers on loopback that answer, or fail to, as a test says."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from standardwebhooks import Webhook as Verifier

from casework.actor import Actor, Role
from casework.attempts import Attempts
from casework.deliveries import Deliveries, Delivery, DeliveryState
from casework.egress import Egress, Lookup
from casework.execution import Execution, Mode
from casework.outbox import FactType
from casework.webhooks import Webhook, Webhooks
from server.sending import Sender
from server.service import Service
from tests.rig import OLGA

AMY = Actor(actor_id="amy", roles=frozenset({Role.ADMIN}))
PATIENCE_S = 20.0
QUICK: Sequence[timedelta] = (timedelta(milliseconds=10),) * 3
"""Four attempts, one right after the other."""
LOOK_EVERY = timedelta(milliseconds=20)


@dataclass(frozen=True)
class Reply:
    """How one request is answered."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    endless: bool = False
    """The body never ends."""
    hangs: bool = False
    """Nothing is answered."""


@dataclass(frozen=True)
class Got:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> dict[str, Any]:
        """The body, as the library reads it. Raises WebhookVerificationError."""
        message: dict[str, Any] = Verifier(secret).verify(self.body, dict(self.headers))
        return message


@dataclass
class Receiver:
    """Whoever listens at `url`."""

    url: str = ""
    got: list[Got] = field(default_factory=list)
    replies: deque[Reply] = field(default_factory=deque)
    """For the next requests; after them, `usual`."""
    usual: Reply = field(default_factory=Reply)
    most_at_once: int = 0
    _open: int = 0
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def received(self, count: int) -> list[Got]:
        """Until so many requests have come."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: len(self.got) >= count)
        return list(self.got)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        self.most_at_once = max(self.most_at_once, self._open)
        try:
            reply = await self._take(reader)
            if reply.hangs:
                await reader.read()  # until the sender gives up
            else:
                await _answer(writer, reply)
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the sender has left
        finally:
            self._open -= 1
            writer.close()

    async def _take(self, reader: asyncio.StreamReader) -> Reply:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        async with self._news:
            self.got.append(Got(head[0].split()[1], headers, body))
            self._news.notify_all()
        return self.replies.popleft() if self.replies else self.usual


async def _answer(writer: asyncio.StreamWriter, reply: Reply) -> None:
    lines = [f"HTTP/1.1 {reply.status} As told", *(f"{name}: {value}" for name, value in reply.headers.items())]
    length = [] if reply.endless or reply.status == 204 else ["Content-Length: 0"]
    writer.write("\r\n".join([*lines, *length, "", ""]).encode())
    await writer.drain()
    while reply.endless:
        writer.write(b"x" * 65536)
        await writer.drain()


@asynccontextmanager
async def receiving(usual: Reply | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver(usual=usual or Reply())
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    receiver.url = f"http{'s' if tls else ''}://127.0.0.1:{port}/hook"
    try:
        yield receiver
    finally:
        server.close()


@dataclass
class Office:
    """Webhooks that may go to loopback, and a sender that does not wait long."""

    service: Service
    egress: Egress
    attempts: Attempts

    @property
    def webhooks(self) -> Webhooks:
        return Webhooks(self.service.resources.engine, self.egress, self.service.identity.seal)

    @property
    def deliveries(self) -> Deliveries:
        return self.service.deliveries

    def sender(self, look_every: timedelta = LOOK_EVERY) -> Sender:
        return Sender(self.attempts, self.egress, self.service.identity.seal, self.service.resources, look_every)

    async def add(self, url: str, *types: FactType, by: Actor = AMY) -> tuple[Webhook, str]:
        return await self.webhooks.add(by, url, types or tuple(FactType))

    async def fact(self, by: Actor = OLGA) -> Execution:
        """An execution was accepted."""
        execution, _ = await self.service.store.create(by, "support", "v1", Mode.COPILOT, {"goal": "planted words"})
        return execution

    async def of(self, webhook: Webhook, tenant: str = "default") -> list[Delivery]:
        """Its messages, oldest first."""
        return (await self.deliveries.page(tenant, webhook.webhook_id, limit=200))[::-1]

    async def settled(self, webhook: Webhook, *states: DeliveryState) -> list[Delivery]:
        """Until its messages stand so, oldest first."""
        found: list[Delivery] = []
        async with asyncio.timeout(PATIENCE_S):
            while [delivery.state for delivery in found] != list(states):
                await asyncio.sleep(0.01)
                found = await self.of(webhook)
        return found

    async def attempted(self, webhook: Webhook, times: int) -> Delivery:
        """Until its only message was tried so often and that is recorded."""
        settled = "SELECT attempts FROM casework.deliveries WHERE webhook_id = :w AND claimed_until IS NULL"
        async with asyncio.timeout(PATIENCE_S):
            while (await self.scalar(settled, w=webhook.webhook_id) or 0) < times:  # noqa: ASYNC110 - in the database
                await asyncio.sleep(0.01)
        (delivery,) = await self.of(webhook)
        return delivery

    async def scalar(self, statement: str, **parameters: Any) -> Any:
        async with self.service.resources.engine.connect() as db:
            return await db.scalar(text(statement), parameters)

    async def execute(self, statement: str, **parameters: Any) -> None:
        async with self.service.resources.engine.begin() as db:
            await db.execute(text(statement), parameters)

    async def audited(self) -> list[str]:
        """Acts of webhooks in the audit log, in order."""
        async with self.service.resources.engine.connect() as db:
            acts = await db.scalars(text("SELECT body::jsonb ->> 'act' FROM casework.audit ORDER BY tenant, seq"))
            return [act for act in acts if act.startswith("webhook.")]


def office_of(
    service: Service,
    *,
    timeout: timedelta = timedelta(seconds=5),
    schedule: Sequence[timedelta] = QUICK,
    lookup: Lookup | None = None,
    tls: ssl.SSLContext | None = None,
) -> Office:
    egress = Egress(private=True, lookup=lookup, tls=tls)
    return Office(service, egress, Attempts(service.resources.engine, timeout, schedule))


def ids(received: Sequence[Got]) -> list[UUID]:
    return [UUID(got.message_id) for got in received]
