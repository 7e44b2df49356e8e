"""One stage per test module, and one worker that lives through all of its tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.conftest import Template, in_database, run_sql
from tests.forks import Forked
from tests.stage import Stage, open_stage


@pytest.fixture(scope="module")
def module_database_url(postgres_url: str, template: Template) -> Iterator[str]:
    name = f"casework_test_{uuid4().hex[:12]}"
    run_sql(postgres_url, "CREATE DATABASE {} TEMPLATE {}", name, template.name)
    yield in_database(postgres_url, name)
    run_sql(postgres_url, "DROP DATABASE {} WITH (FORCE)", name)


@pytest_asyncio.fixture(scope="module")
async def stage(
    module_database_url: str, template: Template, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    async with open_stage(module_database_url, template.book, tmp_path_factory.mktemp("stage")) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module")
async def survivor(stage: Stage) -> AsyncIterator[Forked]:
    """The worker that nothing is done to, but to be frozen while another one takes the case."""
    with stage.worker("survivor") as worker:
        await worker.ready()
        yield worker
        await worker.stop()
