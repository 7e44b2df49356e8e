"""One stage per test module, and one worker that lives through all of its tests."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from casework.settings import Settings
from server.service import open_service
from tests.conftest import ROOT, Template, in_database, run_sql
from tests.forks import Forked
from tests.stage import LEASE, Stage
from tools.shop.sandbox_provider import SANDBOX_KEY, running_sandbox

PEPPER = "pepper-of-the-tests"


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
    folder = tmp_path_factory.mktemp("stage")
    book = Path(shutil.copy(template.book, folder / "payments.jsonl"))
    async with running_sandbox(book) as payments_url:
        settings = Settings.model_validate(
            {
                "database_url": module_database_url,
                "key_pepper": PEPPER,
                "data_dir": folder,
                "config": ROOT / "langgraph.json",
                "model": "offline",
                "payments_url": payments_url,
                "payments_key": SANDBOX_KEY,
                "modes": {"support": "autonomous"},
            }
        )
        env = {
            "DATABASE_URL": module_database_url,
            "CASEWORK_KEY_PEPPER": PEPPER,
            "CASEWORK_DATA_DIR": str(folder),
            "CASEWORK_MODEL": "offline",
            "CASEWORK_MODES__SUPPORT": "autonomous",
            "CASEWORK_PAYMENTS_URL": payments_url,
            "CASEWORK_PAYMENTS_KEY": SANDBOX_KEY,
            "CASEWORK_LEASE": f"PT{LEASE.total_seconds():g}S",
            "CASEWORK_RECONCILE_EVERY": "PT0.5S",
        }
        async with open_service(settings, module_database_url) as service:
            yield Stage(service, env, book, folder)


@pytest_asyncio.fixture(scope="module")
async def survivor(stage: Stage) -> AsyncIterator[Forked]:
    """The worker that nothing is done to, but to be frozen while another one takes the case."""
    with stage.worker("survivor") as worker:
        await worker.ready()
        yield worker
        await worker.stop()
