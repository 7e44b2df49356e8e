"""Whoever asked writes again after the case ended: it is opened again, stays with its person, or is closed for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from langchain_core.messages import BaseMessage

from casework.errors import ExecutionOver, IdempotencyKeyReused, MessagesUnread, TakesNoMessages
from casework.execution import Status
from casework.messages import MAX_UNREAD
from casework.settings import Settings
from graphs.support import support
from nodes.offline import Reply
from policies.limits import Limits
from tests.meanwhile import LOOK, PAID, REFUND, REPLY, Prompts, kinds, late, read
from tests.rig import ADA, OLGA, call, rig, scripted
from tests.soundness import broken


async def test_a_resolved_case_is_opened_again_as_a_new_run(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    rules = Prompts(scripted([REFUND, REPLY], "Paid it back.", [REPLY], "Answered."))
    async with rig(settings, database_url, rules) as case:
        execution_id = await case.start("T-1042")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        first = await case.get(execution_id)

        assert await case.write(execution_id, "Thanks! When will I see it?") is Status.QUEUED
        queued = await case.get(execution_id)
        assert (queued.result, queued.finished_at, queued.messages) == (None, None, 1)
        (reopened,) = await case.events(execution_id, "execution.reopened")
        assert first.finished_at is not None
        assert reopened.data == {
            "message": 1,
            "finished_at": first.finished_at.isoformat(),
            "result": first.result,
        }
        assert await case.advance(execution_id) is Status.SUCCEEDED
        again = await case.get(execution_id)
        assert again.result is not None
        assert again.result["answer"] == "Answered."
        assert set(again.result) == {"answer", "outcome"}
        assert again.messages_read == 1
        assert again.model_calls == 6 > first.model_calls
        assert await kinds(case, execution_id) == ["start", "message"]
        assert await case.scalar(PAID) == 1500
        asked = rules.last("router")
        before, after = asked.index("Paid it back."), asked.index("When will I see it?")
        assert before < after
        assert "Paid it back." in rules.last("billing")
        assert await broken(case.resources.engine, payments_book) == []


async def test_a_case_can_be_opened_again_and_again(settings: Settings, database_url: str, payments_book: Path) -> None:
    turns = [turn for n in range(4) for turn in ([REPLY], f"Answer {n}.")]
    async with rig(settings, database_url, scripted(*turns)) as case:
        execution_id = await case.start("T-1042")
        await case.advance(execution_id)
        for n in range(1, 4):
            await case.write(execution_id, f"Question {n}?")
            assert await case.advance(execution_id) is Status.SUCCEEDED
            assert ((await case.get(execution_id)).result or {})["answer"] == f"Answer {n}."
        assert await read(case, execution_id) == [(1, "router"), (2, "router"), (3, "router")]
        assert await broken(case.resources.engine, payments_book) == []


async def test_budgets_count_anew_when_a_case_is_opened_again_and_totals_go_on(
    settings: Settings, database_url: str
) -> None:
    frugal = replace(support, limits=Limits(model_calls=4, tool_calls=2))
    endless = scripted([REPLY], "Done.", [LOOK])
    async with rig(settings, database_url, endless, frugal) as case:
        execution_id = await case.start("T-1042")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert (await case.get(execution_id)).model_calls == 3
        await case.write(execution_id, "And now?")
        assert await case.advance(execution_id) is Status.ESCALATED
        ended = await case.get(execution_id)
        assert ended.result is not None
        assert ended.result["outcome"]["reason"] == "the budget of 2 tool calls is used up"
        assert ended.tool_calls == 1 + 2 + 1  # the first run, this one, and the escalation
        assert ended.model_calls == 3 + 3


async def test_hand_overs_of_an_earlier_run_do_not_lead_the_next_one(settings: Settings, database_url: str) -> None:
    leave = call("hand_over", specialist="shipping", summary="Nothing of it is about money.")
    stubborn = [call("no_such_tool")]
    turns = ([leave], [REPLY], "Done.", stubborn, [REPLY], "Done.")

    def rules(role: str, messages: Sequence[BaseMessage], tools: frozenset[str]) -> Reply:
        if role == "shipping":  # it reads nothing of what was said before the hand-over
            return Reply(calls=[REPLY]) if len(messages) == 2 else Reply(text="Done.")
        return scripted(*turns)(role, messages, tools)

    async with rig(settings, database_url, rules) as case:
        execution_id = await case.start("T-1042")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        await case.write(execution_id, "And my money?")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert len(await case.events(execution_id, "case.handed_over")) == 1
        assert [e.data["specialist"] for e in await case.events(execution_id, "case.routed")] == ["billing"] * 2


async def test_who_writes_again_is_owed_an_answer(settings: Settings, database_url: str) -> None:
    """`must_call` counts anew: what was done before does not make "I have cancelled it" true."""
    async with rig(settings, database_url, scripted([REPLY], "Done.", "I have cancelled it.")) as case:
        execution_id = await case.start("T-1042")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        await case.write(execution_id, "Please cancel it.")
        assert await case.advance(execution_id) is Status.ESCALATED


async def test_an_escalated_case_stays_with_its_person_and_so_does_the_message(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    async with rig(settings, database_url, None) as case:
        execution_id = await case.start("T-1009")
        assert await case.advance(execution_id) is Status.ESCALATED
        before = await case.get(execution_id)
        woken = case.queue.woken.count(execution_id)
        for n in range(MAX_UNREAD + 1):
            assert await case.write(execution_id, f"My lawyer adds {n}.") is Status.ESCALATED
        after = await case.get(execution_id)
        assert (after.result, after.finished_at) == (before.result, before.finished_at)
        assert (after.messages, after.messages_read) == (MAX_UNREAD + 1, 0)
        assert case.queue.woken.count(execution_id) == woken
        assert await case.advance(execution_id) is None
        assert await broken(case.resources.engine, payments_book) == []


async def test_a_case_that_escalates_while_a_message_comes_in_stays_with_its_person(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    async with rig(settings, database_url, None) as case:
        execution_id = await case.start("T-1009")
        assert await late(case, lambda: case.write(execution_id, "Hello?")).advance(execution_id) is Status.ESCALATED
        assert await read(case, execution_id) == []
        assert await broken(case.resources.engine, payments_book) == []


async def test_cancelled_failed_and_foreign_executions_take_none(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted([REFUND], "Done.")) as case:
        cancelled, failed, stopping, studio = [await case.start(t) for t in ("T-1042", "T-1003", "T-1004", "T-1005")]
        await case.store.cancel(OLGA, cancelled)
        await case.execute("UPDATE casework.executions SET status = 'failed' WHERE execution_id = :e", e=failed)
        await case.legs.claim(stopping, "me", settings.lease)
        await case.store.cancel(OLGA, stopping)
        await case.execute("UPDATE casework.executions SET source = 'studio' WHERE execution_id = :e", e=studio)
        for execution_id, says in ((cancelled, "was cancelled"), (failed, "failed"), (stopping, "was cancelled")):
            with pytest.raises(ExecutionOver, match=f"{says} and takes no messages: start a new execution"):
                await case.write(execution_id, "Hello?")
        with pytest.raises(TakesNoMessages):
            await case.write(studio, "Hello?")
        assert await case.scalar("SELECT count(*) FROM casework.messages") == 0
        assert await case.scalar("SELECT count(*) FROM casework.events WHERE type = 'message.received'") == 0


async def test_only_so_many_wait_to_be_read(settings: Settings, database_url: str, payments_book: Path) -> None:
    async with rig(settings, database_url, scripted([REPLY], "Done.")) as case:
        execution_id = await case.start("T-1042")
        for n in range(MAX_UNREAD):
            await case.write(execution_id, f"Number {n}")
        with pytest.raises(MessagesUnread):
            await case.write(execution_id, "One too many")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert [number for number, _ in await read(case, execution_id)] == list(range(1, MAX_UNREAD + 1))
        assert await case.write(execution_id, "Now it fits") is Status.QUEUED
        assert await case.advance(execution_id) is Status.ESCALATED  # the scripted model answers with prose
        assert await broken(case.resources.engine, payments_book) == []


async def test_a_key_is_good_for_one_message_of_one_sender(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted([REPLY], "Done.")) as case:
        execution_id = await case.start("T-1042")
        first, status, new = await case.posted.add(OLGA, execution_id, "Hello?", "k1")
        assert (first.number, status, new) == (1, Status.QUEUED, True)
        await case.advance(execution_id)
        assert await case.posted.add(OLGA, execution_id, "Hello?", "k1") == (first, Status.SUCCEEDED, False)
        with pytest.raises(IdempotencyKeyReused):
            await case.posted.add(OLGA, execution_id, "Hello!", "k1")
        assert (await case.posted.add(ADA, execution_id, "Hello!", "k1"))[0].number == 2
        assert [m.text for m in await case.posted.page("default", execution_id, after=0, limit=9)] == [
            "Hello?",
            "Hello!",
        ]
        assert await case.posted.page("elsewhere", execution_id, after=0, limit=9) == []
