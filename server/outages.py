"""Whether our database is fit to serve."""

from __future__ import annotations

import asyncio
from functools import cache
from pathlib import Path

import sqlalchemy.exc
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from casework import migrate
from casework.database import DATABASE_AWAY

SILENT: tuple[type[Exception], ...] = (TimeoutError, *DATABASE_AWAY)

STATE = """
SELECT version_num, current_setting('transaction_read_only')::bool AS read_only FROM casework.alembic_version"""
PROBE_TIMEOUT_S = 3.0
"""How long readiness waits for the database's answer."""


async def obstacles(engine: AsyncEngine) -> list[str]:
    """Why this process cannot serve now; empty when it can."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S), engine.connect() as db:
            state = (await db.execute(text(STATE))).one()
    except sqlalchemy.exc.ProgrammingError:
        return ["the database was never migrated: run casework migrate"]
    except SILENT as error:
        return [f"the database does not answer ({type(error).__name__})"]
    if state.version_num in _outdated():
        return [f"the database is at revision {state.version_num}, older than this version: run casework migrate"]
    return ["the database is read-only"] if state.read_only else []


@cache
def _outdated() -> frozenset[str]:
    """Revisions before the newest. One we do not know is of a newer version, whose changes are additive."""
    scripts = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))
    return frozenset(script.revision for script in scripts.walk_revisions()) - {scripts.get_current_head() or ""}
