"""A time-out that holds, whatever is waited for does when it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from casework.patience import LeftBehind, within


class Stubborn:
    """Goes on until it is let go, however often it is cancelled."""

    def __init__(self) -> None:
        self.begun, self.let_go = asyncio.Event(), asyncio.Event()
        self.cancelled = 0

    async def work(self) -> str:
        self.begun.set()
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
        return "done"


async def for_ever() -> str:
    await asyncio.Event().wait()
    return "never"


async def test_what_ends_in_time_is_passed_on() -> None:
    async def break_down() -> None:
        raise ValueError("broken")

    assert await within(5, asyncio.sleep(0, "done")) == "done"
    with pytest.raises(ValueError, match="broken"):
        await within(5, break_down())


async def test_what_does_not_is_stopped() -> None:
    with pytest.raises(TimeoutError) as raised:
        await within(0.01, for_ever())
    assert not isinstance(raised.value, LeftBehind)


async def test_what_will_not_stop_is_left_behind() -> None:
    stubborn = Stubborn()
    with pytest.raises(LeftBehind):
        await within(0.01, stubborn.work(), grace_s=0.01)
    assert stubborn.cancelled == 1
    stubborn.let_go.set()


async def test_the_control_waits_for_it_for_ever() -> None:
    stubborn = Stubborn()

    async def ask() -> str:
        async with asyncio.timeout(0.01):
            return await stubborn.work()

    asking = asyncio.create_task(ask())
    done, _ = await asyncio.wait({asking}, timeout=0.2)
    assert (done, stubborn.cancelled) == (set(), 1)
    stubborn.let_go.set()
    assert await asking == "done"


@pytest.mark.parametrize("ends", ["with a result", "with an error"])
async def test_what_comes_while_it_is_stopped_is_taken(ends: str) -> None:
    async def tidy_up() -> str:
        try:
            return await for_ever()
        except asyncio.CancelledError:
            if ends == "with an error":
                raise ValueError("it had happened") from None
            return "it had happened"

    taken = within(0.01, tidy_up())
    if ends == "with an error":
        with pytest.raises(ValueError, match="it had happened"):
            await taken
    else:
        assert await taken == "it had happened"


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_cancelled_caller_stops_it_too(stubborn: bool) -> None:
    worker = Stubborn()
    stopped = asyncio.Event()

    async def obedient() -> str:
        worker.begun.set()
        try:
            return await for_ever()
        finally:
            stopped.set()

    work: Coroutine[Any, Any, str] = worker.work() if stubborn else obedient()
    calling = asyncio.create_task(within(60, work, grace_s=0.01))
    await worker.begun.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert stopped.is_set() is not stubborn
    worker.let_go.set()
