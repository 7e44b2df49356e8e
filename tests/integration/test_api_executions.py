"""Executions over HTTP: started once, waited for, found again, cancelled; bad input changes nothing."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import uuid4

import pytest

from server import waiting
from tests.web import DAMAGED, LEGAL, Web

START = "/workflows/support/executions"
RESOLVE = "/workflows/support/resolve"


async def test_a_start_is_queued_and_says_where_to_look(web: Web) -> None:
    response = await web.call("olga", "POST", START, json={"input": DAMAGED})
    execution = response.json()
    assert (response.status_code, execution["status"], execution["requester"]) == (202, "queued", "olga")
    assert response.headers["location"] == f"/executions/{execution['execution_id']}"
    assert (await web.get(response.headers["location"]))["execution_id"] == execution["execution_id"]
    assert execution["input"]["case"] == {"customer_id": "C-1005", "ticket_id": "T-1005"}


BAD_INPUT: list[tuple[str, Any, str]] = [
    (START, {}, "input"),
    (START, {"input": {}}, "input.ticket_id"),
    (START, {"input": {"ticket_id": "1042", "user_id": "C-1"}}, "input.ticket_id"),
    (START, {"input": {"ticket_id": "T-1", "user_id": 7}}, "input.user_id"),
    (START, {"input": {**DAMAGED, "amount": 5}}, "input.amount"),
    (START, {"input": DAMAGED, "configurable": {"thread_id": "x"}}, "configurable"),
    (START, {"input": DAMAGED, "mode": "yolo"}, "mode"),
    (START, [], "body"),
    (RESOLVE, {"ticket_id": "T-1042"}, "user_id"),
    (RESOLVE, {"ticket_id": "T-1042", "user_id": "c-1"}, "user_id"),
]


async def test_bad_input_is_named_by_its_field_and_changes_nothing(web: Web) -> None:
    for path, body, field in BAD_INPUT:
        response = await web.call("olga", "POST", path, json=body)
        problem = response.json()
        assert (response.status_code, problem["code"], problem["field"]) == (422, "input_invalid", field)
        assert problem["detail"].startswith(f"{field}: ")
        assert field in {error["field"] for error in problem["errors"]}
    assert (await web.get("/executions"))["executions"] == []


async def test_a_body_that_is_no_json_is_told_so(web: Web) -> None:
    headers = {"Content-Type": "application/json"}
    response = await web.call("olga", "POST", START, content=b'{"input": ', headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "input_invalid")
    deep = await web.call("olga", "POST", START, content=b"[" * 200_000, headers=headers)
    assert deep.status_code in (400, 422)


async def test_the_case_must_be_the_callers_own(web: Web) -> None:
    for user in ("C-1006", "C-999999"):
        response = await web.call("olga", "POST", RESOLVE, json={"ticket_id": "T-1005", "user_id": user})
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
        assert response.json()["detail"] == f"customer {user} has no ticket T-1005"
    unknown = await web.call("olga", "POST", "/workflows/suport/executions", json={"input": DAMAGED})
    assert (unknown.status_code, unknown.json()["detail"]) == (404, "there is no workflow 'suport'; there are support")


async def test_the_same_key_starts_once_and_another_request_under_it_is_refused(web: Web) -> None:
    key = {"Idempotency-Key": "complaint 1 for T-1005"}
    answers = await asyncio.gather(
        *(web.call("olga", "POST", START, json={"input": DAMAGED}, headers=key) for _ in range(5))
    )
    assert sorted(a.status_code for a in answers) == [200, 200, 200, 200, 202]
    assert len({a.json()["execution_id"] for a in answers}) == 1
    assert (await web.call("olga", "POST", RESOLVE, json=DAMAGED, headers=key)).status_code == 200
    other = await web.call("olga", "POST", START, json={"input": LEGAL}, headers=key)
    assert (other.status_code, other.json()["code"], other.json()["field"]) == (
        409,
        "idempotency_key_reused",
        "Idempotency-Key",
    )
    mine = await web.call("amy", "POST", START, json={"input": LEGAL}, headers=key)
    assert mine.status_code == 202  # a key belongs to whoever sent it
    assert len((await web.get("/executions"))["executions"]) == 2


async def test_a_bad_header_is_named_and_nothing_starts(web: Web) -> None:
    for name, value in (
        ("Idempotency-Key", "x" * 201),
        ("Idempotency-Key", "tab\tbed"),
        ("Idempotency-Key", ""),
        ("Prefer", "wait=61"),
        ("Prefer", "wait=soon"),
        ("Prefer", "respond-async, wait=-1"),
    ):
        response = await web.call("olga", "POST", START, json={"input": DAMAGED}, headers={name: value})
        assert (response.status_code, response.json()["field"]) == (422, name)
    assert (await web.get("/executions"))["executions"] == []


async def test_a_wait_ends_when_the_case_does_and_tells_the_resolution(web: Web) -> None:
    async with web.worker.running():
        response = await web.call("bot", "POST", RESOLVE, json=LEGAL, headers={"Prefer": "respond-async, wait=30"})
    assert (response.status_code, response.headers["preference-applied"]) == (201, "wait=30")
    resolved = response.json()
    execution = await web.get(f"/executions/{resolved['execution_id']}")
    assert resolved == {
        "execution_id": execution["execution_id"],
        "status": "escalated",
        "resolution": {**{k: execution["result"]["outcome"][k] for k in ("status", "reason", "summary")},
                       "answer": execution["result"]["answer"]},
    }  # fmt: skip
    assert resolved["resolution"]["reason"]


async def test_a_wait_ends_when_a_person_is_asked(web: Web) -> None:
    async with web.worker.running():
        response = await web.call("olga", "POST", RESOLVE, json=DAMAGED, headers={"Prefer": "wait=30"})
    assert (response.status_code, response.json()["status"], response.json()["resolution"]) == (201, "waiting", None)


async def test_a_wait_is_told_and_does_not_look_by_itself(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "LONGEST_PAUSE_S", 60.0)
    assert (await web.run(LEGAL))["status"] == "escalated"


async def test_a_wait_that_nobody_works_on_ends_in_time(web: Web) -> None:
    began = time.monotonic()
    response = await web.call("olga", "POST", START, json={"input": DAMAGED}, headers={"Prefer": "wait=1"})
    assert (response.status_code, response.json()["status"]) == (202, "queued")
    assert 0.9 < time.monotonic() - began < 3


async def test_pages_hold_every_execution_once_newest_first(web: Web) -> None:
    started = [(await web.call("olga", "POST", START, json={"input": DAMAGED})).json() for _ in range(5)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await web.get("/executions", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        seen += [execution["execution_id"] for execution in page["executions"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [execution["execution_id"] for execution in reversed(started)]


async def test_filters_narrow_the_list(web: Web) -> None:
    mine = (await web.call("olga", "POST", START, json={"input": DAMAGED})).json()
    theirs = (await web.call("amy", "POST", START, json={"input": LEGAL})).json()
    await web.call("amy", "POST", f"/executions/{theirs['execution_id']}/cancel")
    for query, expected in (
        ({"status": "cancelled"}, [theirs]),
        ({"requester": "olga"}, [mine]),
        ({"workflow": "support", "status": "queued"}, [mine]),
        ({"workflow": "billing"}, []),
    ):
        found = (await web.get("/executions", params=query))["executions"]
        assert [e["execution_id"] for e in found] == [e["execution_id"] for e in expected]


BAD_PARAMETERS = [
    ("/executions?cursor=nonsense", "cursor"),
    ("/executions?cursor=%00", "cursor"),
    ("/executions?cursor=MjAyNi0wMS0wMSAw", "cursor"),
    ("/executions?limit=0", "limit"),
    ("/executions?limit=201", "limit"),
    ("/executions?status=lost", "status"),
    ("/executions?requester=%00", "requester"),
    ("/executions/not-an-id", "execution_id"),
    (f"/executions/{uuid4()}/events?after=-1", "after"),
    (f"/executions/{uuid4()}/events?after=9223372036854775808", "after"),
    ("/approvals?state=maybe", "state"),
    ("/approvals?cursor=x", "cursor"),
]


async def test_a_bad_parameter_is_named(web: Web) -> None:
    for path, field in BAD_PARAMETERS:
        response = await web.call("ada", "GET", path)
        assert (response.status_code, response.json()["field"]) == (422, field)


async def test_the_story_is_read_on_from_where_one_stopped(web: Web) -> None:
    execution = await web.run(LEGAL)
    path = f"/executions/{execution['execution_id']}/events"
    whole = await web.get(path)
    assert [event["seq"] for event in whole["events"]] == list(range(1, len(whole["events"]) + 1))
    assert whole["events"][0]["type"] == "execution.created"
    first = await web.get(path, params={"limit": 3})
    rest = await web.get(path, params={"after": first["next_after"]})
    assert first["events"] + rest["events"] == whole["events"]
    assert await web.get(path, params={"after": whole["next_after"]}) == {
        "events": [],
        "next_after": whole["next_after"],
    }


async def test_cancelling_supersedes_what_was_asked_and_happens_once(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    path = f"/executions/{approval['execution_id']}/cancel"
    response = await web.call("olga", "POST", path)
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    again = await web.call("olga", "POST", path)
    assert (again.status_code, again.json()["code"]) == (409, "execution_over")
    late = await web.decide("ada", approval, "approve")
    assert (late.status_code, late.json()["code"]) == (409, "approval_superseded")
