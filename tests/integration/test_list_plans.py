"""No list reads a table from end to end, nor walks along an index to find a few rows far away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio

from bench.filling import fill
from bench.lists import LIMIT, Plan, plans
from bench.service import CONFIG
from casework.migrate import migrate
from casework.settings import Settings
from server.jobs import Worker
from server.service import Service, open_service
from tests.conftest import in_database, run_sql

EXECUTIONS = 20_000
"""Enough for the planner to prefer an index where one serves."""
EXAMINED = 12 * LIMIT
"""Rows that a page of 50 may look at: itself, what it joins, and what a filter skips on the way."""

Filled = tuple[Service, Worker]


@pytest_asyncio.fixture(scope="module")
async def filled(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Filled]:
    name = f"casework_lists_{uuid4().hex[:12]}"
    run_sql(postgres_url, "CREATE DATABASE {}", name)
    url = in_database(postgres_url, name)
    await migrate(url)
    fill(url, EXECUTIONS)
    settings = Settings.model_validate(
        {"data_dir": tmp_path_factory.mktemp("lists"), "config": Path(CONFIG), "key_pepper": "pepper-of-the-tests"}
    )
    async with open_service(settings, url) as service:
        yield service, service.worker()
    run_sql(postgres_url, "DROP DATABASE {} WITH (FORCE)", name)


@pytest_asyncio.fixture(scope="module")
async def found(filled: Filled) -> list[Plan]:
    return await plans(*filled)


async def test_every_list_was_explained(found: list[Plan]) -> None:
    explained = {plan.name.partition(":")[0] for plan in found}
    assert explained == {"executions", "execution", "events", "approvals", "handed", "inbox", "worker"}


async def test_no_list_scans_sequentially(found: list[Plan]) -> None:
    assert {plan.name: plan.sequential() for plan in found if plan.sequential()} == {}


async def test_no_list_examines_many_rows_for_a_page(found: list[Plan]) -> None:
    assert {plan.name: plan.examined() for plan in found if plan.examined() > EXAMINED} == {}


async def test_a_list_without_its_index_is_seen(filled: Filled) -> None:
    """The control: what this file asserts fails once the index of the newest executions is gone."""
    url = filled[0].resources.database_url
    with psycopg.connect(url, autocommit=True) as connection:
        (definition,) = connection.execute("SELECT pg_get_indexdef('casework.executions_page_idx'::regclass)")
        connection.execute("DROP INDEX casework.executions_page_idx")
        newest = next(plan for plan in await plans(*filled) if plan.name == "executions: newest")
        connection.execute(definition[0])
    assert newest.sequential() == {"executions"}
    assert newest.examined() > EXAMINED
