"""Who may say yes: roles, money limits, two people, and rights that are read when they count.

The attacks on a yes each stand here or in test_api_approvals.py, and must be refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text

from casework.actor import SYSTEM, Actor, Role
from casework.approval import Approval, ApprovalState
from casework.errors import NotAllowed
from casework.execution import Mode
from casework.people import People
from casework.settings import Settings
from policies.verdict import Consent
from tests.conftest import PLENTY
from tests.rig import ADA, BEN, Rig, call, rig, scripted
from tests.web import DAMAGED, DEAR, Web

REPLY = call("reply_to_customer", body="Done.")
CHEAP = call("issue_refund", order_id="O-5042", amount_minor=1500, reason="damaged")
BIG = call("issue_refund", order_id="O-5013", amount_minor=64900, reason="damaged")


@pytest_asyncio.fixture
async def cheap(settings: Settings, database_url: str) -> AsyncIterator[Rig]:
    async with rig(settings, database_url, scripted([CHEAP], "Done.")) as made:
        yield made


@pytest_asyncio.fixture
async def big(settings: Settings, database_url: str) -> AsyncIterator[Rig]:
    async with rig(settings, database_url, scripted([BIG], "Done.")) as made:
        yield made


def people_of(case: Rig) -> People:
    return People(case.resources.engine, lambda value: value.encode(), None)  # type: ignore[arg-type]  # no passwords


async def limit(case: Rig, who: Actor, limits: dict[str, int]) -> None:
    await people_of(case).change(SYSTEM, who.actor_id, limits=limits)


async def asked_in(case: Rig, ticket: str, mode: Mode = Mode.AUTONOMOUS) -> Approval:
    execution_id = await case.start(ticket, mode)
    await case.advance(execution_id)
    (asked,) = await case.pending(execution_id)
    return asked


async def test_what_is_at_stake_travels_with_the_question(cheap: Rig, big: Rig) -> None:
    small = await asked_in(cheap, "T-1042", Mode.COPILOT)  # the rules alone would have let it pass
    assert (small.money, small.roles, small.votes_needed) == ({"EUR": 1500}, [Role.APPROVER], 1)
    dear = await asked_in(big, "T-1013")
    assert (dear.money, dear.roles, dear.votes_needed) == ({"EUR": 64900}, [Role.APPROVER], 2)


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({}, "this needs a limit of 15.00 EUR; no limit is set for you in EUR"),
        ({"USD": 10_000_00}, "this needs a limit of 15.00 EUR; no limit is set for you in EUR"),
        ({"EUR": 1499}, "this needs a limit of 15.00 EUR; yours is 14.99 EUR"),
    ],
)
async def test_nobody_lets_more_money_go_than_their_limit(cheap: Rig, limits: dict[str, int], why: str) -> None:
    asked = await asked_in(cheap, "T-1042", Mode.COPILOT)
    await limit(cheap, ADA, limits)
    with pytest.raises(NotAllowed, match=why):
        await cheap.decide(ADA, asked)
    assert await cheap.pending(asked.execution_id) == [asked]
    await limit(cheap, ADA, {"EUR": 1500})
    assert (await cheap.decide(ADA, asked)).state is ApprovalState.APPROVED


async def test_saying_no_needs_no_limit(cheap: Rig) -> None:
    asked = await asked_in(cheap, "T-1042", Mode.COPILOT)
    await limit(cheap, ADA, {})
    assert (await cheap.decide(ADA, asked, "reject", reason="No.")).state is ApprovalState.REJECTED


async def test_an_edit_that_decides_by_itself_needs_the_limit_and_any_other_does_not(big: Rig) -> None:
    asked = await asked_in(big, "T-1013")
    await limit(big, ADA, {"EUR": 50_00})
    small = {**asked.args, "amount_minor": 90_00}  # the rules let 90.00 EUR pass alone
    with pytest.raises(NotAllowed, match=r"this needs a limit of 90.00 EUR; yours is 50.00 EUR"):
        await big.decide(ADA, asked, "edit", args=small)
    assert await big.pending(asked.execution_id) == [asked]
    edited = await big.decide(ADA, asked, "edit", args={**asked.args, "amount_minor": 600_00})
    assert (edited.state, edited.money, edited.votes_needed) == (ApprovalState.PENDING, {"EUR": 600_00}, 2)
    await limit(big, BEN, {"EUR": 90_00})
    lowered = await big.decide(BEN, edited, "edit", args=small)
    assert (lowered.state, lowered.good_for) == (ApprovalState.APPROVED, {"EUR": 90_00})


async def test_a_right_taken_away_a_moment_ago_counts(cheap: Rig) -> None:
    """The caller still holds an Actor with the role: what it says is not asked."""
    asked = await asked_in(cheap, "T-1042", Mode.COPILOT)
    assert Role.APPROVER in ADA.roles
    await cheap.roles(ADA, Role.OPERATOR)
    with pytest.raises(NotAllowed, match="role approver"):
        await cheap.decide(ADA, asked)
    await people_of(cheap).change(SYSTEM, "ben", disabled=True)
    with pytest.raises(NotAllowed, match="no such person here any more"):
        await cheap.decide(BEN, asked)
    assert await cheap.pending(asked.execution_id) == [asked]


async def test_a_withdrawal_and_a_yes_at_once_are_in_some_order(cheap: Rig) -> None:
    """The yes holds the person's row: it comes before the withdrawal, or meets it."""
    asked = await asked_in(cheap, "T-1042", Mode.COPILOT)
    async with cheap.resources.engine.begin() as db:
        await db.execute(text("UPDATE casework.actors SET roles = '{operator}' WHERE actor_id = 'ada'"))
        deciding = asyncio.create_task(cheap.decide(ADA, asked))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        async with asyncio.timeout(10):
            while not await cheap.scalar(waits):  # noqa: ASYNC110 - only the database knows
                await asyncio.sleep(0.01)
    with pytest.raises(NotAllowed, match="role approver"):
        await deciding


async def test_two_different_people_must_agree_each_within_their_own_limit(big: Rig) -> None:
    asked = await asked_in(big, "T-1013")
    for _ in range(3):
        assert (await big.decide(ADA, asked)).state is ApprovalState.PENDING
    await limit(big, BEN, {"EUR": 500_00})
    with pytest.raises(NotAllowed, match=r"this needs a limit of 649.00 EUR; yours is 500.00 EUR"):
        await big.decide(BEN, asked)
    await limit(big, BEN, {"EUR": 700_00})
    done = await big.decide(BEN, asked)
    assert (done.state, done.good_for) == (ApprovalState.APPROVED, {"EUR": 700_00})


@pytest.mark.parametrize("loss", ["disabled", "role", "limit"])
async def test_a_vote_of_somebody_who_lost_the_right_since_does_not_count(big: Rig, loss: str) -> None:
    asked = await asked_in(big, "T-1013")
    await big.decide(ADA, asked)
    changes: dict[str, Any] = {
        "disabled": {"disabled": True},
        "role": {"roles": {Role.OPERATOR}},
        "limit": {"limits": {"EUR": 100_00}},
    }
    await people_of(big).change(SYSTEM, "ada", **changes[loss])
    one = await big.decide(BEN, asked)
    assert (one.state, one.votes) == (ApprovalState.PENDING, ["ben"])
    (told,) = await big.events(asked.execution_id, "approval.vote_voided")
    assert told.data["by"] == "ada"
    cleo = Actor(actor_id="cleo", roles=frozenset({Role.APPROVER}))
    await big.roles(cleo, Role.APPROVER)
    assert (await big.decide(cleo, asked)).state is ApprovalState.APPROVED


async def test_an_edit_there_and_back_does_not_bring_back_the_editors_vote(big: Rig) -> None:
    asked = await asked_in(big, "T-1013")
    await big.decide(ADA, asked)
    away = await big.decide(BEN, asked, "edit", args={**asked.args, "amount_minor": 600_00})
    back = await big.decide(ADA, away, "edit", args=asked.args)
    assert (back.digest, back.votes, back.edited_by) == (asked.digest, [], "ada")
    with pytest.raises(NotAllowed, match="whoever edited"):
        await big.decide(ADA, back)
    assert (await big.decide(BEN, back)).state is ApprovalState.PENDING


async def test_whoever_decides_holds_every_role_that_is_named(cheap: Rig) -> None:
    asked = await asked_in(cheap, "T-1042", Mode.COPILOT)
    await cheap.execute("UPDATE casework.approvals SET roles = '{admin,approver}'")
    with pytest.raises(NotAllowed, match="deciding this needs the roles admin and approver"):
        await cheap.decide(ADA, asked)
    await cheap.roles(BEN, Role.ADMIN)
    with pytest.raises(NotAllowed, match="deciding this needs the roles admin and approver"):
        await cheap.decide(BEN, asked)
    await cheap.roles(BEN, Role.ADMIN, Role.APPROVER)
    assert (await cheap.decide(BEN, asked)).state is ApprovalState.APPROVED


@pytest.mark.parametrize("checked", [True, False], ids=["checked", "control"])
async def test_what_was_agreed_to_is_held_against_what_is_at_stake_when_it_happens(
    settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    """Two refunds of one order: the first raises what is refunded in all above what the second's approver may let go.

    The control: without the check, the second is paid all the same.
    """
    if not checked:
        monkeypatch.setattr(Consent, "covers", lambda self, needed: True)
    both = [CHEAP, call("issue_refund", order_id="O-5042", amount_minor=1000, reason="goodwill")]
    async with rig(settings, database_url, scripted(both, [REPLY], "Done.")) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        await case.advance(execution_id)
        dear, low = sorted(await case.pending(execution_id), key=lambda a: -a.args["amount_minor"])
        assert (dear.money, low.money) == ({"EUR": 1500}, {"EUR": 1000})
        await case.decide(ADA, dear)
        await case.advance(execution_id)
        await limit(case, BEN, {"EUR": 2499})
        assert (await case.decide(BEN, low)).good_for == {"EUR": 2499}
        await case.advance(execution_id)
        done = await case.events(execution_id, "effect.done")
        paid = [e.data["args"]["amount_minor"] for e in done if e.data["tool"] == "issue_refund"]
        assert paid == ([1500] if checked else [1500, 1000])
        refused = [e.data["reason"] for e in await case.events(execution_id, "call.denied")]
        assert len(refused) == checked
        assert all("it needs a person's approval now" in reason for reason in refused)


async def test_arguments_changed_in_the_database_after_the_yes_are_not_executed(cheap: Rig) -> None:
    asked = await asked_in(cheap, "T-1042", Mode.COPILOT)
    await cheap.decide(ADA, asked)
    await cheap.execute("UPDATE casework.approvals SET args = jsonb_set(args, '{amount_minor}', '9000')")
    await cheap.advance(asked.execution_id)
    assert not await cheap.events(asked.execution_id, "effect.started")
    (answered,) = await cheap.events(asked.execution_id, "call.answered")
    assert "no approval stands behind this call" in answered.data["answer"]


async def test_after_a_cancel_a_yes_comes_too_late(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    assert (await web.call("olga", "POST", f"/executions/{approval['execution_id']}/cancel")).status_code == 200
    late = await web.decide("ada", approval, "approve")
    assert (late.status_code, late.json()["code"]) == (409, "approval_superseded")


async def test_a_yes_with_a_revoked_key_or_of_somebody_disabled_is_a_401(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    for who in ("ada", "ben"):
        await web.service.people.change(SYSTEM, who, limits=PLENTY)
    (key,) = [k for k in (await web.get("/keys?actor_id=ada", "amy"))["keys"] if k["live"]]
    assert (await web.call("amy", "DELETE", f"/keys/{key['key_id']}")).status_code == 204
    assert (await web.decide("ada", approval, "approve")).status_code == 401
    assert (await web.call("amy", "PATCH", "/people/ben", json={"disabled": True})).status_code == 200
    assert (await web.decide("ben", approval, "approve")).status_code == 401
    assert await web.get(f"/approvals/{approval['approval_id']}", "olga") == approval


async def test_the_desk_says_what_is_needed_and_what_one_may_decide(web: Web) -> None:
    approval = await web.approval(DEAR)
    await web.service.people.change(SYSTEM, "ada", limits={"EUR": 100_00})
    path = f"/desk/executions/{approval['execution_id']}"
    async with web.browser("ada") as ada, web.browser("ben") as ben:
        inbox = (await ada.get("/")).text
        assert "Nothing waits for you." in inbox
        assert "this needs a limit of 649.00 EUR; yours is 100.00 EUR" in inbox
        card = (await ada.get(path)).text
        assert "2 people, each approver up to 649.00 EUR" in card
        assert "You cannot approve this: this needs a limit of 649.00 EUR; yours is 100.00 EUR." in card
        assert 'value="approve"' not in card
        assert 'value="reject"' in card  # a no needs no limit
        assert "Nothing waits for you." not in (await ben.get("/")).text
        assert 'value="approve"' in (await ben.get(path)).text
