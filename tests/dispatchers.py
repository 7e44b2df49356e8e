"""Queues that are not ours, behind the port: the smallest one that works, and one as bad as a queue may be.

`CASEWORK_QUEUE=tests.dispatchers:polling casework worker` runs one.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from casework.dispatch import Advance
from casework.resources import Resources
from casework.telemetry import logger

log = logger(__name__)


class Consumer(ABC):
    """The half of the port that workers need, over whatever says who is next."""

    @abstractmethod
    async def following(self) -> UUID:
        """Wait for the next wake-up."""

    async def consume(self, advance: Advance, concurrency: int, stop_within: timedelta) -> None:
        hands = asyncio.Semaphore(concurrency)
        working: set[asyncio.Task[None]] = set()
        try:
            while True:
                await hands.acquire()
                task = asyncio.create_task(self._carry_out(advance, await self.following(), hands))
                working.add(task)
                task.add_done_callback(working.discard)
        finally:
            if working:
                await asyncio.wait(working, timeout=stop_within.total_seconds())
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    async def _carry_out(self, advance: Advance, execution_id: UUID, hands: asyncio.Semaphore) -> None:
        try:
            await advance(execution_id)
        except Exception:
            log.exception("advance.failed")
        finally:
            hands.release()

    async def tidy(self, keep: timedelta, *, dry_run: bool = False) -> Mapping[str, int]:
        return {}


Connection = psycopg.AsyncConnection[Any]
OPEN = (TransactionStatus.ACTIVE, TransactionStatus.INTRANS, TransactionStatus.INERROR)
RUNNABLE = """
    SELECT execution_id FROM casework.executions
    WHERE (status = 'queued' AND wake_at <= now() OR status = 'running' AND lease_until < now()) AND source = 'api'
    ORDER BY random() LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED"""


class Polling(Consumer):
    """No queue at all: workers look who may run. A wake-up is the row that says so."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def wake(self, db: Connection, execution_id: UUID, delay: timedelta = timedelta(0)) -> None:
        pass

    async def following(self) -> UUID:
        while True:
            async with self.engine.begin() as db:
                found: UUID | None = await db.scalar(text(RUNNABLE))
            if found is not None:
                return found
            await asyncio.sleep(0.05)


@asynccontextmanager
async def polling(resources: Resources) -> AsyncIterator[Polling]:
    yield Polling(resources.engine)


class InMemory(Consumer):
    """As an outside queue is: it knows nothing of our transactions, so it sends when they are over."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[UUID] = asyncio.Queue()
        self.sending: set[asyncio.Task[None]] = set()

    async def wake(self, db: Connection, execution_id: UUID, delay: timedelta = timedelta(0)) -> None:
        self.begin(self.send_after(db, execution_id, delay))

    async def following(self) -> UUID:
        return await self.sent.get()

    async def send_after(self, db: Connection, execution_id: UUID, delay: timedelta) -> None:
        while db.info.transaction_status in OPEN:  # noqa: ASYNC110 - psycopg has no event for it
            await asyncio.sleep(0.002)
        await asyncio.sleep(delay.total_seconds())
        await self.sent.put(execution_id)

    def begin(self, sending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(sending)
        self.sending.add(task)  # or it may be collected while it waits
        task.add_done_callback(self.sending.discard)


@asynccontextmanager
async def in_memory(resources: Resources) -> AsyncIterator[InMemory]:
    yield InMemory()


class Careless(InMemory):
    """Every third wake-up is lost, others come too early, late, out of order and several times."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)

    async def wake(self, db: Connection, execution_id: UUID, delay: timedelta = timedelta(0)) -> None:
        if self.random.random() < 1 / 3:
            return
        await self.sent.put(execution_id)  # before the commit
        for _ in range(self.random.randrange(4)):
            await super().wake(db, execution_id, timedelta(seconds=self.random.random()))


@asynccontextmanager
async def careless(resources: Resources) -> AsyncIterator[Careless]:
    yield Careless(seed=7)


class Forgetful(InMemory):
    """Loses the wake-up of every fact: only what the reconciler asks for again and again arrives, at the third time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: Counter[UUID] = Counter()

    async def wake(self, db: Connection, execution_id: UUID, delay: timedelta = timedelta(0)) -> None:
        self.asked[execution_id] += 1
        if self.asked[execution_id] % 3 == 0:
            await super().wake(db, execution_id, delay)


@asynccontextmanager
async def forgetful(resources: Resources) -> AsyncIterator[Forgetful]:
    yield Forgetful()
