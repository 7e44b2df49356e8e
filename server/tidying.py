"""Housekeeping of Procrastinate's tables, which it leaves to its users.

Workers delete their jobs as they finish them. What is left over comes from workers that died: a killed one's jobs stay
`doing` for ever, and so does a job whose last statement failed while its worker lived on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

SILENT = timedelta(minutes=1)
"""A worker whose heartbeat is older than this is dead; it beats every 10 s."""
HUNG = timedelta(minutes=5)
"""A job that has been `doing` for longer than this, while nobody holds a lease on its execution, was forgotten."""
AT_ONCE = 10_000
"""Rows that one pass touches at most; the next pass does the rest."""

OURS = "j.task_name LIKE 'casework.%'"
"""Other applications may keep their jobs in the same tables."""

GIVE_BACK = f"""
    UPDATE procrastinate_jobs SET status = 'todo', attempts = attempts + 1, abort_requested = false, worker_id = NULL
    WHERE id IN (
        SELECT j.id FROM procrastinate_jobs j LEFT JOIN procrastinate_workers w ON w.id = j.worker_id
        WHERE j.status = 'doing' AND {OURS} AND (w.id IS NULL OR w.last_heartbeat < now() - :silent
            OR (j.task_name = 'casework.advance'
                AND NOT EXISTS (
                    SELECT FROM casework.executions x
                    WHERE x.execution_id = (j.args ->> 'execution_id')::uuid AND x.lease_until > now())
                AND NOT EXISTS (
                    SELECT FROM procrastinate_events e
                    WHERE e.job_id = j.id AND e.type = 'started' AND e.at > now() - :hung)))
        LIMIT {AT_ONCE} FOR UPDATE OF j SKIP LOCKED)"""
"""Not Procrastinate's retry_job, which asks no more whether the worker is alive. What runs twice by this finds that
there is nothing to do."""

FORGET = f"""
    DELETE FROM procrastinate_jobs WHERE id IN (
        SELECT j.id FROM procrastinate_jobs j
        WHERE j.status IN ('succeeded', 'failed', 'cancelled', 'aborted') AND {OURS}
          AND NOT EXISTS (SELECT FROM procrastinate_events e WHERE e.job_id = j.id AND e.at > now() - :keep)
        LIMIT {AT_ONCE} FOR UPDATE OF j SKIP LOCKED)"""
"""Not Procrastinate's delete_old_jobs, which has no bound and does not say how many."""

BURY = "DELETE FROM procrastinate_workers WHERE last_heartbeat < now() - :silent"
"""As every Procrastinate worker does when it starts."""

PASS: Mapping[str, str] = {
    "jobs of dead workers given back": GIVE_BACK,
    "finished jobs deleted": FORGET,
    "rows of dead workers deleted": BURY,
}
"""In this order: a job that was given back does not refer to its worker any more."""


async def tidy(engine: AsyncEngine, keep: timedelta, *, dry_run: bool = False) -> Mapping[str, int]:
    """One pass, in one transaction. Returns how many of what; with `dry_run` nothing is changed."""
    known = {"silent": SILENT, "hung": HUNG, "keep": keep}
    done = {}
    async with engine.connect() as db:
        for what, statement in PASS.items():
            asked = text(statement)
            done[what] = (await db.execute(asked, {name: known[name] for name in asked.compile().params})).rowcount
        if not dry_run:
            await db.commit()
    return done
