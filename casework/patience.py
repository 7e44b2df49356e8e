"""A time-out that holds even when what is waited for will not be stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from casework.telemetry import logger

log = logger(__name__)

GRACE_S = 1.0
"""How long something that was told to stop may take to tidy up."""

Result = TypeVar("Result")


class LeftBehind(TimeoutError):
    """What was waited for did not stop when it was told to. It goes on by itself, and nobody hears of its end."""


async def within(seconds: float, work: Coroutine[Any, Any, Result], grace_s: float = GRACE_S) -> Result:
    """Wait so long for `work`, then stop it. Raises TimeoutError; LeftBehind when it does not stop.

    `asyncio.timeout` only asks: a coroutine that swallows its cancellation is waited for until it ends by itself.
    A result that comes while it is being stopped is taken. A cancelled caller stops it in the same way.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            await _stop(task, grace_s)
    if not task.done():
        raise LeftBehind
    if task.cancelled():
        raise TimeoutError
    return task.result()


async def _stop(task: asyncio.Task[Any], grace_s: float) -> None:
    task.add_done_callback(_heard)
    task.cancel()
    await asyncio.wait({task}, timeout=grace_s)
    if not task.done():
        log.error("task.left_behind", task=getattr(task.get_coro(), "__qualname__", "?"))


def _heard(task: asyncio.Task[Any]) -> None:
    """Take note of how it ended: asyncio complains of errors that nobody has looked at."""
    if not task.cancelled():
        task.exception()
