"""A run that breaks around a message: nothing of it is lost, and nothing is read twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from langchain_core.messages import BaseMessage

from casework.execution import Mode, Status
from casework.faults import arm
from casework.settings import Settings
from graphs.assembly import assemble
from graphs.catalog import Catalog
from graphs.support import support
from nodes.followups import is_followup
from nodes.offline import OfflineRules, Reply
from tests.meanwhile import DEAR, LOOK, REFUND, REPLY, Meanwhile, kinds, late, read, while_looking
from tests.rig import ADA, OLGA, Rig, rig, scripted
from tests.soundness import broken

TURNS = ([REFUND, REPLY], "Paid it back.", [REPLY], "Answered.")
CHILDREN = """SELECT max(n) FROM (SELECT count(*) n FROM checkpoints WHERE thread_id = :t
              GROUP BY checkpoint_ns, parent_checkpoint_id) x"""


@pytest.fixture(autouse=True)
def nothing_armed() -> Iterator[None]:
    yield
    arm({})


def break_at(point: str) -> None:
    arm({"CASEWORK_FAULTS": point.replace("@", "=raise@"), "CASEWORK_ALLOW_FAULTS": "1"})


async def advance_past_the_break(case: Rig, execution_id: UUID) -> Status | None:
    """Until it rests: a try that broke is tried again at once."""
    for _ in range(4):
        await case.execute("UPDATE casework.executions SET wake_at = now()")
        status = await case.advance(execution_id)
        if status is not Status.QUEUED:
            return status
    raise AssertionError("it does not come to rest")


async def heard(case: Rig, execution_id: UUID) -> list[str | None]:
    """Ids of the further messages in the conversation."""
    return [m.id for m in await case.messages(execution_id) if is_followup(m)]


POINTS = (
    "after_claim@1",
    "before_graph@1",
    "after_reading@1",
    *(f"{point}@{n}" for point in ("before_writes", "after_writes") for n in (1, 2, 4)),
    *(f"{point}@{n}" for point in ("before_checkpoint", "after_checkpoint") for n in (1, 2, 3, 5)),
    "before_finish@1",
)


@pytest.mark.parametrize("point", POINTS)
async def test_a_run_that_opened_a_case_again_breaks_and_reads_the_message_once(
    settings: Settings, database_url: str, payments_book: Path, point: str
) -> None:
    async with rig(settings, database_url, scripted(*TURNS)) as case:
        execution_id = await case.start("T-1042")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        await case.write(execution_id, "When will I see it?")
        break_at(point)
        assert await advance_past_the_break(case, execution_id) is Status.SUCCEEDED
        assert ((await case.get(execution_id)).result or {})["answer"] == "Answered."
        assert [e.data["attempt"] for e in await case.events(execution_id, "run.started")] == [1, 1, 2]
        assert await kinds(case, execution_id) == ["start", "message", "message"]
        assert await read(case, execution_id) == [(1, "router")]
        assert await heard(case, execution_id) == ["message_1"]
        assert len(await case.events(execution_id, "case.routed")) == 2  # the entrance is passed once a leg
        assert await case.scalar(CHILDREN, t=str(execution_id)) == 1
        assert await broken(case.resources.engine, payments_book) == []


@pytest.mark.parametrize("point", ["after_claim@1", "after_reading@1", "before_writes@2", "after_checkpoint@1"])
async def test_a_run_that_was_overtaken_by_a_message_breaks_and_reads_it_once(
    settings: Settings, database_url: str, payments_book: Path, point: str
) -> None:
    async with rig(settings, database_url, scripted([DEAR], [REPLY], "Answered.")) as case:
        execution_id = await case.start("T-1013")
        assert await case.advance(execution_id) is Status.WAITING
        await case.write(execution_id, "Forget it.")
        break_at(point)
        assert await advance_past_the_break(case, execution_id) is Status.SUCCEEDED
        assert await heard(case, execution_id) == ["message_1"]
        assert await read(case, execution_id) == [(1, "billing")]
        assert len(await case.events(execution_id, "call.answered")) == 1
        assert await broken(case.resources.engine, payments_book) == []


async def test_a_model_that_breaks_off_after_a_message_was_read_reads_it_once(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    async with rig(settings, database_url, once_broken(scripted([DEAR], [REPLY], "Answered."))) as case:
        execution_id = await case.start("T-1013")
        await case.advance(execution_id)
        await case.write(execution_id, "Forget it.")
        assert await advance_past_the_break(case, execution_id) is Status.SUCCEEDED
        assert await read(case, execution_id) == [(1, "billing")]
        assert await broken(case.resources.engine, payments_book) == []


def once_broken(then: OfflineRules) -> OfflineRules:
    """A model that breaks off when it first sees a further message."""
    left = [1]

    def rules(role: str, messages: Sequence[BaseMessage], tools: frozenset[str]) -> Reply:
        if left[0] and any(is_followup(m) for m in messages):
            left[0] -= 1
            raise ConnectionError("the model went away")
        return then(role, messages, tools)

    return rules


async def test_a_second_message_while_a_run_that_ended_its_case_is_tried_again(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    """The leg is fed its input once more, and has taken it already: the second message gets a leg of its own."""
    turns = (*TURNS, [REPLY], "Answered again.")
    async with rig(settings, database_url, scripted(*turns)) as case:
        execution_id = await case.start("T-1042")
        await case.advance(execution_id)
        await case.write(execution_id, "When will I see it?")
        break_at("before_finish@1")
        assert await case.advance(execution_id) is Status.QUEUED
        await case.write(execution_id, "And the letter?")
        assert await advance_past_the_break(case, execution_id) is Status.SUCCEEDED
        assert ((await case.get(execution_id)).result or {})["answer"] == "Answered again."
        assert await read(case, execution_id) == [(1, "router"), (2, "router")]
        assert [e.data["attempt"] for e in await case.events(execution_id, "run.started")] == [1, 1, 2, 1]
        assert await case.scalar(CHILDREN, t=str(execution_id)) == 1
        assert await broken(case.resources.engine, payments_book) == []


async def test_a_message_while_the_first_run_that_ended_its_case_is_tried_again(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    async with rig(settings, database_url, scripted(*TURNS)) as case:
        execution_id = await case.start("T-1042")
        break_at("before_finish@1")
        assert await case.advance(execution_id) is Status.QUEUED
        await case.write(execution_id, "When will I see it?")
        assert await advance_past_the_break(case, execution_id) is Status.SUCCEEDED
        assert await read(case, execution_id) == [(1, "router")]
        assert await broken(case.resources.engine, payments_book) == []


async def test_a_drained_run_leaves_its_message_to_the_next_worker(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    meanwhile = Meanwhile()
    rules = scripted([REPLY], "Done.", [LOOK], [REPLY], "Done.")
    async with rig(settings, database_url, rules, while_looking(meanwhile)) as case:
        execution_id = await case.start("T-1042")
        await case.advance(execution_id)
        await case.write(execution_id, "And now?")
        stopping = case.runner("stopping")

        async def drain() -> None:
            stopping.drain()

        meanwhile.deed = drain
        assert await stopping.advance(execution_id) is Status.QUEUED
        assert await case.runner("next").advance(execution_id) is Status.SUCCEEDED
        assert await kinds(case, execution_id) == ["start", "message", "message"]
        assert await read(case, execution_id) == [(1, "router")]
        assert await broken(case.resources.engine, payments_book) == []


async def test_a_poison_message_fails_its_execution_after_its_attempts(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted(*TURNS)) as case:
        execution_id = await case.start("T-1042")
        await case.advance(execution_id)
        await case.write(execution_id, "When will I see it?")
        await case.execute("UPDATE casework.executions SET workflow = 'gone'")
        for _ in range(settings.max_attempts):
            await case.advance(execution_id)
            await case.execute("UPDATE casework.executions SET wake_at = now()")
        ended = await case.get(execution_id)
        assert (ended.status, ended.messages, ended.messages_read) == (Status.FAILED, 1, 0)
        assert await kinds(case, execution_id) == ["start", *["message"] * settings.max_attempts]


async def test_a_cancel_while_a_message_waits_ends_the_case(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    async with rig(settings, database_url, scripted(*TURNS)) as case:
        execution_id = await case.start("T-1042")
        await case.advance(execution_id)
        await case.write(execution_id, "When will I see it?")
        assert (await case.store.cancel(OLGA, execution_id)).status is Status.CANCELLED
        assert await case.advance(execution_id) is None
        assert await broken(case.resources.engine, payments_book) == []


async def test_a_cancel_and_a_message_that_both_come_in_at_the_end_do_not_open_the_case_again(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    async with rig(settings, database_url, scripted(*TURNS)) as case:
        execution_id = await case.start("T-1042")

        async def both() -> None:
            await case.write(execution_id, "Wait!")
            await case.store.cancel(OLGA, execution_id)

        assert await late(case, both).advance(execution_id) is Status.CANCELLED
        assert await broken(case.resources.engine, payments_book) == []


async def test_a_paused_node_that_is_gone_keeps_the_message_until_its_version_is_back(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    async with rig(settings, database_url, scripted([REFUND], [REPLY], "Done.")) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        await case.advance(execution_id)
        await case.write(execution_id, "Forget it.")
        builder = assemble(replace(support, offline=scripted("Done.")))
        builder.nodes["carry_out_call"] = builder.nodes.pop("handle_call")
        builder.branches["carry_out_call"] = builder.branches.pop("handle_call")
        for branch in builder.branches["check_calls"].values():
            assert branch.ends is not None
            branch.ends.pop("handle_call", None)
        now, case.catalog = case.catalog, Catalog.of({"support": builder})
        assert await case.advance(execution_id) is Status.WAITING
        assert "no such node" in ((await case.get(execution_id)).error or "")
        assert await case.write(execution_id, "Hello?") is Status.WAITING  # nothing else could be done with it
        case.catalog = now
        assert await case.legs.reopen({now.get("support").version}) == [execution_id]
        assert await case.advance(execution_id) is Status.WAITING
        assert await read(case, execution_id) == [(1, "billing"), (2, "billing")]
        (letter,) = await case.pending(execution_id)
        await case.decide(ADA, letter)
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert await broken(case.resources.engine, payments_book) == []


async def test_a_case_whose_last_try_finds_no_model_takes_the_message_to_its_person(
    settings: Settings, database_url: str
) -> None:
    def rules(role: str, messages: Sequence[BaseMessage], tools: frozenset[str]) -> Reply:
        if any(is_followup(m) for m in messages):
            raise ConnectionError("the model went away")
        return scripted([DEAR])(role, messages, tools)

    async with rig(settings.model_copy(update={"max_attempts": 1}), database_url, rules) as case:
        execution_id = await case.start("T-1013")
        await case.advance(execution_id)
        await case.write(execution_id, "Forget it.")
        assert await case.advance(execution_id) is Status.ESCALATED
        assert await heard(case, execution_id) == ["message_1"]
        assert await read(case, execution_id) == [(1, "billing")]
