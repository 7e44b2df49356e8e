"""What a database that is away looks like from Python, and whether ours is fit to serve."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

import psycopg
import sqlalchemy.exc
from alembic.script import ScriptDirectory
from procrastinate.exceptions import ConnectorException
from psycopg_pool import PoolClosed, PoolTimeout
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from casework import migrate

DATABASE_AWAY: tuple[type[Exception], ...] = (
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    sqlalchemy.exc.TimeoutError,  # every pooled connection is in use
    psycopg.OperationalError,
    psycopg.InterfaceError,
    PoolTimeout,
    PoolClosed,
    ConnectorException,
)
"""Raised when the database cannot be reached now; the same request may succeed later."""

SILENT: tuple[type[Exception], ...] = (TimeoutError, *DATABASE_AWAY)

PROBE_TIMEOUT_S = 3.0
"""How long readiness waits for the database's answer."""


async def obstacles(engine: AsyncEngine) -> list[str]:
    """Why this process cannot serve now; empty when it can."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S), engine.connect() as db:
            revision = await db.scalar(text("SELECT version_num FROM casework.alembic_version"))
    except sqlalchemy.exc.ProgrammingError:
        return ["the database was never migrated: run casework migrate"]
    except SILENT as error:
        return [f"the database does not answer ({type(error).__name__})"]
    if revision in _outdated():
        return [f"the database is at revision {revision}, older than this version: run casework migrate"]
    return []


@cache
def _outdated() -> frozenset[str]:
    """Revisions before the newest. One we do not know is of a newer version, whose changes are additive."""
    scripts = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))
    return frozenset(script.revision for script in scripts.walk_revisions()) - {scripts.get_current_head() or ""}
