"""What a process opens once and hands down: settings, database pools, clock. Replaced whole in tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from casework.database import RECONNECT_S, impatient, link
from casework.settings import Settings

Pool = AsyncConnectionPool[AsyncConnection[DictRow]]

MODEL_CONNECTIONS = httpx.Limits(max_connections=1000, max_keepalive_connections=100)
"""As the providers' own clients have it."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Resources:
    """Live things of one process."""

    settings: Settings
    database_url: str
    engine: AsyncEngine
    """For everything but checkpoints."""
    pool: Pool
    """For checkpoints: autocommit, rows as dicts, as LangGraph's saver wants it."""
    http: httpx.AsyncClient
    """For model providers. Time-outs are set per call."""
    clock: Callable[[], datetime] = field(default=_now)
    """The time policies and deadlines see, timezone-aware. Leases use the database's."""


@asynccontextmanager
async def open_resources(
    settings: Settings, database_url: str, clock: Callable[[], datetime] = _now
) -> AsyncIterator[Resources]:
    """Open the pools on a migrated database; closes them on leaving."""
    connections, silence_s = impatient(settings), settings.database_timeout.total_seconds()
    engine = create_async_engine(
        make_url(database_url).set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=10,
        pool_timeout=silence_s,
        connect_args={**link(settings), "async_creator_fn": connections.connect},
    )

    async def check(connection: AsyncConnection[DictRow]) -> None:
        try:
            await AsyncConnectionPool.check_connection(connection)
        except psycopg.Error:  # the others are dead too; the pool would find out one by one, with ever longer pauses
            await pool.drain()
            raise

    pool: Pool = AsyncConnectionPool(
        database_url,
        min_size=1,
        max_size=settings.worker_concurrency + 2,
        open=False,
        timeout=silence_s,
        reconnect_timeout=RECONNECT_S,
        connection_class=connections,
        check=check,
        kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row, **link(settings)},
    )
    async with pool, httpx.AsyncClient(limits=MODEL_CONNECTIONS) as http:
        try:
            yield Resources(settings, database_url, engine, pool, http, clock)
        finally:
            await engine.dispose()
