"""What a process opens once and hands down: settings, database pools, clock. Replaced whole in tests."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import event, make_url
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from casework.database import RECONNECT_S, impatient, link
from casework.secrecy import keep_secret
from casework.settings import Settings

Connection = psycopg.AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]

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
    """For everything that is not hot."""
    pool: Pool
    """For checkpoints and what every execution passes through: autocommit, rows as dicts, as its saver wants."""
    http: httpx.AsyncClient
    """For model providers. Time-outs are set per call."""
    clock: Callable[[], datetime] = field(default=_now)
    """The time policies and deadlines see, timezone-aware. Leases use the database's."""


@asynccontextmanager
async def open_resources(
    settings: Settings, database_url: str, clock: Callable[[], datetime] = _now
) -> AsyncIterator[Resources]:
    """Open the pools on a migrated database; closes them on leaving."""
    keep_secret(settings.secrets(database_url))
    connections, silence_s = impatient(settings), settings.database_timeout.total_seconds()
    engine = create_async_engine(
        make_url(database_url).set(drivername="postgresql+psycopg"),
        hide_parameters=True,  # an error would quote them: tickets, arguments, keys' hashes
        pool_size=10,
        max_overflow=10,
        pool_timeout=silence_s,
        connect_args={**link(settings), "async_creator_fn": connections.connect},
    )
    event.listen(engine.sync_engine, "checkout", _replace_closed)

    async def check(connection: Connection) -> None:
        try:
            await refuse_closed(connection)
        except psycopg.Error:  # the others are dead too; the pool would find out one by one, with ever longer pauses
            await pool.drain()
            raise

    pool: Pool = AsyncConnectionPool(
        database_url,
        min_size=1,
        max_size=settings.worker_concurrency + 10,
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


async def driver_of(db: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    """The psycopg connection under SQLAlchemy's, in the same transaction."""
    raw: psycopg.AsyncConnection[Any] | None = (await db.get_raw_connection()).driver_connection
    assert raw is not None  # only after close()
    return raw


def _closed(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether an idle connection has something to read: nobody asked, so it is the server's goodbye, or the end.

    Costs one system call where a question to the server costs a round trip, for every use of a connection.
    """
    idle = select.poll()
    idle.register(connection.fileno(), select.POLLIN)
    return bool(idle.poll(0))


async def refuse_closed(connection: psycopg.AsyncConnection[Any]) -> None:
    """The `check` of a psycopg pool: when it raises, the pool takes another connection."""
    if _closed(connection):
        await AsyncConnectionPool.check_connection(connection)


def _replace_closed(connection: Any, record: Any, proxy: Any) -> None:
    """For SQLAlchemy's pool: it then connects anew."""
    if connection.driver_connection.closed or _closed(connection.driver_connection):
        raise DisconnectionError
