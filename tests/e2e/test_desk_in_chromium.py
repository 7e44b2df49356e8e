"""The desk as people use it, in a real Chromium: live, by keyboard, by form, at night, on a phone."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from playwright.async_api import Page, expect

from server.service import Service
from tests.e2e.browsing import Desk, grave, open_desk, shoot
from tests.web import DAMAGED, DEAR, LEGAL

BROKEN = {"ticket_id": "T-1042", "user_id": "C-1042"}


@pytest_asyncio.fixture
async def desk(service: Service) -> AsyncIterator[Desk]:
    async with open_desk(service) as opened:
        yield opened
        assert opened.complaints == [], "\n".join(opened.complaints)


async def state(desk: Desk, approval: dict[str, Any]) -> str:
    return str((await desk.web.get(f"/approvals/{approval['approval_id']}"))["state"])


def pane(page: Page) -> Any:
    return page.locator("#pane")


async def test_an_approval_appears_live_and_is_approved_by_keyboard(desk: Desk) -> None:
    async with desk.window("ada") as page:
        await expect(page.get_by_text("Nothing waits for you.")).to_be_visible()
        approval = await desk.approval(await desk.rest(DAMAGED))
        row = page.locator("[data-row]")
        await expect(row).to_contain_text("Refund 129.00 EUR on order O-5005")
        await expect(page).to_have_title(re.compile(r"^\(1\) Inbox"))
        await expect(pane(page)).to_contain_text("129.00 EUR to the card it was paid with")
        await page.keyboard.press("a")
        await expect(page.locator("[data-approve]")).to_be_focused()
        assert await state(desk, approval) == "pending"  # one stray key moves no money
        await page.keyboard.press("a")
        await expect(pane(page)).to_contain_text("approved by ada")
        await expect(page.get_by_text("Nothing waits for you.")).to_be_visible()
        await expect(page).to_have_title(re.compile(r"^Inbox"))
    assert await state(desk, approval) == "approved"
    assert (await desk.web.rested(approval["execution_id"]))["status"] == "succeeded"


async def test_the_amount_is_edited_by_form_and_needs_someone_else(desk: Desk) -> None:
    approval = await desk.approval(await desk.rest(DEAR))
    async with desk.window("ada") as page:
        await page.keyboard.press("e")
        amount = pane(page).get_by_label("amount_minor")
        await expect(pane(page).get_by_label("order_id")).to_be_focused()
        await amount.fill("64901")
        await pane(page).get_by_role("button", name="Submit the change").click()
        await expect(pane(page).get_by_role("alert")).to_contain_text("more than one refund")
        await expect(amount).to_have_value("64901")
        await amount.fill("60000")
        await pane(page).get_by_role("button", name="Submit the change").click()
        await expect(pane(page)).to_contain_text("You changed these arguments, so someone else must approve them.")
        await expect(pane(page)).to_contain_text("600.00 EUR to the card it was paid with")
    assert (await desk.web.get(f"/approvals/{approval['approval_id']}"))["args"]["amount_minor"] == 60000


async def test_two_people_in_two_windows_agree_to_what_needs_two(desk: Desk) -> None:
    approval = await desk.approval(await desk.rest(DEAR))
    async with desk.window("ada") as ada, desk.window("ben") as ben:
        for page in (ada, ben):
            await pane(page).get_by_role("button", name=re.compile("^Approve")).click()
        await expect(pane(ada)).to_contain_text("You have approved. 1 more must agree.")
        await expect(pane(ben)).to_contain_text("approved by ben")
    assert await state(desk, approval) == "approved"


async def test_a_call_is_rejected_with_a_reason_of_the_list(desk: Desk) -> None:
    approval = await desk.approval(await desk.rest(DAMAGED))
    async with desk.window("ada") as page:
        await page.keyboard.press("r")
        await expect(pane(page).get_by_label("Why not?")).to_be_focused()
        await pane(page).get_by_label("Why not?").select_option("They are not entitled to this")
        await pane(page).get_by_label("In your words").fill("One charge only.")
        await pane(page).get_by_role("button", name="Reject", exact=True).click()
        await expect(pane(page)).to_contain_text("rejected by ada")
    decided = await desk.web.get(f"/approvals/{approval['approval_id']}")
    assert decided["decision"]["code"] == "not_entitled"
    assert decided["decision"]["reason"] == "They are not entitled to this: One charge only."


async def test_several_are_picked_by_keyboard_and_what_went_stale_is_named(desk: Desk) -> None:
    for case in (BROKEN, DAMAGED, DEAR):
        await desk.rest(case, "copilot")
    async with desk.window("ada") as page:
        await expect(page.locator("[data-row]")).to_have_count(3)
        chosen = page.locator("[data-row][aria-current]")
        first = await chosen.get_attribute("data-row")
        for key in ("x", "j", "x", "j", "x", "k"):
            await page.keyboard.press(key)
        assert await chosen.get_attribute("data-row") != first
        await expect(page.locator("#together")).to_contain_text("3 picked")
        # Decided elsewhere between looking and clicking: the list is told, so hold its news back.
        await page.route("**/desk/inbox*", lambda route: route.abort())
        elsewhere = next(
            a for a in (await desk.web.get("/approvals"))["approvals"] if a["args"].get("order_id") == "O-5005"
        )
        await desk.web.decide("ben", elsewhere, "reject", reason="No.")
        await page.get_by_role("button", name="Approve each").click()
        await expect(page.get_by_role("status").first).to_contain_text("2 of 3 recorded.")
        await expect(page.get_by_role("status").first).to_contain_text("1 of them still needs another person.")
        await expect(page.get_by_role("status").first).to_contain_text("Already decided: rejected by ben.")
    desk.complaints.clear()  # the aborted requests, and the refusal


async def test_a_stale_page_refuses_cleanly(desk: Desk) -> None:
    approval = await desk.approval(await desk.rest(DAMAGED))
    async with desk.window("ada") as page:
        await page.route("**/desk/live*", lambda route: route.abort())
        await page.goto(f"/desk/approvals/{approval['approval_id']}")
        await desk.web.decide("ben", approval, "reject", reason="No.")
        await page.get_by_role("button", name=re.compile("^Approve")).click()
        await expect(page.get_by_role("alert")).to_contain_text("Already decided: rejected by ben.")
        await expect(page.locator("[data-approve]")).to_have_count(0)
    desk.complaints.clear()  # the aborted requests, and the refusal


async def test_a_case_follows_along_and_is_taken_over(desk: Desk) -> None:
    execution_id = await desk.rest(DAMAGED)
    approval = await desk.approval(execution_id)
    async with desk.window("ada") as page:
        await page.goto(f"/desk/executions/{execution_id}")
        await expect(page.locator(".box.now")).to_contain_text("handle call")
        await page.get_by_text("Take this case over").click()
        await page.get_by_label("Why?").fill("I know this customer.")
        await page.get_by_role("button", name="Take it over").click()
        await expect(page.get_by_role("heading", name="You have this case")).to_be_visible()
        await expect(page.locator("#lines")).to_contain_text("ada took the case over")
    assert await state(desk, approval) == "superseded"


async def test_a_handed_case_appears_is_assigned_and_goes_back(desk: Desk) -> None:
    async with desk.window("ada") as page:
        await page.goto("/desk/handed")
        await expect(page.get_by_text("People have no cases.")).to_be_visible()
        execution_id = await desk.rest(LEGAL)
        await expect(page.locator("table")).to_contain_text("The ticket is about a legal threat.")
        await page.get_by_role("button", name="Assign to me").click()
        await expect(page.get_by_role("heading", name="You have this case")).to_be_visible()
        await page.get_by_label("Back to the agents").fill("Tell them that we answer by letter.")
        await page.get_by_role("button", name="Hand it back").click()
        await expect(page.locator("#lines")).to_contain_text("ada handed it back to the agents")
        await expect(page.locator("#lines")).to_contain_text("read message 1")
        await expect(page.locator("#head")).to_contain_text("escalated")  # live: the lawyer is still there
        await expect(page.get_by_role("heading", name="You have this case")).to_be_visible()
        await page.get_by_label("Solved by hand").fill("Our lawyer answered.")
        await page.get_by_role("button", name="It is solved").click()
        await expect(page.locator("#head")).to_contain_text("solved by ada")
    assert (await desk.web.get(f"/executions/{execution_id}"))["solved_by"] == "ada"


async def test_light_and_dark_are_switched_and_remembered(desk: Desk) -> None:
    async with desk.window("ada", dark=True) as page:
        night = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        await page.get_by_role("button", name="Switch between light and dark").click()
        day = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, re.findall(r"\d+", night))) < 200 < 600 < sum(map(int, re.findall(r"\d+", day)))
        await page.goto("/desk/cases")
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == day


async def test_every_page_is_usable_light_and_dark_on_a_desk_and_on_a_phone(desk: Desk) -> None:
    waiting = await desk.rest(DAMAGED, "copilot")
    approval = await desk.approval(waiting)
    handed = await desk.rest(LEGAL)
    pages = {
        "inbox": "/",
        "approval": f"/desk/approvals/{approval['approval_id']}",
        "case": f"/desk/executions/{waiting}",
        "handed-case": f"/desk/executions/{handed}",
        "cases": "/desk/cases",
        "handed": "/desk/handed",
        "workflows": "/desk/workflows",
        "workflow": "/desk/workflows/support",
        "numbers": "/desk/numbers",
        "api": "/docs",
    }
    found: dict[str, Any] = {}
    for look, how in (("light", {}), ("dark", {"dark": True}), ("phone", {"phone": True})):
        async with desk.window("ada", **how) as page:
            for name, path in pages.items():
                await page.goto(path)
                await shoot(page, f"{look}-{name}")
                too_wide = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
                found |= {f"{look} {name}": problems for problems in [await grave(page)] if problems}
                found |= {f"{look} {name} is too wide": True} if too_wide else {}
    assert found == {}


async def test_axe_sees_what_is_wrong(desk: Desk) -> None:
    """The control of the one above: it does find a grave fault, if there is one."""
    async with desk.window("ada") as page:
        await page.evaluate("document.querySelector('input[type=search]').removeAttribute('aria-label')")
        await page.evaluate("document.querySelector('input[type=search]').removeAttribute('placeholder')")
        assert any("label" in problem for problem in await grave(page))


async def test_the_keyboard_reaches_everything_it_names(desk: Desk) -> None:
    await desk.rest(DAMAGED)
    async with desk.window("ada") as page:
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
        assert await grave(page) == []
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await page.keyboard.press("/")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await page.keyboard.press("j")  # typed, not obeyed
        await expect(page.get_by_role("searchbox")).to_have_value("j")
        await page.keyboard.press("Escape")
        for key, path in (
            ("c", "/desk/cases"),
            ("h", "/desk/handed"),
            ("w", "/desk/workflows"),
            ("n", "/desk/numbers"),
        ):
            await page.keyboard.press("g")
            await page.keyboard.press(key)
            await page.wait_for_url(f"**{path}")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        await page.goto("/")
        await page.keyboard.press("o")
        await page.wait_for_url("**/desk/executions/**")
