"""One LISTEN connection per process, and whoever waits here for an execution's news.

A notification only says "look": what is new is read from the rows, so a lost one delays and never loses. While the
connection is away everybody looks on their own, once a second, and everybody looks once when it is back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg

from casework import journal, tokens
from casework.resources import Pool
from casework.telemetry import logger

log = logger(__name__)

DEAF_PAUSE_S = 1.0
"""Between two looks while nothing can be heard, and between two tries to hear again."""
CHECK_EVERY_S = 10.0
"""How long nothing is heard before we ask whether the server is still there."""
TOKENS_KEPT = 64
"""Of what models are saying, for one reader: the newest. A slow reader misses some, and memory stays bounded."""

LISTENING_FOR = timedelta(seconds=10)
"""How long the workers believe an announcement: a process that was killed has them talk to nobody no longer."""
ANNOUNCE_EVERY_S = LISTENING_FOR.total_seconds() / 3
WITHDRAW_WITHIN_S = 1.0
"""How long a stopping process tries to take its announcement back."""
ANNOUNCE_PAUSE_S = 0.1
"""Between two announcements, however many streams are opened."""

ANNOUNCE = """INSERT INTO casework.listeners (listener_id, executions, until) VALUES (%s, %s, now() + %s)
ON CONFLICT (listener_id) DO UPDATE SET executions = EXCLUDED.executions, until = EXCLUDED.until"""
WITHDRAW = "DELETE FROM casework.listeners WHERE listener_id = %s OR until < now()"


async def notices(database_url: str, pool: Pool, *channels: str) -> AsyncIterator[psycopg.Notify | None]:
    """What is notified there, over a connection like the pool's that is never given back.

    First None: nothing is missed from here on. Raises psycopg.Error when the connection is lost.
    """
    kwargs: dict[str, Any] = dict(pool.kwargs)  # type: ignore[arg-type]  # it may also be a function; not ours
    async with await pool.connection_class.connect(database_url, **kwargs) as connection:
        for channel in channels:
            await connection.execute(f"LISTEN {channel}".encode())
        yield None
        while True:
            async for notice in connection.notifies(timeout=CHECK_EVERY_S):
                yield notice
            await connection.execute("SELECT 1")  # a silence may also be a connection that is dead


@dataclass(eq=False)
class Ear:
    """One reader of one execution."""

    wants_tokens: bool
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there may be something to look at."""
    status: str | None = None
    """Of the execution, as last heard; None: not heard, look yourself."""
    tokens: deque[str] = field(default_factory=lambda: deque(maxlen=TOKENS_KEPT))
    """JSON of what a model is saying, not handed on yet."""

    def take_tokens(self) -> list[str]:
        taken = list(self.tokens)
        self.tokens.clear()
        return taken


class Listener:
    """Wakes the readers of this process. Hears only inside `running()`; without it they look once a second."""

    def __init__(self, database_url: str, pool: Pool) -> None:
        self.database_url = database_url
        self.pool = pool
        self.hearing = False
        self.closed = False
        """Whether the process is about to stop: readers end what they wait for."""
        self._listener_id = uuid4()
        self._ears: dict[UUID | None, set[Ear]] = {}
        """By execution; None: of every one."""
        self._wanted = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen until left; then every reader is let go."""
        self.closed = False
        tasks = [asyncio.create_task(self._hear(), name="listener"), asyncio.create_task(self._announce(), name="ears")]
        try:
            yield
        finally:
            self.closed = True
            self._wake_all()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.hearing = False

    @contextmanager
    def attend(self, execution_id: UUID | None, *, tokens: bool = False) -> Iterator[Ear]:
        """Be told of an execution's news, or of every one's; with `tokens`, also what one's models are saying."""
        ear = Ear(tokens)
        self._ears.setdefault(execution_id, set()).add(ear)
        if tokens:
            self._wanted.set()
        try:
            yield ear
        finally:
            self._ears[execution_id].discard(ear)
            if not self._ears[execution_id]:
                del self._ears[execution_id]

    async def news(self, ear: Ear, within_s: float) -> bool:
        """Wait until there may be something to look at. False: nothing was heard, `within_s` at the longest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s if self.hearing else min(within_s, DEAF_PAUSE_S)):
                await ear.news.wait()
        heard = ear.news.is_set()
        ear.news.clear()
        return heard

    async def _hear(self) -> None:
        """Hand on what is notified, for ever, over a new connection when one is lost."""
        while True:
            try:
                async for notice in notices(self.database_url, self.pool, journal.CHANNEL, tokens.CHANNEL):
                    if notice is None:
                        self.hearing = True
                        self._wake_all()  # for what was notified before
                    else:
                        self._hand_on(notice)
            except psycopg.Error as error:
                log.warning("listener.lost", error=type(error).__name__)
            self.hearing = False
            self._wake_all()  # from here on they look on their own
            await asyncio.sleep(DEAF_PAUSE_S)

    def _hand_on(self, notice: psycopg.Notify) -> None:
        execution_id, _, said = notice.payload.partition(" ")
        for ear in self._ears.get(None, ()):
            if notice.channel == journal.CHANNEL:
                ear.news.set()
        for ear in self._ears.get(UUID(execution_id), ()):
            if notice.channel == journal.CHANNEL:
                ear.status = said
                ear.news.set()
            elif ear.wants_tokens:
                ear.tokens.append(said)
                ear.news.set()

    def _wake_all(self) -> None:
        for ears in self._ears.values():
            for ear in ears:
                ear.status = None
                ear.news.set()

    async def _announce(self) -> None:
        """Tell the workers, for ever, whose tokens are wanted here; on leaving, that none are."""
        announced: list[UUID] = []
        try:
            while True:
                wanted = [id_ for id_, ears in self._ears.items() if id_ and any(ear.wants_tokens for ear in ears)]
                if wanted or announced:
                    await self._tell(ANNOUNCE, self._listener_id, wanted, LISTENING_FOR)
                announced = wanted
                await asyncio.sleep(ANNOUNCE_PAUSE_S)
                with suppress(TimeoutError):
                    async with asyncio.timeout(ANNOUNCE_EVERY_S):
                        await self._wanted.wait()
                self._wanted.clear()
        finally:
            with suppress(TimeoutError):  # it runs out by itself
                async with asyncio.timeout(WITHDRAW_WITHIN_S):
                    await self._tell(WITHDRAW, self._listener_id)

    async def _tell(self, statement: str, *values: object) -> None:
        try:
            async with self.pool.connection() as connection:
                await connection.execute(statement.encode(), values)
        except psycopg.Error as error:  # streams go without tokens meanwhile
            log.warning("listener.not_announced", error=type(error).__name__)
