"""What any queue behind the port must pass: derive a class from each contract, and name the queue as the setting does.

`PortContract` is about wake-ups. `OutcomeContract` is about executions, and holds whatever a queue does to wake-ups.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import ClassVar
from uuid import UUID

import pytest_asyncio

from casework.dispatch import Queue
from casework.execution import Mode, Status
from casework.resources import driver_of
from casework.settings import Settings
from server.jobs import open_queue
from server.service import Service, open_service
from tests.rig import ADA, Rig, rig, scripted
from tests.stage import KEYED, TRANSACTIONAL, Case, Stage

SOON_S = 20.0
"""How long a wake-up may take before it counts as lost."""
PAUSE = timedelta(seconds=1)


class Recorder:
    """Stands for the worker: notes who was woken, and holds up whoever it is told to."""

    def __init__(self) -> None:
        self.woken: list[UUID] = []
        self.heard = asyncio.Condition()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.at_once = self.most_at_once = self.cut_off = 0
        self.broken: UUID | None = None

    async def advance(self, execution_id: UUID) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            async with self.heard:
                self.woken.append(execution_id)
                self.heard.notify_all()
            await self.go_on.wait()
            if execution_id == self.broken:
                raise RuntimeError("this one breaks")
        except asyncio.CancelledError:
            self.cut_off += 1
            raise
        finally:
            self.at_once -= 1

    async def until(self, *execution_ids: UUID) -> None:
        async with asyncio.timeout(SOON_S), self.heard:
            await self.heard.wait_for(lambda: set(execution_ids) <= set(self.woken))


@asynccontextmanager
async def consuming(
    queue: Queue, recorder: Recorder, concurrency: int = 8, stop_within: timedelta = timedelta(seconds=10)
) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(queue.consume(recorder.advance, concurrency, stop_within))
    try:
        yield task
    finally:
        recorder.go_on.set()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class PortContract:
    """A wake-up arrives, at least once, after its transaction."""

    queue: ClassVar[str | None]
    """As the setting `queue` has it."""

    @pytest_asyncio.fixture
    async def case(self, settings: Settings, database_url: str) -> AsyncIterator[Rig]:
        named = settings.model_copy(update={"queue": self.queue})
        async with rig(named, database_url, scripted("Done.")) as opened:
            yield opened

    @pytest_asyncio.fixture
    async def port(self, case: Rig) -> AsyncIterator[Queue]:
        async with open_queue(case.resources) as opened:
            case.store.dispatcher = case.legs.dispatcher = opened
            yield opened

    async def test_a_wake_up_arrives_once_its_transaction_has_committed(self, case: Rig, port: Queue) -> None:
        recorder = Recorder()
        async with consuming(port, recorder):
            await recorder.until(await case.start("T-1042"), await case.start("T-1033"))

    async def test_what_was_woken_before_a_worker_came_is_kept(self, case: Rig, port: Queue) -> None:
        recorder, execution_id = Recorder(), await case.start("T-1042")
        async with consuming(port, recorder):
            await recorder.until(execution_id)

    async def test_before_the_commit_nobody_can_do_anything_about_it(self, case: Rig, port: Queue) -> None:
        """Whoever is woken early, or for what is rolled back, must find what a worker finds: nothing."""
        recorder, execution_id = Recorder(), await case.start("T-1042")
        await case.execute("UPDATE casework.executions SET status = 'waiting'")
        async with case.resources.engine.connect() as db:
            wake = "UPDATE casework.executions SET status = 'queued'"
            await db.exec_driver_sql(wake)
            await port.wake(await driver_of(db), execution_id)
            assert await case.legs.claim(execution_id, "early", timedelta(seconds=30)) is None
            await db.rollback()
        async with consuming(port, recorder):
            await recorder.until(await case.start("T-1033"))
        assert await case.legs.claim(execution_id, "woken", timedelta(seconds=30)) is None

    async def test_a_delayed_wake_up_arrives_and_nobody_runs_it_before(self, case: Rig, port: Queue) -> None:
        execution_id = await case.start("T-1042")
        leg = await case.legs.claim(execution_id, "first", timedelta(seconds=30))
        assert leg is not None
        claimed: list[float] = []
        loop = asyncio.get_running_loop()

        class Claiming(Recorder):
            async def advance(self, execution_id: UUID) -> None:
                if await case.legs.claim(execution_id, "second", timedelta(seconds=30)) is not None:
                    claimed.append(loop.time())
                    await super().advance(execution_id)

        recorder = Claiming()
        async with consuming(port, recorder):
            given_back = loop.time()
            await case.legs.release(leg, None, PAUSE)
            await recorder.until(execution_id)
        assert len(claimed) == 1
        assert claimed[0] - given_back > PAUSE.total_seconds()

    async def test_an_error_of_one_holds_up_no_other(self, case: Rig, port: Queue) -> None:
        recorder = Recorder()
        recorder.broken = await case.start("T-1042")
        async with consuming(port, recorder, concurrency=1) as task:
            await recorder.until(recorder.broken)
            await recorder.until(await case.start("T-1033"))
            assert not task.done()

    async def test_no_more_than_the_concurrency_run_at_once(self, case: Rig, port: Queue) -> None:
        recorder = Recorder()
        recorder.go_on.clear()
        started = [await case.start(ticket) for ticket in ("T-1042", "T-1033", "T-1006", "T-1003", "T-1004")]
        async with consuming(port, recorder, concurrency=2):
            async with asyncio.timeout(SOON_S), recorder.heard:
                await recorder.heard.wait_for(lambda: recorder.at_once == 2)
            recorder.go_on.set()
            await recorder.until(*started)
        assert recorder.most_at_once == 2

    async def test_when_it_is_stopped_what_is_under_way_may_finish(self, case: Rig, port: Queue) -> None:
        recorder = Recorder()
        recorder.go_on.clear()
        async with consuming(port, recorder) as task:
            await recorder.until(await case.start("T-1042"))
            task.cancel()
            asyncio.get_running_loop().call_later(0.1, recorder.go_on.set)
            with suppress(asyncio.CancelledError):
                await task
            assert (recorder.at_once, recorder.cut_off) == (0, 0)

    async def test_but_no_longer_than_it_is_given(self, case: Rig, port: Queue) -> None:
        recorder = Recorder()
        recorder.go_on.clear()
        async with consuming(port, recorder, stop_within=timedelta(milliseconds=50)) as task:
            await recorder.until(await case.start("T-1042"))
            task.cancel()
            async with asyncio.timeout(SOON_S):
                with suppress(asyncio.CancelledError):
                    await task
            assert recorder.at_once == 0
            assert recorder.cut_off >= 1

    async def test_tidying_an_idle_queue_does_nothing(self, case: Rig, port: Queue) -> None:
        assert not any((await port.tidy(timedelta(days=1), dry_run=True)).values())
        assert not any((await port.tidy(timedelta(days=1))).values())


class OutcomeContract:
    """Executions end right and effects happen once, by two workers, whatever the queue does to wake-ups."""

    queue: ClassVar[str | None]

    @pytest_asyncio.fixture
    async def services(self, settings: Settings, database_url: str) -> AsyncIterator[tuple[Service, Service]]:
        named = settings.model_copy(update={"queue": self.queue, "reconcile_every": timedelta(milliseconds=300)})
        async with open_service(named, database_url) as one, open_service(named, database_url) as other:
            yield one, other

    @pytest_asyncio.fixture
    async def stage(
        self, services: tuple[Service, Service], payments_book: Path, tmp_path: Path
    ) -> AsyncIterator[Stage]:
        one, other = services
        async with one.worker().running(), other.worker().running():
            yield Stage(one, {}, payments_book, tmp_path)

    async def test_every_case_ends_right(self, stage: Stage) -> None:
        cases = [await stage.begin(like) for like in (KEYED, TRANSACTIONAL) * 3]
        for case in cases:
            assert await stage.over(case) is Status.SUCCEEDED
        assert [stage.paid_back(case) for case in cases] == [[1780], []] * 3
        await at_rest(stage)
        assert await stage.broken() == []

    async def test_every_decision_is_taken_up(self, stage: Stage) -> None:
        cases = [await stage.begin(KEYED, Mode.COPILOT) for _ in range(3)]
        await asyncio.gather(*(approved_to_its_end(stage, case) for case in cases))
        assert [stage.paid_back(case) for case in cases] == [[1780]] * 3
        await at_rest(stage)
        assert await stage.broken() == []


async def approved_to_its_end(stage: Stage, case: Case) -> None:
    over = asyncio.create_task(stage.over(case))
    while not over.done():
        asking = asyncio.create_task(stage.asked(case))
        await asyncio.wait({over, asking}, return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            await asyncio.gather(*(stage.approve(asking.result(), ADA) for _ in range(2)))  # a double click
        else:
            asking.cancel()
    assert over.result() is Status.SUCCEEDED


async def at_rest(stage: Stage) -> None:
    """Until no wake-up that came once more is being looked at."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in tr%'"
    async with asyncio.timeout(SOON_S):
        while await stage.scalar(query):  # noqa: ASYNC110 - what is awaited lies in the database
            await asyncio.sleep(0.05)
