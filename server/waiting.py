"""`Prefer: wait=N` (RFC 7240): answer when the execution waits for a person or is over, but after N seconds at most."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Header

from casework.database import DATABASE_AWAY
from casework.errors import InputInvalid
from casework.execution import Execution, Status
from casework.listening import Ear
from casework.telemetry import logger
from server.service import Service

log = logger(__name__)

LONGEST_WAIT_S = 60
LONGEST_PAUSE_S = 1.0
"""Between two looks at the row, and at whether the caller is still there."""

MOVING = frozenset({Status.QUEUED, Status.RUNNING})
"""It will go on by itself."""


async def preferred_wait(
    prefer: Annotated[
        str | None,
        Header(
            alias="Prefer",
            description="`wait=N`: answer as soon as the execution waits for a person or is over, after N (0 to 60) "
            "seconds at the latest.",
            examples=["wait=30"],
        ),
    ] = None,
) -> int | None:
    """Seconds the caller would wait; None: answer at once. Other preferences are ignored, as the RFC says.

    Raises InputInvalid for a wait that is not a number from 0 to 60.
    """
    for preference in (prefer or "").split(","):
        name, _, value = preference.partition("=")
        if name.strip().lower() != "wait":
            continue
        if not re.fullmatch(r"\d{1,3}", value.strip()) or int(value) > LONGEST_WAIT_S:
            raise InputInvalid(f"Prefer: wait must be 0 to {LONGEST_WAIT_S} seconds, e.g. wait=30", field="Prefer")
        return int(value)
    return None


async def settled(
    service: Service, execution: Execution, ear: Ear, seconds: int, gone: Callable[[], Awaitable[bool]]
) -> Execution:
    """The execution once it no longer moves, or as it stands after `seconds` or when the caller has gone.

    `ear` listens since before `execution` was read, so that no news is missed.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while execution.status in MOVING and (left := deadline - loop.time()) > 0 and not service.listener.closed:
        if not await service.listener.news(ear, min(left, LONGEST_PAUSE_S)):
            if await gone():
                break
            ear.status = None  # nothing was heard for long: look
        if ear.status not in MOVING:
            execution = await _look(service, execution)
    return execution


async def _look(service: Service, execution: Execution) -> Execution:
    """As it stands; as it stood while the database is away: it was accepted, and a 503 would say that it was not."""
    try:
        return await service.store.get(execution.tenant, execution.execution_id)
    except DATABASE_AWAY as error:
        log.warning("wait.database_away", error=type(error).__name__)
        return execution
