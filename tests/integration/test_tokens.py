"""What models are saying: told live and whole to whoever listens, to nobody else, and never at the run's cost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio
from llmock.scenarios import ToolCall

from casework import tokens
from casework.execution import Status
from casework.listening import Ear, Listener
from casework.resources import Pool, Resources
from casework.settings import Settings
from casework.tokens import SEND_EVERY_S, Tokens
from server.service import Service
from tests.model_server import calls, model_server, rest, route, says, support_over_http

TEXT = "We have paid back 34.90 EUR for the vase; it takes up to five days to arrive. Sorry! 🏺 " * 40
PATIENCE_S = 10.0


@pytest_asyncio.fixture
async def resources(service: Service) -> AsyncIterator[Resources]:
    async with service.listener.running():
        yield service.resources


@asynccontextmanager
async def listening(listener: Listener, pool: Pool, execution_id: UUID) -> AsyncIterator[Ear]:
    """A reader whose presence the workers know of."""
    announced = "SELECT 1 FROM casework.listeners WHERE until > now() AND %s = ANY(executions)"
    with listener.attend(execution_id, tokens=True) as ear:
        async with asyncio.timeout(PATIENCE_S), pool.connection() as connection:
            while await (await connection.execute(announced, (execution_id,))).fetchone() is None:
                pass
        yield ear


async def heard(ear: Ear, chars: int) -> list[dict[str, Any]]:
    """Tokens, until they are this much text."""
    told: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE_S):
        while sum(len(token["text"]) for token in told) < chars:
            await ear.news.wait()
            ear.news.clear()
            told += map(json.loads, ear.take_tokens())
    return told


async def test_a_listener_hears_an_answer_while_it_is_said_and_whole(service: Service, resources: Resources) -> None:
    execution_id = uuid4()
    async with listening(service.listener, resources.pool, execution_id) as ear:
        speech = Tokens(resources.pool).speech(execution_id, "billing")
        await speech.say(TEXT[:10])
        first = await heard(ear, 10)
        assert first == [{"message_id": speech.message_id, "specialist": "billing", "at": 0, "text": TEXT[:10]}]
        await speech.say(TEXT[10:])
        await speech.end()
        told = first + await heard(ear, len(TEXT) - 10)
    assert "".join(token["text"] for token in told) == TEXT
    assert [token["at"] for token in told] == [sum(len(t["text"]) for t in told[:i]) for i in range(len(told))]


async def test_what_is_said_fast_is_told_in_few_pieces(service: Service, resources: Resources) -> None:
    execution_id = uuid4()
    async with listening(service.listener, resources.pool, execution_id) as ear:
        began = time.monotonic()
        speech = Tokens(resources.pool).speech(execution_id, "billing")
        for character in TEXT[:900]:
            await speech.say(character)
        await speech.end()
        most = 2 + (time.monotonic() - began) / SEND_EVERY_S
        told = await heard(ear, 900)
    assert len(told) <= most


@pytest.mark.parametrize("character", ["\x01", "🏺", "\udcff", "\x00"])
async def test_any_text_fits_into_notifications(service: Service, resources: Resources, character: str) -> None:
    execution_id = uuid4()
    async with listening(service.listener, resources.pool, execution_id) as ear:
        speech = Tokens(resources.pool).speech(execution_id, "billing")
        await speech.say(character * 5000)
        told = await heard(ear, 5000)
    expected = character if character in "\x01🏺" else "\ufffd"
    assert "".join(token["text"] for token in told) == expected * 5000


async def test_nobody_is_told_what_nobody_listens_to(service: Service, resources: Resources) -> None:
    listened, unheard = uuid4(), uuid4()
    worker = Tokens(resources.pool)
    async with (
        await psycopg.AsyncConnection.connect(resources.database_url, autocommit=True) as raw,
        listening(service.listener, resources.pool, listened),
    ):
        await raw.execute(f"LISTEN {tokens.CHANNEL}".encode())
        for execution_id in (unheard, listened):  # the second is the control
            speech = worker.speech(execution_id, "billing")
            await speech.say(TEXT[:10])
            await speech.end()
        async for notice in raw.notifies(timeout=PATIENCE_S, stop_after=1):
            assert notice.payload.startswith(str(listened))


async def test_whoever_comes_in_the_middle_hears_the_answer_from_its_beginning(
    service: Service, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(tokens, "SEND_EVERY_S", 0.0)
    execution_id = uuid4()
    speech = Tokens(resources.pool).speech(execution_id, "billing")
    await speech.say(TEXT[:100])
    async with listening(service.listener, resources.pool, execution_id) as ear:
        await speech.say(TEXT[100:200])
        (token,) = await heard(ear, 200)
    assert (token["at"], token["text"]) == (0, TEXT[:200])


class Asked:
    """A pool that counts what it is asked for, and has nothing to give."""

    def __init__(self) -> None:
        self.times = 0

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        self.times += 1
        raise psycopg.OperationalError("the database is away")
        yield


async def test_the_database_is_asked_once_a_second_and_may_be_away() -> None:
    pool = Asked()
    worker = Tokens(pool)  # type: ignore[arg-type]
    began = time.monotonic()
    for _ in range(50):
        speech = worker.speech(uuid4(), "billing")
        await speech.say(TEXT)
        await speech.end()
    assert 1 <= pool.times <= 1 + time.monotonic() - began


async def test_a_listener_that_died_is_talked_to_no_longer(resources: Resources) -> None:
    execution_id = uuid4()
    row = "INSERT INTO casework.listeners VALUES (gen_random_uuid(), ARRAY[%s], now() + %s * interval '1 s')"
    async with resources.pool.connection() as connection:
        await connection.execute(row, (execution_id, -1))
        assert not await Tokens(resources.pool).wanted(execution_id)
        await connection.execute(row, (execution_id, 5))  # the control
        assert await Tokens(resources.pool).wanted(execution_id)


async def test_a_specialists_words_come_live_under_the_id_of_its_answer(
    settings: Settings, database_url: str, service: Service, resources: Resources
) -> None:
    replies, solves = (
        ToolCall("reply_to_customer", {"body": "We are looking into it. Sorry for the trouble."}),
        ToolCall("update_ticket", {"status": "solved", "note": "Answered the customer."}),
    )
    with model_server() as models:
        models.plan(route("billing"), calls(replies, solves), says(TEXT))
        async with support_over_http(settings, database_url, models) as case:
            execution_id = await case.start("T-1042")
            async with listening(service.listener, resources.pool, execution_id) as ear:
                assert await rest(case, execution_id) is Status.SUCCEEDED, (await case.get(execution_id)).result[
                    "outcome"
                ]
                told = await heard(ear, len(TEXT))
            answered = (await case.events(execution_id, "model.answered"))[-1].data
    assert "".join(token["text"] for token in told) == answered["text"] == TEXT
    assert {token["message_id"] for token in told} == {answered["message_id"]}
