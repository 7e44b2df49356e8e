"""The queue: Procrastinate jobs in the same database. A job is an execution id, nothing more."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID, uuid4

import procrastinate
from procrastinate.types import TimeDeltaParams
from sqlalchemy.ext.asyncio import AsyncConnection

from casework.database import RECONNECT_S, impatient, link
from casework.decisions import Decisions
from casework.legs import Legs
from casework.resources import Resources
from casework.telemetry import logger
from graphs.runner import Runner

log = logger(__name__)

ADVANCE = "casework.advance"
STOP_TIMEOUT_S = 7.0
"""How long a stopping worker waits for its runs to reach their next step."""

FAREWELL_S = 1.0
"""And how much longer for the queue to be told that it goes."""


class Queue:
    """Carries wake-ups through Procrastinate. Implements casework.dispatch.Dispatcher."""

    def __init__(self, app: procrastinate.App) -> None:
        self.app = app

    async def wake(self, db: AsyncConnection, execution_id: UUID, delay: timedelta = timedelta(0)) -> None:
        """Defer on the caller's own connection, so that the job commits or rolls back with the caller's facts."""
        raw = (await db.get_raw_connection()).driver_connection
        later: TimeDeltaParams = {"milliseconds": int(delay / timedelta(milliseconds=1))}
        job = self.app.configure_task(ADVANCE, connection=raw, schedule_in=later if delay else None)
        await job.defer_async(execution_id=str(execution_id))


@asynccontextmanager
async def open_queue(resources: Resources) -> AsyncIterator[Queue]:
    """A queue that can defer; a worker also consumes from it."""
    settings = resources.settings
    connector = procrastinate.PsycopgConnector(
        conninfo=resources.database_url,
        max_size=6,
        timeout=settings.database_timeout.total_seconds(),
        reconnect_timeout=RECONNECT_S,
        connection_class=impatient(settings),
        kwargs=link(settings),
    )
    app = procrastinate.App(connector=connector)
    async with app.open_async():
        yield Queue(app)


class Worker:
    """Consumes wake-ups in this process, renews its leases, and heals what the queue forgot."""

    def __init__(self, queue: Queue, runner: Runner, legs: Legs, decisions: Decisions, resources: Resources) -> None:
        self.queue = queue
        self.runner = runner
        self.legs = legs
        self.decisions = decisions
        self.settings = resources.settings
        queue.app.task(name=ADVANCE, retry=3)(self._advance)

    async def _advance(self, execution_id: str) -> None:
        await self.runner.advance(UUID(execution_id))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work until left; then drain: runs stop at their next step and free their leases."""
        self.runner.stopping = False
        consuming = asyncio.create_task(self._consume(), name="worker")
        beating = asyncio.create_task(self.runner.keep_alive(), name="keep_alive")
        healing = asyncio.create_task(self._heal(), name="reconciler")
        try:
            yield
        finally:
            self.runner.drain()
            consuming.cancel()
            _, unheard = await asyncio.wait({consuming}, timeout=STOP_TIMEOUT_S + FAREWELL_S)
            if unheard:
                log.warning("worker.left_silently")  # the database is away, and the queue still tries to tell it
            for task in (beating, healing):
                task.cancel()
            await asyncio.gather(beating, healing, return_exceptions=True)

    async def _consume(self) -> None:
        """Procrastinate's worker ends when the database stays away; start it again, for ever."""
        while not self.runner.stopping:  # its error may have taken the place of our cancel
            try:
                await self.queue.app.run_worker_async(
                    concurrency=self.settings.worker_concurrency,
                    install_signal_handlers=False,
                    delete_jobs="always",
                    shutdown_graceful_timeout=STOP_TIMEOUT_S,
                    fetch_job_polling_interval=2.0,
                )
            except Exception:
                log.exception("worker.queue_lost")
                await asyncio.sleep(1.0)

    async def _heal(self) -> None:
        """Wake what should run and has no live lease; reopen what can resume again; close overdue approvals."""
        every = self.settings.reconcile_every
        while True:
            await asyncio.sleep(every.total_seconds())
            try:
                forgotten = await self.legs.forgotten(older_than=every)
                if forgotten:
                    log.warning("reconciler.woke", executions=len(forgotten))
                    await self.legs.wake(forgotten)
                await self.legs.reopen({entry.version for entry in self.runner.catalog})
                await self.decisions.expire_due()
            except Exception:
                log.exception("reconciler.failed")


def worker_name() -> str:
    """Unique per process start, readable in a lease."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:6]}"
