"""Messages, decisions, cancels, the clock and a worker at one execution at the same moment: nothing is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import product
from pathlib import Path

import pytest_asyncio

from casework.approval import ApprovalState
from casework.errors import ApprovalExpired, ApprovalSuperseded, ExecutionOver
from casework.execution import OVER, Mode, Status
from casework.settings import Settings
from tests.integration.test_decision_races import DEADLINES, TRUTHS, asking, outcome
from tests.rig import ADA, OLGA, Rig, call, rig, scripted
from tests.soundness import broken

REPLY = call("reply_to_customer", body="We have looked at it. Sorry for the trouble.")
LOOK = call("get_order", order_id="O-5042")
SENDERS = 12


@pytest_asyncio.fixture
async def case(settings: Settings, database_url: str) -> AsyncIterator[Rig]:
    async with rig(settings, database_url, scripted([REPLY], [REPLY], "Done.")) as made:
        yield made


async def test_message_approve_cancel_and_expire_at_once_have_one_winner(case: Rig, payments_book: Path) -> None:
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
            "message": outcome(case.write(execution_id, "Forget it.")),
            "approve": outcome(case.decide(ADA, asked)),
            "expire": outcome(case.decisions.expire_due()),
            "cancel": outcome(case.store.cancel(OLGA, execution_id)) if first == 3 else outcome(asyncio.sleep(0)),
        }
        order = [*attempts][first:] + [*attempts][:first]
        met = dict(zip(order, await asyncio.gather(*(attempts[name] for name in order)), strict=True))
        state = await case.scalar("SELECT state FROM casework.approvals WHERE approval_id = :a", a=asked.approval_id)
        seen[state] += 1
        assert (met["approve"] == "won") is (state == ApprovalState.APPROVED), met
        assert met["approve"] in TRUTHS
        assert met["message"] == "won" or (first == 3 and met["message"] == ExecutionOver.__name__), met
        for _ in range(3):
            await case.execute("UPDATE casework.executions SET wake_at = now()")
            await case.advance(execution_id)
        ended = await case.get(execution_id)
        assert await broken(case.resources.engine, payments_book) == []
        if ended.status is not Status.CANCELLED:
            assert ended.status in (Status.WAITING, Status.ESCALATED)
            assert (ended.messages, ended.messages_read) == (1, 1 if ended.status is Status.WAITING else 0)
    assert ApprovalState.SUPERSEDED in seen
    assert len(seen) > 1, seen


async def test_of_many_messages_and_decisions_at_once_every_message_is_read_and_one_truth_told(
    case: Rig, payments_book: Path
) -> None:
    for _ in range(4):
        asked = await asking(case)
        writes = [outcome(case.write(asked.execution_id, f"Message of {n}")) for n in range(SENDERS)]
        decides = [outcome(case.decide(ADA, asked)) for _ in range(SENDERS)]
        met = await asyncio.gather(*(attempt for pair in zip(writes, decides, strict=True) for attempt in pair))
        assert set(met[::2]) == {"won"}
        assert set(met[1::2]) in ({"won"}, {ApprovalSuperseded.__name__})
        assert await case.advance(asked.execution_id) is Status.WAITING  # the letter asks
        ended = await case.get(asked.execution_id)
        assert (ended.messages, ended.messages_read) == (SENDERS, SENDERS)
        sent = await case.scalar("SELECT count(*) FROM casework.effects WHERE execution_id = :e", e=asked.execution_id)
        assert sent == (1 if met[1] == "won" else 0)
        assert await broken(case.resources.engine, payments_book) == []


async def test_messages_while_workers_run_and_end_the_case_are_all_read_once(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    """Whatever moment a message comes in at: before the claim, in a turn, at the end, or after it."""
    turns = [turn for _ in range(SENDERS + 1) for turn in ([LOOK], [REPLY], "Done.")]
    async with rig(settings, database_url, scripted(*turns)) as case:
        execution_id = await case.start("T-1042")

        async def work(owner: str) -> None:
            runner = case.runner(owner)
            while (await case.get(execution_id)).status not in OVER or not sent.is_set():
                await runner.advance(execution_id)

        async def write() -> None:
            for n in range(SENDERS):
                await case.write(execution_id, f"Number {n + 1}")
                before = await case.scalar("SELECT event_seq FROM casework.executions")
                async with asyncio.timeout(20):  # some way on, at another moment each time
                    while await case.scalar("SELECT event_seq FROM casework.executions") < before + n:
                        if (await case.get(execution_id)).status in OVER:
                            break
            sent.set()

        sent = asyncio.Event()
        await asyncio.gather(work("a"), work("b"), write())
        ended = await case.get(execution_id)
        assert (ended.status, ended.messages, ended.messages_read) == (Status.SUCCEEDED, SENDERS, SENDERS)
        said = [m.text for m in await case.messages(execution_id) if m.type == "human" and "Number" in m.text]
        assert [int(text.split("Number ")[1].split()[0]) for text in said] == list(range(1, SENDERS + 1))
        assert await broken(case.resources.engine, payments_book) == []


async def test_one_key_sent_by_many_at_once_is_one_message(case: Rig) -> None:
    execution_id = await case.start("T-1042", Mode.COPILOT)
    answers = await asyncio.gather(*(case.posted.add(OLGA, execution_id, "Hello?", "k1") for _ in range(20)))
    assert Counter(new for _, _, new in answers) == {True: 1, False: 19}
    assert {message.number for message, _, _ in answers} == {1}
    assert (await case.get(execution_id)).messages == 1


async def test_a_message_after_the_deadline_leaves_the_question_to_it(case: Rig, payments_book: Path) -> None:
    """Both close the question; the later one finds it closed."""
    asked = await asking(case)
    await case.execute("UPDATE casework.approvals SET expires_at = now() - :past", past=timedelta(seconds=1))
    assert await outcome(case.decide(ADA, asked)) == ApprovalExpired.__name__
    assert await outcome(case.write(asked.execution_id, "Hello?")) == "won"
    assert await case.scalar("SELECT state FROM casework.approvals") == "expired"
    assert await case.advance(asked.execution_id) is Status.ESCALATED
    assert await broken(case.resources.engine, payments_book) == []
