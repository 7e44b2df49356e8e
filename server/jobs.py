"""The worker, and the queue it consumes: Procrastinate jobs in the same database, unless the settings name another.

A job is an execution id, nothing more.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import procrastinate
import psycopg
from procrastinate.types import TimeDeltaParams
from psycopg_pool import AsyncConnectionPool
from sqlalchemy.ext.asyncio import AsyncEngine

from casework.database import RECONNECT_S, impatient, link
from casework.decisions import Decisions
from casework.deliveries import Deliveries
from casework.dispatch import Advance, Queue
from casework.errors import SettingsInvalid
from casework.legs import Legs
from casework.resources import Resources, refuse_closed
from casework.telemetry import logger
from graphs.runner import Runner
from server.sending import Sender
from server.tidying import tidy
from server.upkeep import Upkeep

log = logger(__name__)

ADVANCE = "casework.advance"
STOP_TIMEOUT = timedelta(seconds=7)
"""How long a stopping worker waits for its runs to reach their next step."""

FAREWELL_S = 1.0
"""And how much longer for the queue to be told that it goes."""


class ProcrastinateQueue:
    """Carries wake-ups through Procrastinate. Implements casework.dispatch.Queue."""

    def __init__(self, app: procrastinate.App, engine: AsyncEngine) -> None:
        self.app = app
        self.engine = engine

    async def wake(self, db: psycopg.AsyncConnection[Any], execution_id: UUID, delay: timedelta = timedelta(0)) -> None:
        """Defer on the caller's own connection, so that the job commits or rolls back with the caller's facts."""
        later: TimeDeltaParams = {"milliseconds": int(delay / timedelta(milliseconds=1))}
        job = self.app.configure_task(ADVANCE, connection=db, schedule_in=later if delay else None)
        await job.defer_async(execution_id=str(execution_id))

    async def consume(self, advance: Advance, concurrency: int, stop_within: timedelta) -> None:
        """Procrastinate's worker ends when the database stays away."""

        async def job(execution_id: str) -> None:
            await advance(UUID(execution_id))

        self.app.tasks.pop(ADVANCE, None)  # of an earlier worker in this process
        self.app.task(name=ADVANCE, retry=3)(job)
        await self.app.run_worker_async(
            concurrency=concurrency,
            install_signal_handlers=False,
            delete_jobs="always",
            shutdown_graceful_timeout=stop_within.total_seconds(),
            fetch_job_polling_interval=2.0,
        )

    async def tidy(self, keep: timedelta, *, dry_run: bool = False) -> Mapping[str, int]:
        """Give back what dead workers hold, delete finished jobs and the rows of dead workers."""
        return await tidy(self.engine, keep, dry_run=dry_run)


def open_queue(resources: Resources) -> AbstractAsyncContextManager[Queue]:
    """The configured queue, open while entered. Raises SettingsInvalid when it cannot be loaded."""
    spec = resources.settings.queue
    if spec is None:
        return procrastinate_queue(resources)
    module, _, name = spec.partition(":")
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsInvalid(f"queue {spec!r} cannot be loaded ({error}); write module:factory") from error
    opened: AbstractAsyncContextManager[Queue] = factory(resources)
    return opened


@asynccontextmanager
async def procrastinate_queue(resources: Resources) -> AsyncIterator[ProcrastinateQueue]:
    """The queue in our own database."""
    settings = resources.settings
    connector = procrastinate.PsycopgConnector(
        conninfo=resources.database_url,
        max_size=6,
        timeout=settings.database_timeout.total_seconds(),
        reconnect_timeout=RECONNECT_S,
        connection_class=impatient(settings),
        kwargs=link(settings),
        pool_factory=_pool,
    )
    app = procrastinate.App(connector=connector)
    async with app.open_async():
        yield ProcrastinateQueue(app, resources.engine)


def _pool(**arguments: Any) -> AsyncConnectionPool[Any]:
    """Procrastinate's own would ask the server for life before each use."""
    return AsyncConnectionPool(**{**arguments, "check": refuse_closed})


class Worker:
    """Consumes wake-ups in this process, renews its leases, heals what the queue forgot, and sends webhooks."""

    def __init__(
        self,
        queue: Queue,
        runner: Runner,
        legs: Legs,
        decisions: Decisions,
        deliveries: Deliveries,
        sender: Sender,
        resources: Resources,
    ) -> None:
        self.queue = queue
        self.runner = runner
        self.legs = legs
        self.decisions = decisions
        self.deliveries = deliveries
        self.sender = sender
        self.settings = resources.settings
        self.upkeep = Upkeep(resources, queue)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work until left; then drain: runs stop at their next step and free their leases."""
        self.runner.stopping = False
        consuming = asyncio.create_task(self._consume(), name="worker")
        beating = asyncio.create_task(self.runner.keep_alive(), name="keep_alive")
        healing = asyncio.create_task(self._heal(), name="reconciler")
        upkeep = asyncio.create_task(self.upkeep.keep_up(), name="upkeep")
        async with self.sender.running():
            try:
                yield
            finally:
                self.runner.drain()
                consuming.cancel()
                _, unheard = await asyncio.wait({consuming}, timeout=STOP_TIMEOUT.total_seconds() + FAREWELL_S)
                if unheard:
                    log.warning("worker.left_silently")  # the database is away, and the queue still tries to tell it
                for task in (beating, healing, upkeep):
                    task.cancel()
                await asyncio.gather(beating, healing, upkeep, return_exceptions=True)

    async def _consume(self) -> None:
        """A queue may give up when its server stays away; begin again, for ever."""
        while not self.runner.stopping:  # its error may have taken the place of our cancel
            try:
                await self.queue.consume(self.runner.advance, self.settings.worker_concurrency, STOP_TIMEOUT)
            except Exception:
                log.exception("worker.queue_lost")
            await asyncio.sleep(1.0)

    async def _heal(self) -> None:
        """Wake what should run and has no live lease; reopen what can resume again; expire; forget."""
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
                await self.deliveries.prune(self.settings.keep_deliveries)
            except Exception:
                log.exception("reconciler.failed")


def worker_name() -> str:
    """Unique per process start, readable in a lease."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:6]}"
