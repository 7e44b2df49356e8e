"""Postgres in trouble, under load: told to come again and served later, and nothing lost, doubled or left hanging."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

import httpx
import psycopg
import pytest
import pytest_asyncio

from casework.actor import SYSTEM, Role
from casework.execution import Status
from tests.callers import Caller
from tests.conftest import Template
from tests.forks import Forked
from tests.own_postgres import OwnPostgres, fill, own_postgres
from tests.processes import PATIENCE_S
from tests.rig import ADA, OLGA
from tests.silent_proxy import Proxy
from tests.stage import KEYED, TRANSACTIONAL, Case, Stage

pytestmark = pytest.mark.long

PATIENCE = "PT2S"
"""CASEWORK_DATABASE_TIMEOUT of the processes under test."""
LASTS_S = 6.0
"""How long a trouble lasts: longer than that patience, and than a lease."""
GONE_WITHIN_S = 10.0
"""How soon a process must end that is told to."""
HEALED_WITHIN_S = 10.0
"""How soon after it the API must be ready again."""


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    with own_postgres(tmp_path_factory.mktemp("own")) as started:
        yield started


@pytest_asyncio.fixture(scope="module")
async def template(postgres: OwnPostgres, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """In place of the session's: this server's own database."""
    book = tmp_path_factory.mktemp("book") / "payments.jsonl"
    await fill(postgres.url, book)
    return Template("postgres", book)


@pytest.fixture(scope="module")
def module_database_url(postgres: OwnPostgres, template: Template) -> str:
    return postgres.url


@dataclass
class Fleet:
    """A real API and two real workers behind a proxy; they live through every trouble."""

    stage: Stage
    postgres: OwnPostgres
    proxy: Proxy
    api: Forked
    workers: tuple[Forked, Forked]
    url: str
    keys: dict[str, str]

    def caller(self, name: str) -> Caller:
        return Caller(self.url, self.keys[name])

    @property
    def processes(self) -> tuple[Forked, ...]:
        return (self.api, *self.workers)

    async def status(self, path: str) -> int:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=PATIENCE_S) as client:
            return (await client.get(path)).status_code


@pytest_asyncio.fixture(scope="module")
async def fleet(stage: Stage, postgres: OwnPostgres) -> AsyncIterator[Fleet]:
    add_key = stage.service.identity.add_key
    keys = {
        "olga": await add_key("default", OLGA.actor_id, frozenset({Role.OPERATOR}), by=SYSTEM),
        "ada": await add_key("default", ADA.actor_id, frozenset({Role.APPROVER}), by=SYSTEM),
    }
    proxy = Proxy(postgres.port)
    async with proxy.running():
        env = {**stage.env, "DATABASE_URL": postgres.at(proxy.port), "CASEWORK_DATABASE_TIMEOUT": PATIENCE}
        staged = replace(stage, env=env)
        async with staged.api("api") as (api, url):
            with staged.worker("first") as first, staged.worker("second") as second:
                await first.ready()
                await second.ready()
                yield Fleet(staged, postgres, proxy, api, (first, second), url, keys)
                for process in (api, first, second):
                    await process.stop()


@asynccontextmanager
async def cut_again_and_again(fleet: Fleet) -> AsyncIterator[None]:
    async def cut() -> None:
        while True:
            await asyncio.to_thread(fleet.postgres.cut_all)
            await asyncio.sleep(0.5)

    cutting = asyncio.create_task(cut())
    yield
    cutting.cancel()
    await asyncio.gather(cutting, return_exceptions=True)


@asynccontextmanager
async def restarted_fast(fleet: Fleet) -> AsyncIterator[None]:
    await asyncio.to_thread(fleet.postgres.restart, "fast")
    yield


@asynccontextmanager
async def restarted_as_after_a_crash(fleet: Fleet) -> AsyncIterator[None]:
    await asyncio.to_thread(fleet.postgres.restart, "immediate")
    yield


@asynccontextmanager
async def gone(fleet: Fleet) -> AsyncIterator[None]:
    await asyncio.to_thread(fleet.postgres.stop, "fast")
    yield
    await asyncio.to_thread(fleet.postgres.start)


@asynccontextmanager
async def read_only(fleet: Fleet) -> AsyncIterator[None]:
    with fleet.postgres.configured("default_transaction_read_only", "on"):
        yield


@asynccontextmanager
async def full_of_others(fleet: Fleet) -> AsyncIterator[None]:
    """Every connection that the server has to give is somebody else's."""
    with ExitStack() as others:
        while one_more := another(fleet.postgres):
            others.enter_context(one_more)
            with suppress(psycopg.OperationalError):  # it was the last one
                fleet.postgres.cut_all(but="others")
        yield


def another(postgres: OwnPostgres) -> psycopg.Connection | None:
    """A connection; None when there are too many already."""
    try:
        return psycopg.connect(postgres.url, application_name="others")
    except psycopg.OperationalError as refused:
        if "too many clients" not in str(refused):
            raise
        return None


@asynccontextmanager
async def disk_full(fleet: Fleet) -> AsyncIterator[None]:
    """What the server says when a file cannot grow, of every row that would be added."""
    fleet.postgres.execute(
        "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"
    )
    for table in ("casework.executions", "casework.events", "checkpoints", "checkpoint_writes", "procrastinate_jobs"):
        fleet.postgres.execute(f"CREATE TRIGGER no_space BEFORE INSERT ON {table} EXECUTE FUNCTION no_space()")
    yield
    fleet.postgres.execute("DROP FUNCTION no_space CASCADE")


@asynccontextmanager
async def locked(fleet: Fleet) -> AsyncIterator[None]:
    """Somebody holds the central table, as a careless migration does."""
    async with await psycopg.AsyncConnection.connect(fleet.postgres.url) as somebody:
        await somebody.execute("LOCK TABLE casework.executions IN ACCESS EXCLUSIVE MODE")
        yield


@asynccontextmanager
async def silent(fleet: Fleet) -> AsyncIterator[None]:
    """Connections stay open, and nothing comes through: neither an answer nor a goodbye."""
    fleet.proxy.fall_silent()
    yield
    fleet.proxy.heal()


@dataclass
class Load:
    """Cases that are started all the while, each once, however often it takes."""

    fleet: Fleet
    cases: list[dict[str, str]]
    caller: Caller
    done: list[str] = field(default_factory=list)
    """Ids of the executions that were accepted."""

    async def run(self) -> None:
        for case in self.cases:
            answer = await self.caller.start(case, wait_s=1)
            assert answer.status_code in (200, 201, 202), answer.text
            self.done.append(answer.json()["execution_id"])


Trouble = Callable[[Fleet], AbstractAsyncContextManager[None]]


@pytest.mark.parametrize(
    ("trouble", "reads", "ready"),
    [
        (cut_again_and_again, None, None),
        (restarted_fast, None, None),
        (restarted_as_after_a_crash, None, None),
        (gone, 503, 503),
        (read_only, 200, 503),
        (full_of_others, 503, 503),
        (disk_full, 200, 200),
        (locked, 503, 200),
        (silent, 503, 503),
    ],
)
async def test_postgres_in_trouble(fleet: Fleet, trouble: Trouble, reads: int | None, ready: int | None) -> None:
    """`reads`, `ready`: what GET /executions and /readyz answer meanwhile; None: both are right."""
    stage, olga = fleet.stage, fleet.caller("olga")
    cases = [await stage.copy(like) for like in (KEYED, TRANSACTIONAL) * 6]
    asking = await stage.copy(KEYED)
    started = await olga.start(asking, mode="copilot", wait_s=20)
    assert (started.status_code, started.json()["status"]) == (201, "waiting")
    reader = asyncio.create_task(fleet.caller("olga").follow(started.json()["execution_id"]))
    loads = [Load(fleet, cases[i::3], fleet.caller("olga")) for i in range(3)]
    running = [asyncio.create_task(load.run()) for load in loads]
    await asyncio.sleep(0.3)  # so that some are under way

    async with trouble(fleet):
        ends_at = time.monotonic() + LASTS_S
        while time.monotonic() < ends_at:
            assert await fleet.status("/healthz") == 200
            seen = (await fleet.caller("olga").once("GET", "/executions"), await fleet.status("/readyz"))
            await asyncio.sleep(0.2)
    answer, readiness = seen
    assert ready in (readiness, None)
    assert reads in (503 if answer is None else answer.status_code, None)

    healed = time.monotonic()
    while await fleet.status("/readyz") != 200:
        assert time.monotonic() - healed < HEALED_WITHIN_S
        await asyncio.sleep(0.1)
    await asyncio.gather(*running)
    for load, mine in ((load, cases[i::3]) for i, load in enumerate(loads)):
        for execution_id, ids in zip(load.done, mine, strict=True):
            case = Case(execution_id, ids["ticket"], ids["order"])
            assert await stage.over(case) is Status.SUCCEEDED
            assert await stage.messages(case) == 2
            assert stage.paid_back(case) in ([], [1780])
    case = Case(started.json()["execution_id"], asking["ticket"], asking["order"])
    for _ in range(3):  # the refund, the letter and the note
        asked = await stage.asked(case)
        decision = {"type": "approve", "digest": asked.digest}
        await fleet.caller("ada").ask("POST", f"/approvals/{asked.approval_id}/decision", json=decision)
    story = await reader
    assert [event.seq for event in story[:-1]] == list(range(1, len(story)))
    assert (story[-1].type, story[-1].data) == ("end", {"status": "succeeded"})
    assert stage.paid_back(case) == [1780]
    assert [process.process.exitcode for process in fleet.processes] == [None, None, None]
    assert [load.caller.unexpected for load in loads] == [[], [], []]
    assert await stage.broken() == []


async def test_told_to_stop_while_postgres_is_gone(stage: Stage, postgres: OwnPostgres) -> None:
    async with stage.api("stopped-api") as (api, _):
        with stage.worker("stopped-worker") as worker:
            await worker.ready()
            await asyncio.to_thread(postgres.stop, "fast")
            await asyncio.sleep(LASTS_S / 2)  # so that they know
            told = time.monotonic()
            await asyncio.gather(api.stop(), worker.stop())
            assert time.monotonic() - told < GONE_WITHIN_S
    await asyncio.to_thread(postgres.start)
