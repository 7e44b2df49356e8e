"""Our queue, and others, held to what the port asks; and executions under queues that keep to none of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from casework.errors import SettingsInvalid
from casework.execution import Status
from casework.resources import driver_of
from casework.settings import Settings
from server.jobs import procrastinate_queue
from server.service import open_service
from tests.dispatching import OutcomeContract, PortContract
from tests.rig import rig, scripted
from tests.stage import TRANSACTIONAL, Stage


class TestProcrastinate(PortContract, OutcomeContract):
    queue = None


class TestPolling(PortContract, OutcomeContract):
    queue = "tests.dispatchers:polling"


class TestInMemory(PortContract, OutcomeContract):
    queue = "tests.dispatchers:in_memory"


class TestCareless(OutcomeContract):
    queue = "tests.dispatchers:careless"


class TestForgetful(OutcomeContract):
    queue = "tests.dispatchers:forgetful"


async def test_without_the_reconciler_a_lost_wake_up_is_lost(
    settings: Settings, database_url: str, payments_book: Path, tmp_path: Path
) -> None:
    """The control of TestForgetful."""
    never = {"queue": TestForgetful.queue, "reconcile_every": timedelta(hours=1)}
    async with open_service(settings.model_copy(update=never), database_url) as service, service.worker().running():
        stage = Stage(service, {}, payments_book, tmp_path)
        lost, woken = await stage.begin(TRANSACTIONAL), await stage.begin(TRANSACTIONAL)
        async with stage.engine.begin() as db:
            for _ in range(2):
                await service.queue.wake(await driver_of(db), woken.execution_id)
        assert await stage.over(woken) is Status.SUCCEEDED
        assert (await service.store.get("default", lost.execution_id)).status is Status.QUEUED


JOBS = "SELECT count(*) FROM procrastinate_jobs"


async def test_our_own_wake_ups_commit_and_roll_back_with_their_facts(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted("Done.")) as case:
        execution_id = await case.start("T-1042")
        async with procrastinate_queue(case.resources) as queue, case.resources.engine.connect() as db:
            for end, jobs in ((db.rollback, 0), (db.commit, 1)):
                await queue.wake(await driver_of(db), execution_id)
                assert await db.scalar(text(JOBS)) == 1
                assert await case.scalar(JOBS) == 0
                await end()
                assert await case.scalar(JOBS) == jobs


@pytest.mark.parametrize("spec", ["nowhere:queue", "tests.dispatchers:nothing", "tests.dispatchers", ":"])
async def test_a_queue_that_cannot_be_loaded_is_a_clear_refusal(
    spec: str, settings: Settings, database_url: str
) -> None:
    named = settings.model_copy(update={"queue": spec})
    with pytest.raises(SettingsInvalid, match=r"cannot be loaded.*write module:factory"):
        async with open_service(named, database_url):
            pass
