"""What a process opens once and hands down: settings, database pools, clock. Replaced whole in tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from casework.secrecy import keep_secret
from casework.settings import Settings

Pool = AsyncConnectionPool[AsyncConnection[DictRow]]

KEEPALIVE: dict[str, Any] = {"keepalives": 1, "keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3}
"""A half-open connection is noticed within about 30 s."""

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
    keep_secret(settings.secrets(database_url))
    # A process that froze or was cut off in a transaction holds rows that keep others from taking its cases over.
    idle_ms = int(2 * settings.lease.total_seconds() * 1000)
    engine = create_async_engine(
        make_url(database_url).set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        hide_parameters=True,  # an error would quote them: tickets, arguments, keys' hashes
        pool_size=10,
        max_overflow=10,
        pool_timeout=10,
        connect_args={**KEEPALIVE, "options": f"-c idle_in_transaction_session_timeout={idle_ms}"},
    )
    pool: Pool = AsyncConnectionPool(
        database_url,
        min_size=1,
        max_size=settings.worker_concurrency + 2,
        open=False,
        check=AsyncConnectionPool.check_connection,
        kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row, **KEEPALIVE},
    )
    async with pool, httpx.AsyncClient(limits=MODEL_CONNECTIONS) as http:
        try:
            yield Resources(settings, database_url, engine, pool, http, clock)
        finally:
            await engine.dispose()
