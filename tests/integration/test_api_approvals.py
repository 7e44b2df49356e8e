"""Deciding over HTTP: bound to what was seen, by whom it may be, once. Every refusal has a code of its own."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from sqlalchemy import func, update

from casework.actor import SYSTEM, Role
from casework.tables import approvals
from tests.web import DAMAGED, DEAR, Web


async def finished(web: Web, execution_id: str) -> dict[str, Any]:
    """The execution once a worker has taken it to its end or next wait."""
    async with web.worker.running():
        return await web.rested(execution_id)


async def test_an_approval_shows_the_exact_call_and_why_it_asks(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    assert approval["tool"] == "issue_refund"
    assert approval["args"] == {"order_id": "O-5005", "amount_minor": 12900, "reason": "double_charge"}
    assert approval["description"] == "Refund 129.00 EUR on order O-5005 (double_charge)"
    assert approval["reasons"] == ["129.00 EUR refunded in all on order O-5005, above 100.00 EUR"]
    assert (approval["requester"], approval["votes_needed"], approval["state"]) == ("olga", 1, "pending")
    assert await web.get(f"/approvals/{approval['approval_id']}") == approval


async def test_an_approved_call_is_made_and_the_case_goes_on(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    response = await web.decide("ada", approval, "approve")
    assert (response.status_code, response.json()["state"], response.json()["decided_by"]) == (200, "approved", "ada")
    execution = await finished(web, approval["execution_id"])
    assert execution["status"] == "succeeded"
    assert await web.get("/approvals", params={"state": "pending"}) == {"approvals": [], "next_cursor": None}


async def test_the_same_answer_again_changes_nothing_and_another_is_too_late(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    first = (await web.decide("ada", approval, "approve")).json()
    assert (await web.decide("ada", approval, "approve")).json() == first
    for who, type_, more in (("ben", "approve", {}), ("ada", "reject", {"reason": "no"})):
        late = await web.decide(who, approval, type_, **more)
        assert (late.status_code, late.json()["code"]) == (409, "approval_decided")
        assert late.json()["detail"] == "already decided: approved by ada"


async def test_a_digest_of_other_arguments_is_stale(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    for type_, more in (("approve", {}), ("reject", {"reason": "no"}), ("respond", {"message": "hm"})):
        response = await web.decide("ada", {**approval, "digest": "0" * 64}, type_, **more)
        assert (response.status_code, response.json()["code"]) == (409, "digest_stale")
    assert (await web.get(f"/approvals/{approval['approval_id']}"))["state"] == "pending"


async def test_only_an_approver_who_did_not_start_it_decides(web: Web) -> None:
    await web.service.identity.add_key("default", "olga", {Role.OPERATOR, Role.APPROVER}, by=SYSTEM)
    approval = await web.approval(DAMAGED)
    for who, why in (
        ("olga", "whoever started an execution may not decide its approvals"),
        ("amy", "deciding this needs the role approver"),
        ("bot", "this is for the roles admin, approver, operator; yours: service"),
    ):
        response = await web.decide(who, approval, "approve")
        assert (response.status_code, response.json()["code"], response.json()["detail"]) == (403, "not_allowed", why)


async def test_a_dear_refund_needs_two_people(web: Web) -> None:
    approval = await web.approval(DEAR)
    assert approval["votes_needed"] == 2
    for _ in range(2):
        once = (await web.decide("ada", approval, "approve")).json()
        assert (once["state"], once["votes"]) == ("pending", ["ada"])
    twice = (await web.decide("ben", approval, "approve")).json()
    assert (twice["state"], sorted(twice["votes"])) == ("approved", ["ada", "ben"])
    assert (await finished(web, approval["execution_id"]))["status"] == "succeeded"


async def test_an_edit_is_judged_anew_and_voids_earlier_votes(web: Web) -> None:
    approval = await web.approval(DEAR)
    await web.decide("ada", approval, "approve")
    edited = (await web.decide("ben", approval, "edit", args={**approval["args"], "amount_minor": 60000})).json()
    assert (edited["state"], edited["edited_by"], edited["votes"]) == ("pending", "ben", [])
    assert edited["args"]["amount_minor"] == 60000
    assert edited["digest"] != approval["digest"]
    stale = await web.decide("ada", approval, "approve")
    assert stale.json()["code"] == "digest_stale"
    own = await web.decide("ben", edited, "approve")
    assert (own.status_code, own.json()["code"]) == (403, "not_allowed")


async def test_an_edit_below_every_limit_decides_by_itself(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    response = await web.decide("ada", approval, "edit", args={**approval["args"], "amount_minor": 5000})
    assert (response.json()["state"], response.json()["args"]["amount_minor"]) == ("approved", 5000)
    execution = await finished(web, approval["execution_id"])
    events = (await web.get(f"/executions/{execution['execution_id']}/events", params={"limit": 1000}))["events"]
    (paid,) = [e["data"] for e in events if e["type"] == "effect.done" and e["data"]["tool"] == "issue_refund"]
    assert paid["args"]["amount_minor"] == 5000


BAD_DECISIONS: list[tuple[dict[str, Any], str]] = [
    ({"type": "approve"}, "digest"),
    ({"type": "approve", "digest": "short"}, "digest"),
    ({"type": "maybe", "digest": "0" * 64}, "type"),
    ({"digest": "0" * 64}, "type"),
    ({"type": "reject", "digest": "{digest}"}, "reason"),
    ({"type": "reject", "digest": "{digest}", "reason": ""}, "reason"),
    ({"type": "reject", "digest": "{digest}", "reason": "a\x00b"}, "reason"),
    ({"type": "respond", "digest": "{digest}", "message": ""}, "message"),
    ({"type": "respond", "digest": "{digest}", "message": {"a": ["\ud800"]}}, "message.a.0"),
    ({"type": "edit", "digest": "{digest}", "args": {"amount_minor": 1e999}}, "args.amount_minor"),
    ({"type": "edit", "digest": "{digest}", "args": {"amount_minor": -5}}, "args"),
    ({"type": "edit", "digest": "{digest}", "args": []}, "args"),
    ({"type": "approve", "digest": "{digest}", "votes": 9}, "votes"),
]


async def test_a_bad_decision_is_named_by_its_field_and_decides_nothing(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    path = f"/approvals/{approval['approval_id']}/decision"
    for body, field in BAD_DECISIONS:
        sent = json.dumps({k: approval["digest"] if v == "{digest}" else v for k, v in body.items()})
        response = await web.call("ada", "POST", path, content=sent, headers={"Content-Type": "application/json"})
        assert (response.status_code, response.json()["field"]) == (422, field), response.text
    assert await web.get(f"/approvals/{approval['approval_id']}") == approval


async def test_an_edit_beyond_what_anybody_may_allow_is_refused_with_the_rule(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    response = await web.decide("ada", approval, "edit", args={**approval["args"], "amount_minor": 900_000})
    assert (response.status_code, response.json()["field"]) == (422, "args")
    assert "more than one refund of order O-5005 may pay" in response.json()["detail"]


async def test_past_its_deadline_an_approval_takes_no_answer(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    async with web.service.resources.engine.begin() as db:
        await db.execute(update(approvals).values(expires_at=func.now() - timedelta(seconds=1)))
    response = await web.decide("ada", approval, "approve")
    assert (response.status_code, response.json()["code"]) == (409, "approval_expired")
    assert (await finished(web, approval["execution_id"]))["status"] == "escalated"


async def test_a_rejection_is_told_to_the_agent(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    response = await web.decide("ada", approval, "reject", reason="Our records show one charge only.")
    assert response.json()["state"] == "rejected"
    execution = await finished(web, approval["execution_id"])
    assert execution["status"] in ("escalated", "succeeded")
    events = (await web.get(f"/executions/{execution['execution_id']}/events", params={"limit": 1000}))["events"]
    assert not [e for e in events if e["type"] == "effect.started" and e["data"]["tool"] == "issue_refund"]
    assert any("one charge only" in e["data"].get("answer", "") for e in events if e["type"] == "call.answered")


async def test_pages_of_approvals_hold_each_once(web: Web) -> None:
    for _ in range(3):
        await web.run(DAMAGED)
    first = await web.get("/approvals", params={"limit": 2})
    second = await web.get("/approvals", params={"limit": 2, "cursor": first["next_cursor"]})
    ids = [a["approval_id"] for a in first["approvals"] + second["approvals"]]
    assert (len(ids), len(set(ids)), second["next_cursor"]) == (3, 3, None)


async def test_a_call_in_doubt_is_asked_about_with_what_is_known_of_it(web: Web) -> None:
    asked = await web.doubt("500")
    assert (asked["kind"], asked["tool"], asked["state"]) == ("outcome", "issue_refund", "pending")
    assert asked["allowed"] == ["happened", "did_not_happen", "stop"]
    assert asked["doubt"]["key"] == f"{asked['execution_id']}:{asked['tool_call_id']}"
    assert (asked["doubt"]["attempt"], asked["doubt"]["reference"]) == (1, None)
    for type_, more, status, code in (
        ("approve", {}, 422, "input_invalid"),
        ("happened", {}, 422, "input_invalid"),
        ("stop", {"reason": ""}, 422, "input_invalid"),
    ):
        refused = await web.decide("ada", asked, type_, **more)
        assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    stale = await web.decide("ada", {**asked, "digest": "0" * 64}, "did_not_happen")
    assert (stale.status_code, stale.json()["code"]) == (409, "digest_stale")
    assert (await web.decide("bot", asked, "did_not_happen")).status_code == 403
    assert await web.get(f"/approvals/{asked['approval_id']}") == asked


async def test_a_call_that_did_not_happen_is_made_again(web: Web) -> None:
    asked = await web.doubt("500")
    said = await web.decide("ada", asked, "did_not_happen")
    assert (said.status_code, said.json()["state"], said.json()["decided_by"]) == (200, "did_not_happen", "ada")
    assert (await web.decide("ada", asked, "did_not_happen")).json() == said.json()
    assert (await finished(web, asked["execution_id"]))["status"] == "succeeded"
    events = (await web.get(f"/executions/{asked['execution_id']}/events", params={"limit": 1000}))["events"]
    refund = [e for e in events if e["data"].get("tool") == "issue_refund" and e["type"].startswith("effect.")]
    story = [(e["type"], e["data"]["attempt"]) for e in refund]
    assert story == [("effect.started", 1), ("effect.unknown", 1), ("effect.started", 2), ("effect.done", 2)]
    late = await web.decide("ben", asked, "stop", reason="wait")
    assert (late.status_code, late.json()["code"]) == (409, "approval_decided")
