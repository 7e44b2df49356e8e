"""A database that goes away in the middle: what was committed stays, what it had no part in is not blamed on a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
import sqlalchemy.exc
from procrastinate.exceptions import ConnectorException
from psycopg import errors
from psycopg_pool import PoolTimeout
from sqlalchemy import text

from casework import faults
from casework.database import DATABASE_AWAY, GRACE_S, KEEPALIVE, is_outage
from casework.execution import Mode, Status
from casework.settings import Settings
from graphs import runner
from tests.outside import Desk, PayArgs
from tests.own_postgres import OwnPostgres, fill, own_postgres
from tests.rig import OLGA, Rig, call, rig, scripted
from tests.silent_proxy import Proxy
from tools.scope import Scope
from tools.spec import Effect, ToolContext, tool

REPLY = call("reply_to_customer", body="We looked into it.")
ACTING = """SELECT pid FROM pg_stat_activity
WHERE state = 'idle in transaction' AND query LIKE '%UPDATE casework.audit_head%'"""
"""Whether a call's transaction is about to commit."""
PATIENCE = timedelta(seconds=0.5)
SILENCE_S = PATIENCE.total_seconds() + GRACE_S


@pytest.fixture(autouse=True)
def nothing_armed() -> Iterator[None]:
    yield
    faults.arm({})


def arm(point: str) -> None:
    faults.arm({"CASEWORK_FAULTS": point, "CASEWORK_ALLOW_FAULTS": "1"})


@pytest.mark.parametrize(("mode", "ends"), [(Mode.AUTONOMOUS, Status.SUCCEEDED), (Mode.COPILOT, Status.WAITING)])
async def test_an_end_whose_commit_was_not_answered_stays_the_end(
    settings: Settings, database_url: str, mode: Mode, ends: Status
) -> None:
    async with rig(settings, database_url, scripted([REPLY], "Done.")) as case:
        execution_id = await case.start("T-1042", mode)
        arm("after_finish=raise")
        assert await case.advance(execution_id) is None
        assert (await case.get(execution_id)).status is ends
        (finished,) = await case.events(execution_id, "run.finished", "run.released")
        assert finished.data["status"] == ends


def wrapped(error: psycopg.Error) -> Exception:
    """As SQLAlchemy hands it on."""
    return sqlalchemy.exc.DBAPIError.instance("", {}, error, psycopg.Error, dialect=None)  # type: ignore[no-any-return, call-overload]


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (errors.AdminShutdown(), True),
        (errors.CannotConnectNow(), True),
        (errors.TooManyConnections(), True),
        (errors.DiskFull(), True),
        (errors.ReadOnlySqlTransaction(), True),
        (errors.IdleInTransactionSessionTimeout(), True),
        (errors.LockNotAvailable(), True),
        (psycopg.OperationalError("the connection is closed"), True),
        (errors.QueryCanceled(), False),
        (errors.ProgramLimitExceeded(), False),
        (errors.InFailedSqlTransaction(), False),
        (errors.UniqueViolation(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_outage_is_told_from_a_statement_that_will_never_do(error: psycopg.Error, outage: bool) -> None:
    assert is_outage(error) is outage
    assert is_outage(wrapped(error)) is outage


def test_a_pool_without_a_connection_is_an_outage() -> None:
    queue = ConnectorException()
    queue.__cause__ = errors.QueryCanceled()
    assert not is_outage(queue)
    assert all(map(is_outage, (PoolTimeout(), sqlalchemy.exc.TimeoutError(), ConnectorException())))


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    with own_postgres(tmp_path_factory.mktemp("own")) as started:
        yield started


@pytest_asyncio.fixture(scope="module")
async def filled(postgres: OwnPostgres, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The provider's book after the shop was filled."""
    book = tmp_path_factory.mktemp("book") / "payments.jsonl"
    await fill(postgres.url, book)
    return book


@pytest_asyncio.fixture
async def proxy(postgres: OwnPostgres, filled: Path) -> AsyncIterator[Proxy]:
    made = Proxy(postgres.port)
    async with made.running():
        yield made


@pytest_asyncio.fixture
async def case(postgres: OwnPostgres, proxy: Proxy, settings: Settings) -> AsyncIterator[Rig]:
    """A rig on a server of its own, through a proxy that may fall silent."""
    url = postgres.at(proxy.port)
    own = settings.model_copy(
        update={"database_timeout": PATIENCE, "lease": timedelta(seconds=30), "retry_delay": timedelta(0)}
    )
    async with rig(own, url, scripted([REPLY], "Done.")) as made:
        yield made


async def test_a_server_that_falls_silent_is_given_up(case: Rig, proxy: Proxy) -> None:
    assert await case.scalar("SELECT 1") == 1
    proxy.fall_silent()
    async with asyncio.timeout(SILENCE_S + 2 * KEEPALIVE["connect_timeout"]):
        with pytest.raises(DATABASE_AWAY):
            await case.scalar("SELECT 1")
    proxy.heal()
    assert await case.scalar("SELECT 1") == 1


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(case: Rig) -> None:
    with pytest.raises(DATABASE_AWAY, match="statement timeout"):
        await case.scalar("SELECT pg_sleep(5)")
    assert await case.scalar("SELECT 1") == 1


async def test_a_call_whose_commit_was_not_answered_is_not_told_as_failed(case: Rig, proxy: Proxy) -> None:
    """The tool's own time-out is shorter than the silence: it must not be taken for "nothing was changed"."""
    execution_id = await case.start("T-1042")
    leg = await case.legs.claim(execution_id, "tester", timedelta(seconds=60))
    assert leg is not None
    desk = Desk(case, Scope(execution_id, OLGA, leg.fence, Mode.AUTONOMOUS, case.resources))
    await case.execute("CREATE TABLE paid (amount int)")

    async def write(args: PayArgs, ctx: ToolContext) -> dict[str, Any]:
        """Write it down."""
        await ctx.transaction.execute(text("INSERT INTO paid VALUES (:a)"), {"a": args.amount})
        return {"paid": args.amount}

    spec = tool(effect=Effect.TRANSACTIONAL, permission="pay", timeout_s=0.5)(write)
    proxy.last_words = lambda sent: b"COMMIT" in sent
    with pytest.raises(DATABASE_AWAY):
        await desk.call(spec)
    proxy.last_words = lambda sent: False
    proxy.heal()
    assert await desk.call(spec) == {"paid": 5}
    assert await case.scalar("SELECT count(*) FROM paid") == 1


@pytest.mark.parametrize(
    ("blameless", "ends"),
    [
        pytest.param(is_outage, Status.SUCCEEDED, id="an outage is no failed attempt"),
        pytest.param(lambda error: False, Status.FAILED, id="counted as one it fails the case"),
    ],
)
async def test_a_case_that_the_database_goes_away_from_again_and_again(
    case: Rig, postgres: OwnPostgres, monkeypatch: pytest.MonkeyPatch, blameless: Any, ends: Status
) -> None:
    monkeypatch.setattr(runner, "is_outage", blameless)
    arm("before_done=delay:0.5")
    execution_id = await case.start("T-1042")
    for _ in range(case.resources.settings.max_attempts):
        run = asyncio.create_task(case.advance(execution_id))
        async with asyncio.timeout(10):
            while not postgres.execute(ACTING):  # noqa: ASYNC110 - it lies in the server
                await asyncio.sleep(0.02)
        postgres.cut_all()
        await run
    faults.arm({})
    if ends is Status.SUCCEEDED:
        await case.advance(execution_id)
    assert (await case.get(execution_id)).status is ends
