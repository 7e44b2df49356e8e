"""Migrations: one at a time from any number of processes, repeatable, and equal to the tables in the code."""

from __future__ import annotations

import asyncio
import sys
from uuid import uuid4

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, make_url

from casework.migrate import migrate
from casework.tables import metadata
from tests.conftest import ROOT, in_database, run_sql

PROCESSES = 4


async def test_several_processes_migrating_at_once_all_succeed(postgres_url: str) -> None:
    name = f"casework_test_{uuid4().hex[:12]}"
    run_sql(postgres_url, "CREATE DATABASE {}", name)
    try:
        url = in_database(postgres_url, name)
        code = "import asyncio, sys; from casework.migrate import migrate; asyncio.run(migrate(sys.argv[1]))"
        started = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", code, url, cwd=ROOT) for _ in range(PROCESSES)
        ]
        async with asyncio.timeout(60):
            assert [await process.wait() for process in started] == [0] * PROCESSES
        await migrate(url)
    finally:
        run_sql(postgres_url, "DROP DATABASE {} WITH (FORCE)", name)


def test_the_migrations_make_exactly_the_tables_of_the_code(database_url: str) -> None:
    engine = create_engine(make_url(database_url).set(drivername="postgresql+psycopg"))
    with engine.connect() as db:
        options = {
            "include_schemas": True,
            "compare_server_default": False,
            "include_name": lambda name, kind, parents: kind != "schema" or name == "casework",
            "version_table_schema": "casework",
        }
        differences = compare_metadata(MigrationContext.configure(db, opts=options), metadata)
    engine.dispose()
    assert differences == []
