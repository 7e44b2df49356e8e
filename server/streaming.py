"""An execution's story as server-sent events: what is stored, then what happens, until it is over.

    id: 7                     an event of the story: its number, its type, and the event as JSON
    event: call.checked
    data: {"seq": 7, …}

    event: token              what a model is saying; not stored, no number. `model.answered` replaces it
    data: {"message_id": …, "specialist": "billing", "at": 0, "text": "We have"}

    event: end                it is over, and everything was sent
    data: {"status": "succeeded"}

A reader that is cut off sends the last number it saw and goes on from there. Rows are read in pages, and only as fast
as the reader takes them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any
from uuid import UUID

from fastapi.responses import StreamingResponse
from starlette.types import Send

from casework.database import DATABASE_AWAY
from casework.execution import OVER, Event, Status
from casework.telemetry import logger
from server.service import Service

log = logger(__name__)

MEDIA_TYPE = "text/event-stream"
PAGE = 100
"""Events read at once."""
LIFETIME_S = 900.0
"""A stream ends after this long, without `end`: the reader comes again, and shows again that it may."""

RECONNECT = "retry: 1000\n\n"
"""Milliseconds a browser waits before it comes again."""
HEARTBEAT = ": still here\n\n"
ONE_LINE = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}
"""Legal in JSON, and no line ends to a browser; but to Python's `splitlines`, and so to many clients."""

DOCUMENTED: dict[str, Any] = {
    "description": "A page of events; as `text/event-stream` the events as they happen.",
    "content": {
        MEDIA_TYPE: {
            "schema": {"type": "string"},
            "example": 'id: 1\nevent: execution.created\ndata: {"seq": 1, …}\n\nevent: end\ndata: {"status": '
            '"succeeded"}\n\n',
        }
    },
}


News = tuple[Status | None, list[Event]]
"""Where the execution stands, None: not known now; and what is new, a page at most."""


class EventStream(StreamingResponse):
    """The answer. Closes its generator when the reader goes, not when it is collected."""

    media_type = MEDIA_TYPE

    def __init__(self, story: AsyncGenerator[str]) -> None:
        # The second header: nginx would hold events back to fill its buffer.
        super().__init__(story, headers={"Vary": "Accept", "X-Accel-Buffering": "no"})
        self.story = story

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self.story):
            await super().stream_response(send)


def prefers_stream(accept: str) -> bool:
    """Whether an Accept header names the event stream, and JSON not above it."""
    weights = dict(_weighted(part) for part in accept.split(","))
    return weights.get(MEDIA_TYPE, 0) > 0 and weights[MEDIA_TYPE] >= weights.get("application/json", 0)


def _weighted(part: str) -> tuple[str, float]:
    """A media type and its weight, 0 to 1; a weight that is no number counts as 0."""
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    given = [value for value in parameters if value.startswith("q=")]
    try:
        return name, float(given[0][2:]) if given else 1.0
    except ValueError:
        return name, 0.0


async def story(service: Service, tenant: str, execution_id: UUID, after: int, seen: News) -> AsyncGenerator[str]:
    """Everything numbered above `after`, as it comes; `seen`: the first page of it."""
    listener = service.listener
    heartbeat_s = service.resources.settings.stream_heartbeat.total_seconds()
    clock = asyncio.get_running_loop().time
    ends_at = clock() + LIFETIME_S
    yield RECONNECT
    with listener.attend(execution_id, tokens=True) as ear:
        ear.news.set()  # for what happened between that page and here
        status, events = seen
        while not listener.closed and clock() < ends_at:
            for token in ear.take_tokens():
                yield block("token", token)
            if events:
                yield "".join(f"id: {event.seq}\n" + block(event.type, event.model_dump_json()) for event in events)
                after = events[-1].seq
            if len(events) < PAGE:
                if status in OVER:
                    yield block("end", json.dumps({"status": status}))
                    return
                if not await listener.news(ear, heartbeat_s):
                    yield HEARTBEAT
            status, events = await _look(service, tenant, execution_id, after)


async def _look(service: Service, tenant: str, execution_id: UUID, after: int) -> News:
    """What is new; nothing while the database is away: a browser would not come again after a 503."""
    try:
        return await service.store.news(tenant, execution_id, after=after, limit=PAGE)
    except DATABASE_AWAY as error:
        log.warning("stream.database_away", error=type(error).__name__)
        return None, []


def block(type_: str, data: str) -> str:
    """One server-sent event."""
    return f"event: {type_}\ndata: {data.translate(ONE_LINE)}\n\n"
