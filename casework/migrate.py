"""Bring the database to the present schema: ours, LangGraph's and Procrastinate's. Repeatable, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from procrastinate import App, PsycopgConnector
from psycopg.rows import DictRow, dict_row
from sqlalchemy import create_engine, make_url

MIGRATION_LOCK = 0x63617365  # "case"
POLL_S = 0.2


async def migrate(database_url: str) -> None:
    """Safe to call from many processes at once; each waits its turn. Raises what the database raises."""
    async with _one_at_a_time(database_url) as connection:
        await AsyncPostgresSaver(connection).setup()
        found = await connection.execute("SELECT to_regclass('procrastinate_jobs') AS jobs")
        row = await found.fetchone()
        if row is None or row["jobs"] is None:
            queue = App(connector=PsycopgConnector(conninfo=database_url))
            async with queue.open_async():
                await queue.schema_manager.apply_schema_async()
        await asyncio.to_thread(_upgrade, database_url)


def _upgrade(database_url: str) -> None:
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as db:
        config.attributes["connection"] = db
        command.upgrade(config, "head")
    engine.dispose()


@asynccontextmanager
async def _one_at_a_time(database_url: str) -> AsyncIterator[psycopg.AsyncConnection[DictRow]]:
    """Hold the migration lock. Polled, never waited for: LangGraph builds indexes concurrently, and that
    waits for every open transaction, a session queueing for a lock included."""
    connection: psycopg.AsyncConnection[Any] = await psycopg.AsyncConnection.connect(
        database_url, autocommit=True, row_factory=dict_row, prepare_threshold=0
    )
    async with connection:
        while True:
            tried = await connection.execute("SELECT pg_try_advisory_lock(%s) AS held", (MIGRATION_LOCK,))
            row = await tried.fetchone()
            if row and row["held"]:
                break
            await asyncio.sleep(POLL_S)
        try:
            yield connection
        finally:
            await connection.execute("SELECT pg_advisory_unlock(%s)", (MIGRATION_LOCK,))
