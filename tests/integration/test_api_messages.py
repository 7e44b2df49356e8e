"""Further messages over HTTP: what is answered when, what is refused, and that repeating is safe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from casework.settings import Settings
from policies.content import MAX_REQUEST_CHARS
from server.service import open_service
from tests.web import DAMAGED, LEGAL, Web, open_web

SOLVED = {"ticket_id": "T-1006", "user_id": "C-1006"}
"""A question that an article answers: nobody is asked, and it succeeds."""


async def send(web: Web, execution_id: str, words: str, who: str = "olga", key: str | None = None) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    path = f"/executions/{execution_id}/messages"
    return await web.call(who, "POST", path, json={"text": words}, headers=headers)


async def listed(web: Web, execution_id: str, query: str = "") -> Any:
    return await web.get(f"/executions/{execution_id}/messages{query}")


async def test_a_message_is_taken_listed_and_read(web: Web) -> None:
    execution_id = (await web.approval(DAMAGED))["execution_id"]
    response = await send(web, execution_id, "Never mind, my bank has sorted it out.")
    assert response.status_code == 202
    assert response.headers["location"] == f"/executions/{execution_id}"
    taken = response.json()
    assert taken.pop("at")
    assert taken == {
        "number": 1,
        "author": "olga",
        "text": "Never mind, my bank has sorted it out.",
        "status": "queued",
    }
    (message,) = (await listed(web, execution_id))["messages"]
    assert (message["number"], message["read"]) == (1, False)
    async with web.worker.running():
        ended = await web.rested(execution_id)
    assert (ended["status"], ended["messages"], ended["messages_read"]) == ("succeeded", 1, 1)
    assert ended["result"]["answer"].startswith("The customer takes the request back. Done before that: nothing.")
    (message,) = (await listed(web, execution_id))["messages"]
    assert message["read"] is True


@pytest.mark.parametrize(("case", "status"), [(DAMAGED, "queued"), (SOLVED, "queued"), (LEGAL, "escalated")])
async def test_the_answer_says_what_follows(web: Web, case: dict[str, str], status: str) -> None:
    execution_id = (await web.run(case))["execution_id"]
    response = await send(web, execution_id, "Hello?", "bot")
    assert (response.status_code, response.json()["status"]) == (202, status)


async def test_an_execution_that_was_cancelled_takes_none(web: Web) -> None:
    execution_id = (await web.approval(DAMAGED))["execution_id"]
    await web.call("olga", "POST", f"/executions/{execution_id}/cancel")
    response = await send(web, execution_id, "Hello?")
    assert (response.status_code, response.json()["code"]) == (409, "execution_over")
    assert "start a new execution" in response.json()["detail"]
    assert (await listed(web, execution_id)) == {"messages": [], "next_after": 0}


async def test_the_same_key_brings_one_message(web: Web) -> None:
    execution_id = (await web.run(SOLVED))["execution_id"]
    first = await send(web, execution_id, "Thanks!", key="k1")
    again = await send(web, execution_id, "Thanks!", key="k1")
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json() == again.json()
    other = await send(web, execution_id, "Thanks a lot!", key="k1")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    await web.call("olga", "POST", f"/executions/{execution_id}/cancel")
    late = await send(web, execution_id, "Thanks!", key="k1")
    assert (late.status_code, late.json()["status"]) == (200, "cancelled")
    assert len((await listed(web, execution_id))["messages"]) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "text"),
        ({"text": ""}, "text"),
        ({"text": " \n\u200b"}, "text"),
        ({"text": "x" * (MAX_REQUEST_CHARS + 1)}, "text"),
        ({"text": "a\x00b"}, "text"),
        ({"text": "a\ud800b"}, "text"),
        ({"text": 5}, "text"),
        ({"text": "Hello?", "status": "succeeded"}, "status"),
    ],
    ids=["none", "empty", "nothing to see", "too long", "NUL", "half a character", "no text", "more"],
)
async def test_bad_input_names_its_field_and_changes_nothing(web: Web, body: dict[str, Any], field: str) -> None:
    approval = await web.approval(DAMAGED)
    path = f"/executions/{approval['execution_id']}/messages"
    headers = {"Content-Type": "application/json"}
    response = await web.call("olga", "POST", path, content=json.dumps(body), headers=headers)
    assert response.status_code == 422, response.text
    assert (response.json()["code"], response.json()["field"]) == ("input_invalid", field)
    assert (await web.get(f"/approvals/{approval['approval_id']}"))["state"] == "pending"
    assert (await listed(web, approval["execution_id"]))["messages"] == []


async def test_the_longest_message_is_taken_whole(web: Web) -> None:
    execution_id = (await web.run(SOLVED))["execution_id"]
    response = await send(web, execution_id, "é" * MAX_REQUEST_CHARS)
    assert response.status_code == 202
    async with web.service.resources.engine.connect() as db:
        query = text("SELECT length(text) FROM casework.messages WHERE execution_id = :e")
        assert await db.scalar(query, {"e": UUID(execution_id)}) == MAX_REQUEST_CHARS


async def test_messages_come_in_pages(web: Web) -> None:
    execution_id = (await web.run(LEGAL))["execution_id"]
    for n in range(1, 4):
        await send(web, execution_id, f"Number {n}")
    first = await listed(web, execution_id, "?limit=2")
    assert ([m["text"] for m in first["messages"]], first["next_after"]) == (["Number 1", "Number 2"], 2)
    rest = await listed(web, execution_id, "?limit=2&after=2")
    assert ([m["text"] for m in rest["messages"]], rest["next_after"]) == (["Number 3"], 3)
    assert await listed(web, execution_id, "?after=3") == {"messages": [], "next_after": 3}


async def test_a_graph_of_somebody_else_takes_no_messages(
    settings: Settings, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "langgraph.json"
    graphs = {"asking": "tests.foreign.questions:json_schema_builder"}
    config.write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
    elsewhere = settings.model_copy(update={"config": config})
    async with open_service(elsewhere, database_url) as service, service.listener.running():
        web = await open_web(service)
        started = await web.call("olga", "POST", "/workflows/asking/executions", json={"input": {}})
        execution_id = started.json()["execution_id"]
        response = await send(web, execution_id, "Hello?")
        assert (response.status_code, response.json()["code"]) == (409, "takes_no_messages")
        assert "workflow asking takes no messages" in response.json()["detail"]
        async with web.browser("olga") as browser:
            assert "Pass on a further message" not in (await browser.get(f"/desk/executions/{execution_id}")).text
