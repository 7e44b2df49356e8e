"""The fenced saver: LangGraph's own format, a fence in every write, and the run's story in the same statement."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import ormsgpack
import psycopg
import pytest
import pytest_asyncio
from langchain_core.messages import AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.conformance import validate
from langgraph.checkpoint.conformance.initializer import RegisteredCheckpointer
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import INTERRUPT
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import _messages_delta_reducer
from langgraph.graph.state import CompiledStateGraph
from sqlalchemy import func, insert, select, text
from typing_extensions import TypedDict

from casework.errors import LostLease
from casework.execution import Mode, Status
from casework.journal import Journal, NewEvent, write_events
from casework.resources import Resources, open_resources
from casework.settings import Settings
from casework.tables import events, executions
from graphs.internals import strict_serializer
from graphs.saver import FencedSaver

FENCE = 7
SNAPSHOT_EVERY = 100
SHAPES = {
    "checkpoints": "checkpoint_ns, checkpoint->'channel_values', metadata->'step', parent_checkpoint_id IS NULL",
    "checkpoint_blobs": "checkpoint_ns, channel, type, blob",
    "checkpoint_writes": "checkpoint_ns, task_path, idx, channel, type, blob",
}


class Talk(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], DeltaChannel(_messages_delta_reducer, snapshot_frequency=SNAPSHOT_EVERY)]
    until: int
    notes: dict[str, Any]


async def say_one_more(state: Any) -> dict[str, Any]:
    number = len(state["messages"])
    return {"messages": [HumanMessage(f"m{number}", id=f"id{number}")], "notes": {"said": number}}


async def until_enough(state: Any) -> str:
    return END if len(state["messages"]) >= state["until"] else "say"


def talking(saver: BaseCheckpointSaver[str]) -> CompiledStateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any] = StateGraph(Talk)
    graph.add_node("say", say_one_more)
    graph.add_edge(START, "say")
    graph.add_conditional_edges("say", until_enough, ["say", END])
    return graph.compile(checkpointer=saver)


@pytest_asyncio.fixture
async def resources(settings: Settings, database_url: str) -> AsyncIterator[Resources]:
    async with open_resources(settings, database_url) as opened:
        yield opened


async def running(resources: Resources) -> UUID:
    """An execution that a worker owns under FENCE."""
    execution_id = uuid4()
    async with resources.engine.begin() as db:
        await db.execute(
            insert(executions).values(
                execution_id=execution_id,
                workflow="talk",
                graph_version="v1",
                tenant="default",
                requester="olga",
                status=Status.RUNNING,
                mode=Mode.COPILOT,
                input={},
                fence=FENCE,
            )
        )
    return execution_id


def config_of(execution_id: UUID) -> RunnableConfig:
    return {"configurable": {"thread_id": str(execution_id), "checkpoint_ns": ""}, "recursion_limit": 500}


async def story(resources: Resources, execution_id: UUID) -> list[tuple[int, str, dict[str, Any]]]:
    query = select(events.c.seq, events.c.type, events.c.data).where(events.c.execution_id == execution_id)
    async with resources.engine.connect() as db:
        return [(row.seq, row.type, row.data) for row in await db.execute(query.order_by(events.c.seq))]


async def shapes(resources: Resources, execution_id: UUID, table: str) -> list[str]:
    """A table's rows without ids and times."""
    query = text(f"SELECT {SHAPES[table]} FROM {table} WHERE thread_id = :t")
    async with resources.engine.connect() as db:
        return sorted(map(repr, await db.execute(query, {"t": str(execution_id)})))


async def row_counts(resources: Resources) -> dict[str, int]:
    tables = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "casework.events")
    async with resources.engine.connect() as db:
        return {t: (await db.execute(text(f"SELECT count(*) FROM {t}"))).scalar_one() for t in tables}


async def test_it_passes_the_conformance_suite_as_the_stock_saver_does(resources: Resources) -> None:
    async def fenced() -> AsyncIterator[BaseCheckpointSaver[str]]:
        yield FencedSaver(resources.pool, await running(resources), FENCE, Journal())

    async def stock() -> AsyncIterator[BaseCheckpointSaver[str]]:
        yield AsyncPostgresSaver(resources.pool)

    report = await validate(RegisteredCheckpointer("fenced", fenced))  # type: ignore[arg-type]
    expected = await validate(RegisteredCheckpointer("stock", stock))  # type: ignore[arg-type]
    assert report.passed_all_base(), [r.failures for r in report.results.values()]
    assert report.results == expected.results


@pytest.mark.parametrize(("first", "then"), [("fenced", "stock"), ("stock", "fenced")])
async def test_long_delta_conversations_are_readable_whoever_wrote_them(
    first: str, then: str, resources: Resources
) -> None:
    execution_id = await running(resources)
    savers = {
        "fenced": FencedSaver(resources.pool, execution_id, FENCE, Journal()),
        "stock": AsyncPostgresSaver(resources.pool),
    }
    config = config_of(execution_id)
    await talking(savers[first]).ainvoke({"until": 130}, config, durability="sync")
    await talking(savers[then]).ainvoke({"until": 250}, config, durability="sync")

    async with resources.engine.connect() as db:
        snapshots = await db.scalar(text("SELECT count(*) FROM checkpoint_blobs WHERE channel = 'messages'"))
    assert snapshots == 2
    expected = [(f"id{n}", f"m{n}") for n in range(250)]
    for saver in savers.values():
        graph = talking(saver)
        values = (await graph.aget_state(config)).values
        assert [(m.id, m.content) for m in values["messages"]] == expected
        assert (values["until"], values["notes"]) == (250, {"said": 249})
        lengths = [len(s.values.get("messages", [])) async for s in graph.aget_state_history(config)]
        assert sorted(set(lengths)) == list(range(251))  # every step of the way, snapshot or not


async def test_both_savers_leave_the_same_rows(resources: Resources) -> None:
    """Except for ids and times: so every reader of LangGraph's tables reads ours."""
    kept = []
    for kind in ("fenced", "stock"):
        execution_id = await running(resources)
        fenced = FencedSaver(resources.pool, execution_id, FENCE, Journal())
        saver = fenced if kind == "fenced" else AsyncPostgresSaver(resources.pool)
        await talking(saver).ainvoke({"until": 3}, config_of(execution_id), durability="sync")
        kept.append({table: await shapes(resources, execution_id, table) for table in SHAPES})
    assert kept[0] == kept[1]


@pytest.mark.parametrize("stale", [False, True])
async def test_a_write_under_a_stale_fence_leaves_no_row_of_any_kind(stale: bool, resources: Resources) -> None:
    execution_id = await running(resources)
    before = await row_counts(resources)
    journal = Journal()
    saver = FencedSaver(resources.pool, execution_id, FENCE - stale, journal)
    checkpoint = {**empty_checkpoint(), "channel_values": {"notes": {"n": 1}}, "channel_versions": {"notes": "1"}}

    async def put() -> None:
        await saver.aput(config_of(execution_id), checkpoint, {"step": 0}, {"notes": "1"})  # type: ignore[arg-type]

    async def put_writes() -> None:
        config = config_of(execution_id)
        config["configurable"]["checkpoint_id"] = checkpoint["id"]
        await saver.aput_writes(config, [("notes", {"n": 2})], "task")
        await saver.flush()

    for write in (put, put_writes):
        journal.note("noted")
        if not stale:
            await write()
            continue
        with pytest.raises(LostLease, match="fence 6 is not its fence any more"):
            await write()
    if stale:
        assert await row_counts(resources) == before
    else:
        grown = {t: n - before[t] for t, n in (await row_counts(resources)).items()}
        assert grown == {"checkpoints": 1, "checkpoint_blobs": 1, "checkpoint_writes": 1, "casework.events": 2}


async def test_writes_go_with_the_checkpoint_that_follows_or_alone_when_none_does(resources: Resources) -> None:
    execution_id = await running(resources)
    journal = Journal()
    saver = FencedSaver(resources.pool, execution_id, FENCE, journal)
    config = config_of(execution_id)
    checkpoint = empty_checkpoint()
    config["configurable"]["checkpoint_id"] = checkpoint["id"]

    async def saved() -> tuple[int, int, int]:
        rows = await row_counts(resources)
        return rows["checkpoint_writes"], rows["checkpoints"], rows["casework.events"]

    journal.note("said")
    await saver.aput_writes(config, [("notes", {"n": 1})], "task-1")
    assert await saved() == (0, 0, 0)
    await saver.aput(config_of(execution_id), checkpoint, {"step": 0}, {})
    assert await saved() == (1, 1, 1)

    journal.note("said")
    await saver.aput_writes(config, [("notes", {"n": 2})], "task-2")  # a sibling of it is still busy
    async with asyncio.timeout(60):
        while await saved() != (2, 1, 2):  # noqa: ASYNC110  # another connection's rows set no event
            await asyncio.sleep(0.01)

    await saver.aput_writes(config, [("notes", {"n": 3})], "task-3")
    await saver.aput_writes(config, [(INTERRUPT, [])], "task-4")  # no checkpoint follows
    assert await saved() == (4, 1, 2)


async def test_a_run_whose_fence_is_raised_on_the_way_writes_no_further_step(resources: Resources) -> None:
    execution_id = await running(resources)
    saver = FencedSaver(resources.pool, execution_id, FENCE, Journal())
    config = config_of(execution_id)

    async def lose_the_lease(state: Any) -> dict[str, Any]:
        async with resources.engine.begin() as db:
            await db.execute(executions.update().values(fence=FENCE + 1))
        return {"notes": {"said": "too late"}}

    graph: StateGraph[Any] = StateGraph(Talk)
    graph.add_node("say", say_one_more)
    graph.add_node("lose", lose_the_lease)
    graph.add_edge(START, "say")
    graph.add_edge("say", "lose")
    graph.add_edge("lose", END)
    with pytest.raises(LostLease):
        await graph.compile(checkpointer=saver).ainvoke({"until": 1}, config, durability="sync")
    snapshot = await graph.compile(checkpointer=saver).aget_state(config)
    assert (snapshot.next, snapshot.values["notes"]) == (("lose",), {"said": 0})


async def test_events_are_numbered_without_gap_or_repeat_under_twenty_writers(resources: Resources) -> None:
    """Task writes of one superstep, and effects in transactions of their own, all at once."""
    execution_id = await running(resources)
    journal = Journal()
    saver = FencedSaver(resources.pool, execution_id, FENCE, journal)
    config = config_of(execution_id)
    config["configurable"]["checkpoint_id"] = "1"

    async def task(number: int) -> None:
        for step in range(3):
            journal.note("task", number=number, step=step)
            await asyncio.sleep(0)
        await saver.aput_writes(config, [("notes", {"n": number})], f"task-{number}")
        await saver.flush()

    async def effect(number: int) -> None:
        async with resources.engine.begin() as db:
            await write_events(db, execution_id, [NewEvent("effect", {"number": number, "step": s}) for s in range(3)])

    await asyncio.gather(*(task(n) for n in range(20)), *(effect(n) for n in range(20)))
    told = await story(resources, execution_id)
    assert [seq for seq, _, _ in told] == list(range(1, 121))
    once = {(kind, data["number"], data["step"]) for _, kind, data in told}
    assert once == {(kind, n, s) for kind in ("task", "effect") for n in range(20) for s in range(3)}
    async with resources.engine.connect() as db:
        seq = await db.scalar(select(executions.c.event_seq).where(executions.c.execution_id == execution_id))
        assert seq == await db.scalar(select(func.count()).select_from(events))
    for n in range(20):  # each task's own events keep their order
        assert [data["step"] for _, kind, data in told if (kind, data["number"]) == ("task", n)] == [0, 1, 2]


async def test_events_of_a_write_that_failed_go_with_the_next_one(resources: Resources) -> None:
    execution_id = await running(resources)
    journal = Journal()
    saver = FencedSaver(resources.pool, execution_id, FENCE, journal)
    config = config_of(execution_id)
    config["configurable"]["checkpoint_id"] = "1"
    rename = "ALTER TABLE checkpoint_writes RENAME TO elsewhere"
    async with resources.engine.begin() as db:
        await db.execute(text(rename))
    journal.note("first")
    await saver.aput_writes(config, [("notes", {})], "task")
    with pytest.raises(psycopg.errors.UndefinedTable):
        await saver.flush()
    async with resources.engine.begin() as db:
        await db.execute(text("ALTER TABLE elsewhere RENAME TO checkpoint_writes"))
    journal.note("second")
    await saver.flush()
    assert await story(resources, execution_id) == [(1, "first", {}), (2, "second", {})]


@pytest.mark.parametrize("strict", [True, False])
async def test_a_tampered_row_that_names_a_function_is_not_run(
    strict: bool, resources: Resources, tmp_path: Path
) -> None:
    """The control is LangGraph's default reader, which runs it."""
    execution_id = await running(resources)
    config = config_of(execution_id)
    serializer = strict_serializer(talking(AsyncPostgresSaver(resources.pool)))
    writer = FencedSaver(resources.pool, execution_id, FENCE, Journal(), serializer)
    await talking(writer).ainvoke({"until": 1}, config, durability="sync")

    owned = tmp_path / "owned"
    call = ormsgpack.packb(("os", "system", f"touch {json.dumps(str(owned))}"))
    evil = ormsgpack.packb(ormsgpack.Ext(0, call))
    async with resources.engine.begin() as db:
        tampered = await db.execute(text("UPDATE checkpoint_blobs SET blob = :b WHERE channel = 'notes'"), {"b": evil})
        assert tampered.rowcount > 0

    default = JsonPlusSerializer(allowed_msgpack_modules=True)
    reader = FencedSaver(resources.pool, execution_id, FENCE, Journal(), serializer if strict else default)
    await talking(reader).aget_state(config)
    assert owned.exists() is not strict
