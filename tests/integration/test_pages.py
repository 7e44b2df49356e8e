"""The desk as a person uses it: signing in, the inbox, a case, deciding by form, with and without scripts."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import update

from casework.actor import SYSTEM, Role
from casework.settings import Settings
from casework.tables import approvals
from server.service import open_service
from tests.web import DAMAGED, DEAR, LEGAL, Web, open_web

HTMX = {"HX-Request": "true"}


def words(response: httpx.Response) -> str:
    """What a page says, without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", response.text)).split())


def decision_path(approval: dict[str, Any]) -> str:
    return f"/desk/approvals/{approval['approval_id']}/decision"


def case_path(approval: dict[str, Any]) -> str:
    return f"/desk/executions/{approval['execution_id']}"


async def test_an_empty_desk_says_what_will_appear(web: Web) -> None:
    async with web.browser("ada") as browser:
        for path, says in (
            ("/", "Nothing waits for you."),
            ("/?whose=all&q=vase", "Nothing fits this filter."),
            ("/desk/cases", "No cases yet."),
            ("/desk/cases?status=failed", "No case fits."),
            ("/desk/handed", "People have no cases."),
            ("/desk/handed?owned=mine", "You have no case."),
            ("/desk/numbers", "nothing waits"),
        ):
            page = await browser.get(path)
            assert (page.status_code, says in words(page)) == (200, True), path


async def test_the_inbox_shows_each_what_waits_for_them(web: Web) -> None:
    approval = await web.approval(DEAR)
    async with web.browser("ada") as ada, web.browser("olga") as olga:
        page = await ada.get("/")
        assert "<title>(1) Inbox" in page.text
        assert "Waiting for you 1" in words(page)
        assert "Refund 649.00 EUR on order O-5013" in words(page)
        assert "0 of 2 agreed" in words(page)
        assert f'href="/desk/approvals/{approval["approval_id"]}"' in page.text
        others = words(await olga.get("/"))
        assert "Nothing waits for you." in others
        assert "deciding this needs the role approver" in others
        await web.decide("ada", approval, "approve")
        part = words(await ada.get("/desk/inbox"))
        assert "Nothing waits for you." in part
        assert "you have approved it; 1 more must agree" in part
        assert "1 to decide" not in words(await ada.get("/desk/waiting"))


async def test_a_case_shows_its_question_its_story_and_its_picture(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    async with web.browser("ada") as browser:
        response = await browser.get(case_path(approval))
    page = words(response)
    for expected in (
        "resolve ticket T-1005 waiting",
        "started by olga",
        "amount_minor 12900 = 129.00",
        "129.00 EUR refunded in all on order O-5005, above 100.00 EUR",
        "Votes 0 of 1",
        "Needs an approver up to 129.00 EUR",
        "Charged twice for the side table",
        "olga started support",
        "Routed to billing",
        "issue_refund needs a person",
    ):
        assert expected in page
    assert '<g class="box now">' in response.text
    assert '<g class="box done">' in response.text
    assert "<script>" not in response.text
    assert " style=" not in response.text


async def test_approving_by_form_works_without_scripts(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    form = {"type": "approve", "digest": approval["digest"]}
    async with web.browser("ada") as browser:
        answer = await browser.post(decision_path(approval), data=form)
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            f"{case_path(approval)}#a-{approval['approval_id']}",
        )
        assert "approved by ada" in words(await browser.get(case_path(approval)))


async def test_a_script_gets_the_card_alone(web: Web) -> None:
    approval = await web.approval(DEAR)
    form = {"type": "approve", "digest": approval["digest"]}
    async with web.browser("ada") as browser:
        card = await browser.post(decision_path(approval), data=form, headers=HTMX)
    assert card.text.lstrip().startswith("<article")
    assert "You have approved. 1 more must agree." in words(card)


async def test_refusals_are_told_in_the_card(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    stale = {"type": "approve", "digest": "0" * 64}
    empty = {"type": "reject", "digest": approval["digest"], "reason": " "}
    async with web.browser("ada") as ada, web.browser("amy") as amy:
        for headers in ({}, HTMX):
            refused = await ada.post(decision_path(approval), data=stale, headers=headers)
            assert refused.status_code == 409
            assert "Not recorded. The arguments changed since you saw them." in words(refused)
            assert approval["digest"] in refused.text
            assert ("<!doctype" in refused.text) == (not headers)
        assert (await ada.post(decision_path(approval), data=empty)).status_code == 422
        assert (await ada.post(decision_path(approval), data={})).status_code == 422
        right = {"type": "approve", "digest": approval["digest"]}
        barred = await amy.post(decision_path(approval), data=right)
        assert barred.status_code == 403
        assert "Deciding this needs the role approver." in words(barred)
        await web.decide("ben", approval, "reject", reason="One charge only.")
        late = await ada.post(decision_path(approval), data=right)
        assert late.status_code == 409
        assert "Already decided: rejected by ben." in words(late)
        assert "One charge only." in words(late)


async def test_an_edit_by_form_is_typed_by_the_tools_schema(web: Web) -> None:
    approval = await web.approval(DEAR)
    form = {"type": "edit", "digest": approval["digest"], "args.order_id": "O-5013", "args.reason": "faulty"}
    async with web.browser("ada") as browser:
        page = (await browser.get(case_path(approval))).text
        assert re.search(r'name="args.amount_minor" type="number"[^>]* value="64900"[^>]* step="1"', page)
        assert re.search(r'<option value="faulty" selected>', page)
        for typed, says in (("many", "write a whole number"), ("64901", "more than one refund")):
            refused = await browser.post(decision_path(approval), data={**form, "args.amount_minor": typed})
            assert refused.status_code == 422
            assert says in words(refused)
            assert f'value="{typed}"' in refused.text  # what was typed is still there
        done = await browser.post(decision_path(approval), data={**form, "args.amount_minor": "60000"}, headers=HTMX)
        assert "60000 = 600.00" in words(done)
        assert "You changed these arguments, so someone else must approve them." in words(done)


HOSTILE = {
    "order_id": "O-1<script>alert(1)</script>",
    "note": 'a"b onmouseover="x',
    "name": "refund \u202e00.9$\u202c of\u200b it\x07",
    "long": "x" * 10_000,
    "nested": {"<b>key</b>": ["\u2066", None, True]},
}


async def test_arguments_cannot_dress_up_as_anything_else(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    hostile = {
        "args": HOSTILE,
        "description": "Refund <b>10</b> \u202eRUE",
        "thought": "</p><img src=x>",
        "reasons": ["<i>"],
    }
    async with web.service.resources.engine.begin() as db:
        await db.execute(update(approvals).values(**hostile))
    async with web.browser("ada") as browser:
        case, inbox = await browser.get(case_path(approval)), await browser.get("/")
    for page in (case, inbox):
        assert page.status_code == 200
        for raw in ("<script>alert", "<b>10", "<img src=x", "<i>", "<b>key", 'b onmouseover="x'):
            assert raw not in page.text
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x07]", page.text)
        assert "Refund &lt;b&gt;10&lt;/b&gt; ⟨U+202E⟩RUE" in page.text
    assert "refund ⟨U+202E⟩00.9$⟨U+202C⟩ of⟨U+200B⟩ it⟨U+0007⟩" in unescape(case.text)
    assert "x" * 10_000 in case.text
    assert "The model's words, not checked" in words(case)


async def test_the_page_of_a_case_follows_along(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    async with web.browser("ada") as browser:
        page = (await browser.get(case_path(approval))).text
        found = re.search(r'hx-get="([^"]+/news[^"]+)"', page)
        assert found is not None
        news = unescape(found[1])
        assert (await browser.get(news, headers=HTMX)).status_code == 204
        await web.decide("ada", approval, "approve")
        changed = await browser.get(news, headers=HTMX)
        assert "ada decided on issue_refund: approved" in words(changed)
        assert 'id="questions" hx-swap-oob="true"' in changed.text
        assert "olga started support" not in words(changed)  # only what is new


async def test_a_finished_case_says_how_and_stops_asking(web: Web) -> None:
    execution = await web.run(LEGAL)
    async with web.browser("olga") as browser:
        response = await browser.get(f"/desk/executions/{execution['execution_id']}")
    assert "Handed to a person" in words(response)
    assert execution["result"]["outcome"]["reason"] in words(response)
    assert "/news?" not in response.text
    assert "Cancel this case" not in words(response)


async def test_cancelling_from_the_page(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    async with web.browser("olga") as browser:
        assert "Cancel this case" in words(await browser.get(case_path(approval)))
        for _ in range(2):  # the second one finds it over, and shows how
            answer = await browser.post(f"{case_path(approval)}/cancel")
            assert (answer.status_code, answer.headers["location"]) == (303, case_path(approval))
        page = words(await browser.get(case_path(approval)))
    assert "cancelled" in page
    assert "superseded" in page
    async with web.browser("ada") as browser:
        assert "Cancel this case" not in words(await browser.get(case_path(approval)))


async def test_a_requester_sees_why_they_may_not_decide(web: Web) -> None:
    await web.service.identity.add_key("default", "olga", {Role.OPERATOR, Role.APPROVER}, by=SYSTEM)
    approval = await web.approval(DAMAGED)
    async with web.browser("olga") as browser:
        response = await browser.get(case_path(approval))
    assert "You cannot decide this: whoever started an execution may not decide its approvals." in words(response)
    assert "/decision" not in response.text


async def test_a_call_in_doubt_is_asked_about_on_a_card_of_its_own(web: Web) -> None:
    asked = await web.doubt("drop")
    async with web.browser("ada") as browser:
        inbox, response = await browser.get("/"), await browser.get(case_path(asked))
    question = "Did this happen? Refund 129.00 EUR on order O-5005 (double_charge)"
    assert question in words(inbox)
    page = words(response)
    for expected in (
        "Nobody knows whether this happened issue_refund",
        question,
        "amount_minor 12900 = 129.00",
        f"Idempotency key {asked['doubt']['key']}",
        "Provider's reference none came back",
        asked["doubt"]["why"],
        "if it did happen after all, it happens twice",
        "Nobody knows whether issue_refund happened",
        "A person is asked what happened",
    ):
        assert expected in page, expected
    for answer in ("approve", "edit", "reject", "respond"):
        forms = re.findall(r'name="type" value="(\w+)"', response.text)
        assert answer not in forms
    assert re.search(r'<g class="box now">\s*<rect[^>]*>\s*<text[^>]*>settle call</text>', response.text)


async def test_each_answer_about_a_call_in_doubt_can_be_given_by_form(web: Web) -> None:
    asked = await web.doubt("500")
    form = {"digest": asked["digest"]}
    async with web.browser("ada") as browser:
        for typed, says in (
            ({"type": "happened", "reference": " "}, "reference: String should have at least 1 character"),
            ({"type": "stop", "reason": ""}, "reason: String should have at least 1 character"),
            ({"type": "approve"}, "this approval takes happened, did_not_happen, stop, not approve"),
        ):
            refused = await browser.post(decision_path(asked), data={**form, **typed})
            assert (refused.status_code, says.lower() in words(refused).lower()) == (422, True), words(refused)
        wrong = {**form, "type": "happened", "reference": "re_<i>typo"}
        card = await browser.post(decision_path(asked), data=wrong, headers=HTMX)
        assert "happened, says ada" in words(card)
        assert "Reference given re_<i>typo" in words(card)
        async with web.worker.running():
            assert (await web.rested(asked["execution_id"]))["status"] == "waiting"  # the provider has no such refund
            (again,) = (await web.get(f"/approvals?execution_id={asked['execution_id']}"))["approvals"]
            page = words(await browser.get(case_path(asked)))
            assert "re_<i>typo was not confirmed" in page
            assert "ada found out that issue_refund happened" in page
            answer = await browser.post(
                decision_path(again), data={"type": "did_not_happen", "digest": again["digest"]}
            )
            assert answer.status_code == 303
            assert (await web.rested(asked["execution_id"]))["status"] == "succeeded"
        page = words(await browser.get(case_path(asked)))
    assert "did not happen, says ada" in page
    assert "issue_refund was begun again: attempt 2, under a new key" in page


async def test_errors_are_pages_for_people(web: Web) -> None:
    async with web.browser("ada") as browser:
        missing = await browser.get("/desk/executions/00000000-0000-0000-0000-000000000000")
        assert (missing.status_code, "There is no execution" in words(missing)) == (404, True)
        part = await browser.get("/desk/nowhere", headers=HTMX)
        assert (part.status_code, "<!doctype" in part.text) == (404, False)
    async with web.client() as nobody:
        ended = await nobody.get("/desk/inbox", headers=HTMX)
        assert (ended.status_code, ended.headers["hx-redirect"]) == (401, "/sign-in")


async def test_another_graphs_question_is_answered_by_its_own_schema(
    settings: Settings, database_url: str, tmp_path: Path
) -> None:
    config = tmp_path / "langgraph.json"
    config.write_text(json.dumps({"graphs": {"delivery": "tests.foreign.questions:json_schema_builder"}}))
    async with open_service(settings.model_copy(update={"config": config}), database_url) as service:
        web = await open_web(service)
        async with web.worker.running(), web.browser("ada") as browser:
            start = {"json": {"input": {"parcel": "P-1"}}, "headers": {"Prefer": "wait=20"}}
            execution = (await web.call("olga", "POST", "/workflows/delivery/executions", **start)).json()
            path = f"/desk/executions/{execution['execution_id']}"
            page = await browser.get(path)
            assert "question.question When may we deliver?" in words(page)
            assert "Approve" not in words(page)
            (asked,) = (await web.get("/approvals"))["approvals"]
            form = {"type": "respond", "digest": asked["digest"], "answer.message.date": "tomorrow"}
            refused = await browser.post(decision_path(asked), data=form)
            assert (refused.status_code, "does not match" in words(refused)) == (422, True)
            await browser.post(decision_path(asked), data={**form, "answer.message.date": "2026-12-24"})
            assert (await web.rested(execution["execution_id"]))["status"] == "succeeded"
            assert "P-1 on 2026-12-24" in words(await browser.get(path))
            unresolved = await web.call("olga", "POST", "/workflows/delivery/resolve", json={})
            assert "post to /workflows/delivery/executions" in unresolved.json()["detail"]
