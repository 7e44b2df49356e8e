"""Whoever asked writes again while the case is busy, or waits for a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from casework.approval import ApprovalState, Kind
from casework.errors import ApprovalSuperseded
from casework.execution import Mode, Status
from casework.messages import OVERTAKEN
from casework.settings import Settings
from tests.meanwhile import (
    DEAR,
    LOOK,
    PAID,
    REFUND,
    REPLY,
    STATE,
    Meanwhile,
    fenced,
    kinds,
    late,
    read,
    said,
    while_looking,
)
from tests.rig import ADA, BEN, rig, scripted
from tests.soundness import broken
from tools.shop.payments_client import Patience, PaymentsClient
from tools.shop.sandbox_provider import SANDBOX_KEY


async def test_a_message_supersedes_what_waits_for_a_decision(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    async with rig(settings, database_url, scripted([REFUND], [REPLY], "Told them.")) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        assert await case.advance(execution_id) is Status.WAITING
        (asked,) = await case.pending(execution_id)
        woken = case.queue.woken.count(execution_id)

        assert await case.write(execution_id, "Forget it, please.") is Status.QUEUED
        assert case.queue.woken.count(execution_id) == woken + 1
        assert await case.pending(execution_id) == []
        with pytest.raises(ApprovalSuperseded):
            await case.decide(ADA, asked)
        closed = await case.decisions.get("default", asked.approval_id)
        assert (closed.state, closed.decided_by) == (ApprovalState.SUPERSEDED, "system")
        story = await case.events(execution_id, "message.received", "approval.superseded")
        assert [e.data for e in story] == [
            {"number": 1, "by": "olga", "text": "Forget it, please."},
            {"approval_id": str(asked.approval_id), "tool": "issue_refund", "message": 1, "reason": OVERTAKEN},
        ]

        assert await case.advance(execution_id) is Status.WAITING  # the letter asks, by a question of its own
        assert (await said(case, execution_id))[:3] == [
            "ai",
            f"tool: Not made: {OVERTAKEN}. Read it, and propose what is right now.",
            fenced("Forget it, please."),
        ]
        assert await read(case, execution_id) == [(1, "billing")]
        assert await kinds(case, execution_id) == ["start", "message"]
        (letter,) = await case.pending(execution_id)
        await case.decide(ADA, letter)
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert await case.scalar(PAID) == 0
        assert await broken(case.resources.engine, payments_book) == []


async def test_a_decision_that_was_made_stands_and_only_its_sibling_is_superseded(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    async with rig(settings, database_url, scripted([REFUND, REPLY], [REPLY], "Done.")) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        await case.advance(execution_id)
        refund, letter = sorted(await case.pending(execution_id), key=lambda a: a.tool or "")
        await case.decide(ADA, refund)
        assert await case.write(execution_id, "And another thing.") is Status.QUEUED
        assert await case.scalar(STATE, a=letter.approval_id) == "superseded"
        assert await case.advance(execution_id) is Status.WAITING
        assert await case.scalar(PAID) == 1500
        assert [e.data["tool"] for e in await case.events(execution_id, "call.answered")] == ["reply_to_customer"]
        assert await case.scalar("SELECT count(*) FROM casework.effects") == 1
        assert await broken(case.resources.engine, payments_book) == []


async def test_votes_for_what_was_superseded_are_void(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted([DEAR], [DEAR], "Done.")) as case:
        execution_id = await case.start("T-1013")
        await case.advance(execution_id)
        (asked,) = await case.pending(execution_id)
        assert asked.votes_needed == 2
        await case.decide(ADA, asked)
        await case.write(execution_id, "Any news?")
        assert await case.advance(execution_id) is Status.WAITING
        (again,) = await case.pending(execution_id)
        assert (again.args, again.votes, again.votes_needed) == (asked.args, [], 2)
        assert (await case.decide(BEN, again)).state is ApprovalState.PENDING


async def test_a_message_to_a_busy_case_is_read_at_the_next_turn(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    meanwhile = Meanwhile()
    async with rig(settings, database_url, scripted([LOOK], [REPLY], "Done."), while_looking(meanwhile)) as case:
        execution_id = await case.start("T-1042")
        meanwhile.deed = lambda: case.write(execution_id, "One more thing.")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert (await said(case, execution_id))[2] == fenced("One more thing.")
        assert await read(case, execution_id) == [(1, "billing")]
        assert await kinds(case, execution_id) == ["start"]
        assert await broken(case.resources.engine, payments_book) == []


async def test_a_message_between_the_last_turn_and_the_end_is_read_by_a_run_straight_after(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    async with rig(settings, database_url, scripted([REPLY], "Done.", [REPLY], "Done again.")) as case:
        execution_id = await case.start("T-1042")
        runner = late(case, lambda: case.write(execution_id, "Wait!"))
        assert await runner.advance(execution_id) is Status.QUEUED
        between = await case.get(execution_id)
        assert (between.result, between.finished_at, between.messages, between.messages_read) == (None, None, 1, 0)
        assert case.queue.woken.count(execution_id) == 2
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert await kinds(case, execution_id) == ["start", "message"]
        assert await read(case, execution_id) == [(1, "router")]
        assert await broken(case.resources.engine, payments_book) == []


@pytest.mark.parametrize("turn", [REPLY, DEAR], ids=["at the end", "at a question"])
async def test_without_a_last_look_such_a_message_is_lost(
    settings: Settings, database_url: str, payments_book: Path, turn: Any
) -> None:
    async with rig(settings, database_url, scripted([turn], "Done.")) as case:
        execution_id = await case.start("T-1013")
        await late(case, lambda: case.write(execution_id, "Wait!"), deaf=True).advance(execution_id)
        assert await broken(case.resources.engine, payments_book) == [
            f"a message that no agent will read: {execution_id}:1"
        ]


async def test_a_question_that_a_run_asks_while_a_message_comes_in_is_superseded_at_once(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    async with rig(settings, database_url, scripted([REFUND], "Done.")) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        runner = late(case, lambda: case.write(execution_id, "Wait!"))
        assert await runner.advance(execution_id) is Status.QUEUED
        assert await case.pending(execution_id) == []
        types = [e.type for e in await case.events(execution_id)]
        assert types[-3:] == ["approval.requested", "approval.superseded", "run.finished"]
        await case.advance(execution_id)
        assert await read(case, execution_id) == [(1, "billing")]
        assert await case.scalar("SELECT count(*) FROM casework.effects WHERE tool = 'issue_refund'") == 0
        assert await broken(case.resources.engine, payments_book) == []


async def test_whether_a_call_happened_is_asked_on_and_the_message_read_after_it(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    assert settings.payments_url is not None
    once = PaymentsClient(settings.payments_url, SANDBOX_KEY, patience=Patience(tries=1))
    async with rig(settings, database_url, scripted([REFUND], [REPLY], "Done.")) as case, once:
        case.services = {"support": {PaymentsClient: once}}
        await once._http.post("/sandbox/faults", json={"kind": "500", "count": 1})
        execution_id = await case.start("T-1042")
        assert await case.advance(execution_id) is Status.WAITING
        (asked,) = await case.pending(execution_id)
        assert asked.kind is Kind.OUTCOME
        assert await case.write(execution_id, "Never mind.") is Status.WAITING
        assert await case.pending(execution_id) == [asked]
        assert await case.advance(execution_id) is None
        await case.decide(ADA, asked, "did_not_happen")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert await read(case, execution_id) == [(1, "billing")]
        assert await broken(case.resources.engine, payments_book) == []


async def test_who_writes_while_the_answer_is_sent_is_owed_one_of_their_own(
    settings: Settings, database_url: str
) -> None:
    meanwhile = Meanwhile()
    rules = scripted([LOOK, REPLY], "I have cancelled it.")
    async with rig(settings, database_url, rules, while_looking(meanwhile)) as case:
        execution_id = await case.start("T-1042")
        meanwhile.deed = lambda: case.write(execution_id, "Please cancel it.")
        assert await case.advance(execution_id) is Status.ESCALATED
