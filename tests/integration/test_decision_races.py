"""Many people and the clock at one approval at the same moment: one of them decides, and all are told the truth."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from casework.actor import Actor, Role
from casework.approval import Approval, ApprovalState
from casework.errors import ApprovalDecided, ApprovalExpired, ApprovalSuperseded, Conflict
from casework.execution import Mode, Status
from casework.settings import Settings
from tests.rig import ADA, BEN, OLGA, Rig, call, rig, scripted
from tests.soundness import broken

DECIDERS = 50
DEADLINES = (timedelta(0), timedelta(milliseconds=10), timedelta(hours=1))
"""When the approval lapses, seen from the start of the race: before it, within it, after it."""
REFUND = call("issue_refund", order_id="O-5042", amount_minor=1500, reason="damaged")
TRUTHS = {"won", *(kind.__name__ for kind in (ApprovalDecided, ApprovalExpired, ApprovalSuperseded))}
DECIDED = "SELECT count(*) FROM casework.events WHERE type = 'approval.decided'"


@pytest_asyncio.fixture
async def case(settings: Settings, database_url: str) -> AsyncIterator[Rig]:
    async with rig(settings, database_url, scripted([REFUND], "Done.")) as made:
        yield made


async def asking(case: Rig) -> Approval:
    """A case that waits for one yes to its refund."""
    execution_id = await case.start("T-1042", Mode.COPILOT)
    assert await case.advance(execution_id) is Status.WAITING
    (asked,) = await case.pending(execution_id)
    return asked


async def outcome(attempt: Any) -> str:
    """`won`, or the conflict it met."""
    try:
        await attempt
    except Conflict as conflict:
        return type(conflict).__name__
    return "won"


@pytest.mark.parametrize("answer", ["approve", "reject"])
async def test_of_fifty_people_deciding_at_once_one_does(case: Rig, payments_book: Path, answer: str) -> None:
    asked = await asking(case)
    people = [Actor(actor_id=f"approver-{n}", roles=frozenset({Role.APPROVER})) for n in range(DECIDERS)]
    for who in people:
        await case.roles(who, *who.roles)
    more = {"reason": "no"} if answer == "reject" else {}
    met = Counter(await asyncio.gather(*(outcome(case.decide(who, asked, answer, **more)) for who in people)))
    assert met == {"won": 1, ApprovalDecided.__name__: DECIDERS - 1}
    assert await case.scalar(DECIDED) == 1
    assert case.queue.woken.count(asked.execution_id) == 2  # once to start it, once by the decision
    await asyncio.gather(*(case.runner(f"w{n}").advance(asked.execution_id) for n in range(2)))
    paid = await case.scalar("SELECT count(*) FROM casework.effects WHERE tool = 'issue_refund'")
    assert paid == (1 if answer == "approve" else 0)
    assert await broken(case.resources.engine, payments_book) == []


async def test_of_fifty_clicks_of_one_person_each_is_answered_alike(case: Rig) -> None:
    asked = await asking(case)
    answers = await asyncio.gather(*(case.decide(ADA, asked) for _ in range(DECIDERS)))
    assert {(a.state, a.decided_by) for a in answers} == {(ApprovalState.APPROVED, "ada")}
    assert await case.scalar(DECIDED) == 1
    assert case.queue.woken.count(asked.execution_id) == 2


async def test_approve_reject_cancel_and_expire_at_once_have_one_winner(case: Rig, payments_book: Path) -> None:
    seen: Counter[str] = Counter()
    for left, first in product(DEADLINES, range(4)):
        asked = await asking(case)
        execution_id = asked.execution_id
        await case.execute(
            "UPDATE casework.approvals SET expires_at = clock_timestamp() + :left WHERE approval_id = :a",
            left=left,
            a=asked.approval_id,
        )
        attempts = {
            "approve": outcome(case.decide(ADA, asked)),
            "reject": outcome(case.decide(BEN, asked, "reject", reason="no")),
            "cancel": outcome(case.store.cancel(OLGA, execution_id)),
            "expire": outcome(case.decisions.expire_due()),
        }
        order = [*attempts][first:] + [*attempts][:first]
        met = dict(zip(order, await asyncio.gather(*(attempts[name] for name in order)), strict=True))
        await case.decisions.expire_due()  # what was too early in the race
        state = await case.scalar("SELECT state FROM casework.approvals WHERE approval_id = :a", a=asked.approval_id)
        seen[state] += 1
        assert (met["approve"] == "won") is (state == ApprovalState.APPROVED), met
        assert (met["reject"] == "won") is (state == ApprovalState.REJECTED), met
        assert {met["approve"], met["reject"]} <= TRUTHS
        assert met["cancel"] == "won"  # it ends the case, whatever became of the question
        assert await case.advance(execution_id) is None
        assert (await case.get(execution_id)).status is Status.CANCELLED
        assert await broken(case.resources.engine, payments_book) == []
    assert await case.scalar("SELECT count(*) FROM casework.effects") == 0
    assert len(seen) > 1, seen
