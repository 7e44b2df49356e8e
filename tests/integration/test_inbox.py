"""What waits for one person, as the pages ask for it: filters, counts, several decisions at once, previews."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import pytest

from casework.actor import Actor, Role
from casework.inbox import Wanted
from tests.integration.test_pages import words
from tests.web import DAMAGED, DEAR, Web

ADA = Actor(actor_id="ada", roles=frozenset({Role.APPROVER}))
OLGA = Actor(actor_id="olga", roles=frozenset({Role.OPERATOR}))
BROKEN = {"ticket_id": "T-1042", "user_id": "C-1042"}
"""34.90 EUR for a vase: only copilot mode asks."""


async def picked(web: Web, cases: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [await web.approval(case, "copilot") for case in cases]


def pick(approval: dict[str, Any]) -> str:
    return f"{approval['approval_id']}:{approval['digest']}"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Wanted(), {"O-5042", "O-5005", "O-5013"}),
        (Wanted(at_least_minor=12900), {"O-5005", "O-5013"}),
        (Wanted(at_least_minor=3490, at_most_minor=12900), {"O-5042", "O-5005"}),
        (Wanted(tool="issue_refund", text="o-5013"), {"O-5013"}),
        (Wanted(text="C-1042"), {"O-5042"}),
        (Wanted(text="100%_"), set()),
        (Wanted(tool="cancel_order"), set()),
        (Wanted(workflow="nope"), set()),
    ],
)
async def test_the_inbox_is_narrowed_in_the_database(web: Web, wanted: Wanted, found: set[str]) -> None:
    await picked(web, [BROKEN, DAMAGED, DEAR])
    listed = await web.service.inbox.page(ADA, wanted, 50)
    assert {a.args["order_id"] for a in listed} == found


async def test_what_is_mine_agrees_with_who_may_decide(web: Web) -> None:
    (approval,) = await picked(web, [DEAR])
    inbox = web.service.inbox
    for who, mine in ((ADA, 1), (OLGA, 0)):
        assert len(await inbox.page(who, Wanted(mine=True), 5)) == mine
        assert len(await inbox.page(who, Wanted(mine=False), 5)) == 1 - mine
        assert (await inbox.waiting(who)).decisions == mine
    before = (await inbox.waiting(ADA)).mark
    await web.decide("ada", approval, "approve")
    after = await inbox.waiting(ADA)
    assert (after.decisions, after.mark == before) == (0, False)
    other = Actor(actor_id="ada", tenant="elsewhere", roles=ADA.roles)
    assert await inbox.page(other, Wanted(), 5) == []


async def test_several_are_decided_each_on_what_was_shown_for_it(web: Web) -> None:
    first, second, third = await picked(web, [BROKEN, DAMAGED, DEAR])
    await web.decide("ben", second, "reject", reason="One charge only.")
    async with web.browser("ada") as ada:
        form = {"type": "approve", "pick": [pick(first), pick(second), pick(third), "nonsense:x"]}
        page = await ada.post("/desk/decisions", data=form)
        assert page.status_code == 200
        said = words(page)
        assert "2 of 4 recorded. 1 of them still needs another person." in said
        assert f"Not recorded: {second['description']} . Already decided: rejected by ben." in said
        stale = await ada.post(
            "/desk/decisions", data={"type": "approve", "pick": f"{first['approval_id']}:{'0' * 64}"}
        )
        assert "0 of 1 recorded." in words(stale)
        for wrong in ({"type": "approve"}, {"type": "edit", "pick": pick(first)}):
            assert (await ada.post("/desk/decisions", data=wrong)).status_code == 422
    states = [(await web.get(f"/approvals/{a['approval_id']}"))["state"] for a in (first, second, third)]
    assert states == ["approved", "rejected", "pending"]


async def test_a_rejection_names_one_of_a_short_list(web: Web) -> None:
    (approval,) = await picked(web, [DAMAGED])
    path = f"/desk/approvals/{approval['approval_id']}/decision"
    form = {"type": "reject", "digest": approval["digest"]}
    async with web.browser("ada") as ada:
        for typed, field in (({"code": "other"}, "reason"), ({"code": "because"}, "code"), ({}, "reason")):
            refused = await ada.post(path, data={**form, **typed})
            assert (refused.status_code, field in words(refused).lower()) == (422, True), typed
        await ada.post(path, data={**form, "code": "wrong_amount", "reason": "Half of it."})
    decided = await web.get(f"/approvals/{approval['approval_id']}")
    assert decided["decision"] == {
        "type": "reject",
        "digest": approval["digest"],
        "code": "wrong_amount",
        "reason": "The amount is wrong: Half of it.",
    }


async def test_a_card_shows_what_would_change_before_it_does(web: Web) -> None:
    (approval,) = await picked(web, [DAMAGED])
    found = await web.get(f"/approvals/{approval['approval_id']}/preview")
    assert found["preview"]["money"] == {
        "amount_minor": 12900,
        "currency": "EUR",
        "to": "the card it was paid with",
    }
    assert found["preview"]["changes"] == [
        {"what": "Refunded on order O-5005", "before": "0.00 EUR", "after": "129.00 EUR of 258.00 EUR paid"}
    ]
    assert (found["preview"]["reversible"], found["why_not"]) == (False, None)
    async with web.browser("ada") as ada:
        card = words(await ada.get(f"/desk/approvals/{approval['approval_id']}/card"))
    for expected in ("129.00 EUR to the card it was paid with", "Cannot be undone.", "C-1005", "none yet"):
        assert expected in card, expected


async def test_a_preview_that_fails_hides_no_question(web: Web) -> None:
    (approval,) = await picked(web, [DAMAGED])
    async with web.service.resources.engine.begin() as db:
        await db.exec_driver_sql("""UPDATE casework.approvals SET args = args || '{"order_id": "O-99999"}'""")
    found = await web.get(f"/approvals/{approval['approval_id']}/preview")
    assert found == {"preview": None, "why_not": found["why_not"]}
    assert "no order O-99999" in found["why_not"]
    async with web.browser("ada") as ada:
        card = words(await ada.get(f"/desk/approvals/{approval['approval_id']}/card"))
    assert "Not known: This customer has no order O-99999" in card
    assert "Approve" in card


async def test_near_decisions_and_the_customers_past_stand_beside_a_question(web: Web) -> None:
    (first,) = await picked(web, [DAMAGED])
    await web.decide("ben", first, "approve")
    async with web.worker.running():
        await web.rested(first["execution_id"])
    other = await web.call("olga", "POST", "/workflows/support/executions", json={"input": DAMAGED, "mode": "copilot"})
    execution = await web.service.store.get("default", UUID(other.json()["execution_id"]))
    history = await web.service.inbox.history(execution)
    assert history is not None
    assert [str(case.execution_id) for case in history.cases] == [first["execution_id"]]
    assert [done.tool for done in history.done] == ["issue_refund"]
    (vase, dear) = await picked(web, [BROKEN, DEAR])
    for approval, near in ((first, 0), (vase, 0), (dear, 0)):
        asked = await web.service.decisions.get("default", UUID(approval["approval_id"]))
        similar = await web.service.inbox.similar(asked)
        assert similar.approved == near  # 129.00 is not near 34.90, nor 649.00, and nothing is like itself
    near_it = (await web.service.decisions.get("default", UUID(vase["approval_id"]))).model_copy(
        update={"args": {"amount_minor": 13000}}
    )
    similar = await web.service.inbox.similar(near_it)
    assert (similar.approved, similar.rejected, similar.newest[0].decided_by) == (1, 0, "ben")


async def test_cases_are_found_by_specialist_customer_outcome_and_age(web: Web) -> None:
    approval = (await picked(web, [DAMAGED]))[0]
    for query, found in (
        ("specialist=billing", 1),
        ("specialist=shipping", 0),
        ("customer=C-1005", 1),
        ("customer=C-1006", 0),
        ("status=waiting&workflow=support", 1),
        ("outcome=with_people", 0),
        ("since=2020-01-01T00:00:00Z", 1),
        ("until=2020-01-01T00:00:00Z", 0),
    ):
        listed = (await web.get(f"/executions?{query}"))["executions"]
        assert len(listed) == found, query
    async with web.browser("ada") as ada:
        for query, found in (("age=day", True), ("age=over_day", False), ("customer=C-1005", True), ("q", True)):
            page = (await ada.get(f"/desk/cases?{query}")).text
            assert (f"/desk/executions/{approval['execution_id']}" in page) is found, query
    assert (await web.call("ada", "GET", "/executions?since=2020-01-01")).status_code == 422


async def test_a_long_story_is_read_page_by_page(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.ui.cases.SHOWN_EVENTS", 5)
    approval = (await picked(web, [DAMAGED]))[0]
    execution = await web.get(f"/executions/{approval['execution_id']}")
    seen: list[int] = []
    async with web.browser("ada") as ada:
        path = f"/desk/executions/{approval['execution_id']}"
        while path:
            page = (await ada.get(path)).text
            seen += sorted(map(int, re.findall(r'id="e-(\d+)"', page)), reverse=True)
            earlier = re.search(r'href="(\?before=\d+)"', page)
            path = f"/desk/executions/{approval['execution_id']}{earlier[1]}" if earlier else ""
    assert seen == list(range(execution["event_seq"], 0, -1))


async def test_numbers_are_counted_from_the_rows(web: Web) -> None:
    approval = (await picked(web, [DAMAGED]))[0]
    now = await web.service.numbers.now("default")
    assert (now.questions, now.standing) == (1, {"waiting": 1})
    await web.decide("ada", approval, "reject", reason="No.")
    period = await web.service.numbers.period("default", web.service.resources.clock().replace(hour=0))
    assert (period.started, period.going_on, period.decided) == (1, 1, 1)
    assert period.median_decision is not None
    assert (await web.service.numbers.period("elsewhere", period.since)).started == 0
