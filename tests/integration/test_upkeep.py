"""What ended long ago is pruned whole and its story stays; what dead workers left in the queue is mended."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text

from casework.execution import Mode, Status
from casework.pruning import BATCH, Pruning
from casework.resources import driver_of
from casework.settings import Settings
from graphs.replay import replay
from server.jobs import ADVANCE, ProcrastinateQueue, open_queue, procrastinate_queue
from server.service import Service
from server.tidying import PASS
from server.upkeep import PRUNED, Upkeep
from tests.conftest import ROOT
from tests.processes import CASEWORK, clean_environment
from tests.rig import ADA, Rig, call, rig, scripted
from tests.soundness import broken

TURNS = (
    [call("issue_refund", order_id="O-5042", amount_minor=1500, reason="damaged")],
    [call("reply_to_customer", body="We have paid it back. Sorry.")],
    "Refunded.",
)
MONTH = timedelta(days=30)
GIVEN_BACK, DELETED, BURIED = PASS
NOTHING = {PRUNED: 0, GIVEN_BACK: 0, DELETED: 0, BURIED: 0}

MEMORY = """
    SELECT (SELECT count(*) FROM checkpoints WHERE thread_id = :t)
        || '/' || (SELECT count(*) FROM checkpoint_blobs WHERE thread_id = :t)
        || '/' || (SELECT count(*) FROM checkpoint_writes WHERE thread_id = :t)"""
AGE = "UPDATE casework.executions SET finished_at = finished_at - interval '31 days' WHERE execution_id = :e"


@pytest_asyncio.fixture
async def case(settings: Settings, database_url: str) -> AsyncIterator[Rig]:
    async with rig(settings, database_url, scripted(*TURNS)) as opened:
        yield opened


async def ended(case: Rig, ticket: str = "T-1042") -> UUID:
    """A case that was approved, worked and is over."""
    execution_id = await case.start(ticket, Mode.COPILOT)
    while await case.advance(execution_id) is Status.WAITING:
        for asked in await case.pending(execution_id):
            await case.decide(ADA, asked)
    return execution_id


async def memory(case: Rig, execution_id: UUID) -> str:
    """Rows in each of LangGraph's tables."""
    return str(await case.scalar(MEMORY, t=str(execution_id)))


async def kept(case: Rig, execution_id: UUID) -> list[Any]:
    """What people and auditors read, but for the line that says it was pruned."""
    found = []
    async with case.resources.engine.connect() as db:
        for table, order in (("runs", "run_id"), ("approvals", "approval_id"), ("effects", "key"), ("events", "seq")):
            query = f"SELECT * FROM casework.{table} WHERE execution_id = :e ORDER BY {order}"
            rows = await db.execute(text(query), {"e": execution_id})
            found += [tuple(row) for row in rows if getattr(row, "type", "") != "execution.pruned"]
        found += [tuple(row) for row in await db.execute(text("SELECT * FROM casework.audit ORDER BY seq"))]
    return found


async def test_what_ended_long_ago_loses_its_memory_and_keeps_its_story(case: Rig, payments_book: Path) -> None:
    old, young = await ended(case), await ended(case, "T-1033")
    await case.execute(AGE, e=old)
    before, read = await memory(case, young), await kept(case, old)
    assert await Pruning(case.resources.engine, MONTH).run() == 1
    assert await memory(case, old) == "0/0/0"
    assert await memory(case, young) == before
    assert await kept(case, old) == read
    assert (await case.get(old)).pruned_at is not None
    assert (await case.get(young)).pruned_at is None
    assert (await case.events(old))[-1].type == "execution.pruned"
    assert await Pruning(case.resources.engine, MONTH).run() == 0
    assert await broken(case.resources.engine, payments_book) == []


async def test_replay_says_that_the_memory_is_gone(case: Rig) -> None:
    execution_id = await ended(case)
    await case.execute(AGE, e=execution_id)
    await Pruning(case.resources.engine, MONTH).run()
    story = await replay(case.store, case.catalog, case.resources, "default", execution_id)
    assert "run.finished" in story
    assert "Pruned at" in story[story.index("Checkpoints") :]
    assert "next:" not in story


@pytest.mark.parametrize(
    "alive",
    [
        pytest.param("status = 'waiting', finished_at = NULL", id="waiting"),
        pytest.param("status = 'queued'", id="taken up again, its end forgotten"),
        pytest.param("status = 'running', lease_until = now() + interval '1 minute'", id="running"),
        pytest.param("source = 'studio'", id="langgraph dev's"),
        pytest.param("finished_at = now() - interval '29 days'", id="not old enough"),
    ],
)
async def test_what_is_not_over_long_ago_or_not_ours_is_left_alone(case: Rig, alive: str) -> None:
    execution_id = await ended(case)
    await case.execute(AGE, e=execution_id)
    before = await memory(case, execution_id)
    await case.execute(f"UPDATE casework.executions SET {alive}")
    pruning = Pruning(case.resources.engine, MONTH)
    assert (await pruning.due(), await pruning.run(), await pruning.prune(execution_id)) == (0, 0, False)
    assert await memory(case, execution_id) == before


async def test_what_is_taken_up_again_while_it_is_pruned_keeps_its_memory(case: Rig) -> None:
    execution_id = await ended(case)
    await case.execute(AGE, e=execution_id)
    before, pruning = await memory(case, execution_id), Pruning(case.resources.engine, MONTH)
    async with case.resources.engine.begin() as db:
        reopen = "UPDATE casework.executions SET status = 'queued', finished_at = NULL WHERE execution_id = :e"
        await db.execute(text(reopen), {"e": execution_id})
        assert await pruning.due() == 1  # so it is found …
        async with asyncio.timeout(5):
            assert await pruning.run() == 0  # … and neither waited for nor pruned
    assert await pruning.prune(execution_id) is False
    assert await memory(case, execution_id) == before


async def test_whoever_takes_it_up_waits_for_the_pruning_and_sees_it(case: Rig) -> None:
    execution_id = await ended(case)
    await case.execute(AGE, e=execution_id)
    async with case.resources.engine.begin() as db:
        await db.execute(text("LOCK TABLE checkpoint_blobs"))  # the pruning is held up in its middle
        pruning = asyncio.create_task(Pruning(case.resources.engine, MONTH).run())
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        async with asyncio.timeout(10):
            while not await case.scalar(query):  # noqa: ASYNC110 - what is awaited lies in the database
                await asyncio.sleep(0.01)
        look = "SELECT pruned_at FROM casework.executions WHERE execution_id = :e FOR NO KEY UPDATE"
        looking = asyncio.create_task(case.scalar(look, e=execution_id))
        await asyncio.sleep(0)
    assert await pruning == 1
    assert await looking is not None


async def test_many_are_pruned_batch_by_batch(case: Rig) -> None:
    execution_id = await ended(case)
    await case.execute(AGE, e=execution_id)
    count = 2 * BATCH + 7
    copies = """
        INSERT INTO casework.executions (execution_id, workflow, graph_version, tenant, requester, status, mode, input,
            finished_at)
        SELECT gen_random_uuid(), workflow, graph_version, tenant, requester, status, mode, input, finished_at
        FROM casework.executions, generate_series(2, :count)"""
    await case.execute(copies, count=count)
    await case.execute("""
        INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint)
        SELECT execution_id::text, 'one', '{}' FROM casework.executions""")
    pruning = Pruning(case.resources.engine, MONTH)
    assert sum(await asyncio.gather(pruning.run(), pruning.run())) == count  # two at once do no harm either
    assert await case.scalar("SELECT count(*) FROM checkpoints") == 0
    assert await case.scalar("SELECT count(*) FROM casework.events WHERE type = 'execution.pruned'") == count


class Held:
    """A queue whose tidying takes until it is let go."""

    def __init__(self) -> None:
        self.begun, self.let_go = asyncio.Event(), asyncio.Event()

    async def tidy(self, keep: timedelta, *, dry_run: bool = False) -> Mapping[str, int]:
        self.begun.set()
        await self.let_go.wait()
        return {}


async def test_one_process_at_a_time_does_it(case: Rig, settings: Settings) -> None:
    held: Any = Held()
    first = asyncio.create_task(Upkeep(case.resources, held).once())
    await held.begun.wait()
    async with open_queue(case.resources) as queue:
        assert await Upkeep(case.resources, queue).once() is None
        held.let_go.set()
        assert await first == {PRUNED: 0}
        assert await Upkeep(case.resources, queue).once() == NOTHING


async def test_without_an_age_nothing_is_pruned(case: Rig, settings: Settings) -> None:
    execution_id = await ended(case)
    await case.execute(AGE, e=execution_id)
    case.resources.settings.keep_checkpoints = None
    async with open_queue(case.resources) as queue:
        assert await Upkeep(case.resources, queue).once() == NOTHING


@pytest_asyncio.fixture
async def queue(case: Rig) -> AsyncIterator[ProcrastinateQueue]:
    async with procrastinate_queue(case.resources) as opened:
        yield opened


async def taken(case: Rig, queue: ProcrastinateQueue, worker_id: int) -> UUID:
    """A wake-up that this worker has begun to carry out."""
    execution_id = await case.start("T-1042")
    async with case.resources.engine.begin() as db:
        await queue.wake(await driver_of(db), execution_id)
    job = await queue.app.job_manager.fetch_job(None, worker_id)
    assert job is not None
    assert job.task_kwargs == {"execution_id": str(execution_id)}
    return execution_id


async def jobs(case: Rig) -> list[str]:
    async with case.resources.engine.connect() as db:
        return list(await db.scalars(text("SELECT status::text FROM procrastinate_jobs ORDER BY id")))


SILENCE = "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '2 minutes'"
ENDED = ("succeeded", "failed", "cancelled", "aborted")
THEIRS = (("their.task", "succeeded"), ("their.task", "doing"))
LONG_AGO = "UPDATE procrastinate_events SET at = now() - interval '2 days'"


async def test_a_dead_workers_job_is_given_back_and_its_row_buried(case: Rig, queue: ProcrastinateQueue) -> None:
    await taken(case, queue, await queue.app.job_manager.register_worker())
    assert await queue.tidy(timedelta(days=1)) == {GIVEN_BACK: 0, DELETED: 0, BURIED: 0}
    await case.execute(SILENCE)
    assert await queue.tidy(timedelta(days=1)) == {GIVEN_BACK: 1, DELETED: 0, BURIED: 1}
    assert await jobs(case) == ["todo"]


async def test_a_job_whose_worker_is_gone_altogether_is_given_back(case: Rig, queue: ProcrastinateQueue) -> None:
    await taken(case, queue, await queue.app.job_manager.register_worker())
    await case.execute("DELETE FROM procrastinate_workers")  # as Procrastinate's next worker does
    assert (await queue.tidy(timedelta(days=1)))[GIVEN_BACK] == 1


async def test_a_job_that_a_living_worker_forgot_is_given_back_but_none_that_runs(
    case: Rig, queue: ProcrastinateQueue
) -> None:
    execution_id = await taken(case, queue, await queue.app.job_manager.register_worker())
    await case.legs.claim(execution_id, "long", timedelta(minutes=1))
    await case.execute(LONG_AGO)
    assert (await queue.tidy(timedelta(days=1)))[GIVEN_BACK] == 0  # it runs, for however long
    await case.execute("UPDATE casework.executions SET lease_until = now() - interval '1 second'")
    assert (await queue.tidy(timedelta(days=1)))[GIVEN_BACK] == 1


async def test_a_job_given_back_runs_nothing_twice(service: Service, case: Rig) -> None:
    queue: Any = service.queue
    execution_id = await taken(case, queue, await queue.app.job_manager.register_worker())
    await case.advance(execution_id)  # its worker died after the work, before the job was finished
    story = await case.events(execution_id)
    await case.execute(SILENCE)
    await queue.tidy(timedelta(days=1))
    async with service.worker().running(), asyncio.timeout(20):
        while await jobs(case):  # noqa: ASYNC110 - what is awaited lies in the database
            await asyncio.sleep(0.05)
    assert await case.events(execution_id) == story


async def test_finished_jobs_are_deleted_by_age_and_other_applications_are_left_alone(
    case: Rig, queue: ProcrastinateQueue
) -> None:
    for task, status in (*((ADVANCE, status) for status in (*ENDED, "todo")), *THEIRS):
        insert = "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('default', :task) RETURNING id"
        async with case.resources.engine.begin() as db:
            job_id = await db.scalar(text(insert), {"task": task})
            for step in ("doing", status):
                await db.execute(text(f"UPDATE procrastinate_jobs SET status = '{step}' WHERE id = {job_id}"))
    assert (await queue.tidy(timedelta(days=1)))[DELETED] == 0
    await case.execute(LONG_AGO)
    assert await queue.tidy(timedelta(days=1), dry_run=True) == {GIVEN_BACK: 0, DELETED: 4, BURIED: 0}
    assert len(await jobs(case)) == 7
    assert (await queue.tidy(timedelta(days=3)))[DELETED] == 0
    assert await queue.tidy(timedelta(days=1)) == {GIVEN_BACK: 0, DELETED: 4, BURIED: 0}
    assert await jobs(case) == ["todo", "succeeded", "doing"]


async def test_a_worker_does_it_by_itself(service: Service, case: Rig) -> None:
    execution_id = await ended(case)
    await case.execute(AGE, e=execution_id)
    service.resources.settings.upkeep_every = timedelta(milliseconds=50)
    async with service.worker().running(), asyncio.timeout(20):
        while (await case.get(execution_id)).pruned_at is None:  # noqa: ASYNC110 - it lies in the database
            await asyncio.sleep(0.05)
    assert await memory(case, execution_id) == "0/0/0"


async def test_the_command_says_what_it_did(case: Rig, database_url: str, tmp_path: Path) -> None:
    execution_id = await ended(case)
    await case.execute(AGE, e=execution_id)
    dry, wet, again = [
        await asyncio.to_thread(casework, arguments, database_url, tmp_path)
        for arguments in ("prune --dry-run", "prune", "prune")
    ]
    assert dry[0].startswith("A dry run: nothing was changed.")
    assert dry[1].split() == wet[0].split() == ["1", *PRUNED.split()]
    assert again[0].split() == ["0", *PRUNED.split()]
    assert [line.split(maxsplit=1)[1] for line in again] == [PRUNED, *PASS]


def casework(arguments: str, database_url: str, folder: Path) -> list[str]:
    """A command's lines."""
    env = {**clean_environment(), "DATABASE_URL": database_url, "CASEWORK_DATA_DIR": str(folder)}
    ran = subprocess.run(
        [str(CASEWORK), *arguments.split()],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return ran.stdout.splitlines()
