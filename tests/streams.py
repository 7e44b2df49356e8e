"""Streams of events as their readers get them: over a real socket, parsed by the rules of server-sent events."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx

from casework.execution import Mode, Status
from casework.journal import NewEvent, write_events
from casework.store import close
from server.service import Service
from server.up import listen, serving
from tests.rig import OLGA
from tests.web import open_web

STREAM = "text/event-stream"


@dataclass(frozen=True)
class Told:
    """One event of a stream."""

    type: str
    data: Any
    seq: int | None
    """None: it had no id."""


async def told(lines: AsyncIterator[str]) -> AsyncIterator[Told]:
    """The events in a stream's lines."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if "event" in fields:
            seq = int(fields["id"]) if "id" in fields else None
            yield Told(fields["event"], json.loads(fields["data"]), seq)
        fields = {}


@asynccontextmanager
async def opened(
    url: str, key: str, execution_id: UUID | str, headers: Mapping[str, str] | None = None, **query: Any
) -> AsyncIterator[httpx.Response]:
    """A stream somebody follows; leaving cuts it off."""
    asked = {"Authorization": f"Bearer {key}", "Accept": STREAM, **(headers or {})}
    async with (
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client,
        client.stream("GET", f"/executions/{execution_id}/events", headers=asked, params=query) as response,
    ):
        assert (response.status_code, response.headers["content-type"]) == (200, f"{STREAM}; charset=utf-8")
        yield response


@dataclass
class Site:
    """The application on a socket, without a worker: a test writes the stories itself."""

    url: str
    service: Service
    keys: dict[str, str]

    @asynccontextmanager
    async def follow(
        self, execution_id: UUID, headers: Mapping[str, str] | None = None, **query: Any
    ) -> AsyncIterator[AsyncIterator[Told]]:
        async with opened(self.url, self.keys["olga"], execution_id, headers, **query) as response:
            yield told(response.aiter_lines())

    async def get(self, path: str, who: str = "olga", headers: Mapping[str, str] | None = None) -> httpx.Response:
        asked = {"Authorization": f"Bearer {self.keys[who]}", **(headers or {})}
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            return await client.get(path, headers=asked)

    async def begin(self) -> UUID:
        """An execution whose story has its first line."""
        execution, _ = await self.service.store.create(OLGA, "support", "test", Mode.COPILOT, {})
        return execution.execution_id

    async def write(self, execution_id: UUID, *types: str, **data: Any) -> None:
        """Events, in one transaction."""
        async with self.service.resources.engine.begin() as db:
            await write_events(db, execution_id, [NewEvent(type_, data) for type_ in types])

    async def end(self, execution_id: UUID) -> None:
        async with self.service.resources.engine.begin() as db:
            await close(db, execution_id, Status.SUCCEEDED, {}, [NewEvent("run.finished", {})])

    async def write_much(self, execution_id: UUID, events: int, dice: random.Random) -> None:
        """Many small transactions, and the end."""
        left = events
        while left:
            batch = min(left, dice.randint(1, 4))
            await self.write(execution_id, *["step.done"] * batch, left=left)
            left -= batch
        await self.end(execution_id)

    async def kept(self, execution_id: UUID) -> list[Told]:
        """The story as its table has it."""
        found = await self.service.store.events("default", execution_id, limit=100_000)
        return [Told(event.type, event.model_dump(mode="json"), event.seq) for event in found]


@asynccontextmanager
async def site_on(service: Service) -> AsyncIterator[Site]:
    keys = (await open_web(service)).keys
    with listen("127.0.0.1", 0) as listener:
        async with serving(service, listener, worker=False) as url:
            yield Site(url, service, keys)
