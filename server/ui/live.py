"""What tells an open page that it is out of date: one stream of server-sent events, from the process's one listener.

    event: inbox     what waits for this person has changed
    event: case      the case that the page shows has a new event; data: its number
    event: token     what a model is saying there

It carries no content but tokens: the page asks for its parts, as the person it is signed in as.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from casework.actor import Actor
from casework.database import DATABASE_AWAY
from casework.execution import Execution
from casework.telemetry import logger
from server.auth import Live, Person
from server.service import Service
from server.streaming import HEARTBEAT, LIFETIME_S, RECONNECT, EventStream, block

log = logger(__name__)
router = APIRouter(include_in_schema=False)

PAUSE_S = 0.25
"""Between two looks, however much happens."""

Marks = dict[str, str]
"""By topic, what changes when the page is out of date."""


@router.get("/desk/live")
async def live(
    service: Live,
    actor: Person,
    execution_id: UUID | None = None,
    mark: Annotated[str, Query(max_length=64)] = "",
    seq: Annotated[str, Query(max_length=20)] = "",
) -> EventStream:
    """`mark`, `seq`: what the page was drawn with; what has changed since then is told at once.

    Raises NotFound for a case that is not there, or not theirs to see.
    """
    await _marks(service, actor, execution_id)
    return EventStream(_changes(service, actor, execution_id, {"inbox": mark, "case": seq}))


async def _changes(service: Service, actor: Actor, execution_id: UUID | None, seen: Marks) -> AsyncGenerator[str]:
    listener = service.listener
    heartbeat_s = service.resources.settings.stream_heartbeat.total_seconds()
    clock = asyncio.get_running_loop().time
    ends_at = clock() + LIFETIME_S
    yield RECONNECT
    with ExitStack() as ears:
        ear = ears.enter_context(listener.attend(None))
        speech = ears.enter_context(listener.attend(execution_id, tokens=True)) if execution_id else None
        if speech is not None:
            speech.news = ear.news
        ear.news.set()  # for what happened between drawing the page and here
        while not listener.closed and clock() < ends_at:
            heard = await listener.news(ear, heartbeat_s)
            for token in speech.take_tokens() if speech is not None else ():
                yield block("token", token)
            try:
                marks = await _marks(service, actor, execution_id)
            except DATABASE_AWAY as error:
                log.warning("live.database_away", error=type(error).__name__)
                marks = {}
            for topic in marks:
                if marks[topic] != seen[topic]:
                    yield block(topic, marks[topic])
            seen = {**seen, **marks}
            if heard:
                await asyncio.sleep(PAUSE_S)
            else:
                yield HEARTBEAT


async def _marks(service: Service, actor: Actor, execution_id: UUID | None) -> Marks:
    marks = {"inbox": (await service.inbox.waiting(actor)).mark}
    if execution_id is not None:
        execution: Execution = await service.store.get(actor.tenant, execution_id)
        marks["case"] = str(execution.event_seq)
    return marks
