"""A real Postgres for every test that asks: one embedded server a session, one database a test, cloned in 40 ms."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import hypothesis
import psycopg
import pytest
import pytest_asyncio
import structlog
from psycopg import sql
from sqlalchemy import insert, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from casework.actor import Actor, Role
from casework.embedded import embedded_postgres
from casework.migrate import migrate
from casework.resources import Pool, open_resources
from casework.settings import Settings
from casework.tables import actors
from server.service import Service, open_service
from tools.shop.opening import prepare_shop
from tools.shop.sandbox_provider import SANDBOX_KEY, running_sandbox
from tools.shop.services import shop_services

ROOT = Path(__file__).parent.parent
TEMPLATE = "casework_test_template"
PLENTY = {"EUR": 10_000_00}
"""More than anything in the shop costs."""
TEAM = [
    {"tenant": "default", "actor_id": "olga", "roles": ["operator"], "limits": {}},
    {"tenant": "default", "actor_id": "ada", "roles": ["approver"], "limits": PLENTY},
    {"tenant": "default", "actor_id": "ben", "roles": ["approver"], "limits": PLENTY},
    {"tenant": "default", "actor_id": "ann", "roles": ["approver", "operator"], "limits": PLENTY},
    {"tenant": "default", "actor_id": "bot", "roles": ["approver", "service"], "limits": PLENTY},
]
"""Who exists in every test's database: whoever decides must be somebody."""

# A shared machine is slow at any moment; tests that are about time measure it themselves.
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> None:
    """Structlog's default draws a traceback with all its locals: seconds of work for each run that is to fail."""
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, plain])


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's maintenance database. CASEWORK_TEST_DATABASE_URL names another server than the embedded one."""
    given = os.environ.get("CASEWORK_TEST_DATABASE_URL")
    if given:
        yield given
        return
    folder = tmp_path_factory.mktemp("db")
    with embedded_postgres(folder) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            # Only the machine's own crash would lose data, and making and dropping databases is much quicker.
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield url


def in_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def run_sql(url: str, statement: str, name: str, *more: str) -> None:
    """One statement about databases, which cannot run in a transaction."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(name), *map(sql.Identifier, more)))


def async_engine(url: str) -> AsyncEngine:
    return create_async_engine(make_url(url).set(drivername="postgresql+psycopg"))


@dataclass(frozen=True)
class Template:
    """A migrated database with a filled shop, and the provider's book that goes with it."""

    name: str
    book: Path


@pytest_asyncio.fixture(scope="session")
async def template(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Template:
    name = f"{TEMPLATE}_{uuid4().hex[:8]}"
    run_sql(postgres_url, "CREATE DATABASE {}", name)
    url = in_database(postgres_url, name)
    await migrate(url)
    book = tmp_path_factory.mktemp("book") / "payments.jsonl"
    engine = async_engine(url)
    async with running_sandbox(book) as sandbox, shop_services(sandbox, SANDBOX_KEY) as services:
        await prepare_shop(engine, services)
    async with engine.begin() as db:
        await db.execute(insert(actors), TEAM)
    await engine.dispose()
    return Template(name, book)


@pytest.fixture
def database_url(postgres_url: str, template: Template) -> Iterator[str]:
    """A fresh, migrated database with a filled shop."""
    name = f"casework_test_{uuid4().hex[:12]}"
    run_sql(postgres_url, "CREATE DATABASE {} TEMPLATE {}", name, template.name)
    yield in_database(postgres_url, name)
    run_sql(postgres_url, "DROP DATABASE {} WITH (FORCE)", name)


@pytest_asyncio.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    made = async_engine(database_url)
    yield made
    await made.dispose()


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with open_resources(Settings(_env_file=None), database_url) as resources:  # type: ignore[call-arg]
        yield resources.pool


@pytest.fixture
def payments_book(template: Template, tmp_path: Path) -> Path:
    """The provider's book as the filled shop left it; this test's own copy."""
    book = tmp_path / "payments.jsonl"
    shutil.copy(template.book, book)
    return book


@pytest_asyncio.fixture
async def payments_url(payments_book: Path) -> AsyncIterator[str]:
    """A sandbox provider of this test's own."""
    async with running_sandbox(payments_book) as url:
        yield url


@pytest.fixture
def settings(database_url: str, payments_url: str, tmp_path: Path) -> Settings:
    """Offline model, autonomous support, quick leases; nothing from the machine's environment."""
    return Settings.model_validate(
        {
            "database_url": database_url,
            "key_pepper": "pepper-of-the-tests",
            "data_dir": tmp_path,
            "config": ROOT / "langgraph.json",
            "model": "offline",
            "payments_url": payments_url,
            "payments_key": SANDBOX_KEY,
            "modes": {"support": "autonomous"},
            "lease": timedelta(seconds=2),
            "retry_delay": timedelta(milliseconds=20),
            "reconcile_every": timedelta(seconds=1),
        }
    )


@pytest_asyncio.fixture
async def service(settings: Settings, database_url: str) -> AsyncIterator[Service]:
    """Everything the API and a worker stand on, open on this test's database."""
    async with open_service(settings, database_url) as opened:
        yield opened


@pytest.fixture
def operator() -> Actor:
    return Actor(actor_id="olga", roles=frozenset({Role.OPERATOR}))


@pytest.fixture
def approver() -> Actor:
    return Actor(actor_id="ada", roles=frozenset({Role.APPROVER}))


@pytest.fixture
def second_approver() -> Actor:
    return Actor(actor_id="ben", roles=frozenset({Role.APPROVER}))
