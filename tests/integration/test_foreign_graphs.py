"""Graphs that were not built by our assembly: run durably all the same, and their questions put to people."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from langchain_core.messages import convert_to_openai_messages
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from bench.neutral_graph import ANSWER, INPUT, QUESTION, TOOL_RESULT
from casework.approval import Approval, ApprovalState
from casework.decisions import Decisions
from casework.errors import InputInvalid
from casework.execution import Mode, Status
from casework.legs import Legs
from casework.messages import Messages
from casework.resources import open_resources
from casework.settings import Settings
from casework.store import Store
from graphs.catalog import Catalog
from graphs.deciding import Deciding
from graphs.intake import open_case
from tests.foreign.questions import DATE_SCHEMA, Choice
from tests.rig import ADA, OLGA, NoQueue, Rig

GRAPHS = {
    "plain": "bench.neutral_graph:plain_builder",
    "delta": "bench.neutral_graph:delta_builder",
    "asking": "bench.neutral_graph:approval_builder",
    "json_schema": "tests.foreign.questions:json_schema_builder",
    "model": "tests.foreign.questions:model_builder",
}
CONVERSATION = [
    INPUT["messages"][0],
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "id": "call_1042", "function": {"name": "lookup", "arguments": '{"order": "1042"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "call_1042", "content": TOOL_RESULT % "1042"},
    {"role": "assistant", "content": ANSWER.format(order="1042")},
]


@asynccontextmanager
async def foreign(settings: Settings, database_url: str, folder: Path) -> AsyncIterator[Rig]:
    """A rig over somebody else's langgraph.json."""
    config = folder / "langgraph.json"
    config.write_text(json.dumps({"dependencies": ["."], "graphs": GRAPHS}))
    catalog, queue = Catalog.load(config), NoQueue()
    async with open_resources(settings, database_url) as resources:
        store, decisions = Store(resources.engine, resources.pool, queue), Decisions(resources.engine, queue)
        deciding = Deciding(decisions, store, catalog, resources, {})
        posted, legs = Messages(resources.engine, queue), Legs(resources.engine, resources.pool, queue)
        yield Rig(resources, queue, store, legs, decisions, deciding, posted, catalog, {})


async def begin(case: Rig, workflow: str, input_: Mapping[str, Any]) -> UUID:
    entry = case.catalog.get(workflow)
    opened = await open_case(entry, case.resources, input_)
    execution, _ = await case.store.create(OLGA, workflow, entry.version, Mode.COPILOT, opened)
    return execution.execution_id


async def asked(case: Rig, workflow: str, input_: Mapping[str, Any]) -> tuple[UUID, Approval]:
    """Run to the graph's question."""
    execution_id = await begin(case, workflow, input_)
    assert await case.advance(execution_id) is Status.WAITING
    (approval,) = await case.pending(execution_id)
    return execution_id, approval


async def final_messages(case: Rig, workflow: str, execution_id: UUID) -> list[Any]:
    """The conversation in the last checkpoint, in OpenAI's shape."""
    entry = case.catalog.get(workflow)
    saver = AsyncPostgresSaver(case.resources.pool, serde=entry.serializer)
    graph = entry.compiled.copy({"checkpointer": saver})
    snapshot = await graph.aget_state({"configurable": {"thread_id": str(execution_id)}})
    return list(convert_to_openai_messages(snapshot.values["messages"]))


@pytest.mark.parametrize("workflow", ["plain", "delta"])
async def test_a_foreign_graph_runs_to_its_end_and_every_step_is_in_postgres(
    workflow: str, settings: Settings, database_url: str, tmp_path: Path
) -> None:
    async with foreign(settings, database_url, tmp_path) as case:
        execution_id = await begin(case, workflow, INPUT)
        assert await case.advance(execution_id) is Status.SUCCEEDED

        execution = await case.get(execution_id)
        assert execution.result is not None
        result = {name: value for name, value in execution.result.items() if name != "messages"}
        assert result == {
            "specialist": "billing",
            "tool_calls_made": 1,
            "case": {"opened_by": "router", "closed_by": "billing"},
            "answer": ANSWER.format(order="1042"),
        }
        assert [m["type"] for m in execution.result["messages"]] == ["human", "ai", "tool", "ai"]
        assert await final_messages(case, workflow, execution_id) == CONVERSATION
        supersteps = await case.scalar("SELECT count(*) FROM checkpoints WHERE thread_id = :t", t=str(execution_id))
        assert supersteps == 7  # the input as it came, the input taken in, and five steps
        story = [event.type for event in await case.events(execution_id)]
        assert story == ["execution.created", "run.started", "run.finished"]


async def test_its_interrupt_becomes_a_question_that_a_person_answers(
    settings: Settings, database_url: str, tmp_path: Path
) -> None:
    async with foreign(settings, database_url, tmp_path) as case:
        execution_id, approval = await asked(case, "asking", INPUT)
        question = {"question": QUESTION, "tool": "lookup", "args": {"order": "1042"}}
        assert approval.model_dump(exclude={"approval_id", "digest", "expires_at", "created_at", "description"}) == {
            "execution_id": execution_id,
            "kind": "call",
            "doubt": None,
            "workflow": "asking",
            "tenant": "default",
            "requester": "olga",
            "tool": None,
            "tool_call_id": None,
            "args": {"question": question},
            "reasons": ["the graph asks"],
            "roles": ["approver"],
            "money": {},
            "good_for": None,
            "votes_needed": 1,
            "votes": [],
            "allowed": ["respond"],
            "response_schema": None,
            "specialist": None,
            "thought": "",
            "edited_by": None,
            "state": "pending",
            "decision": None,
            "decided_by": None,
            "decided_at": None,
        }
        for kind in ({"type_": "approve"}, {"type_": "edit", "args": {}}, {"type_": "reject", "reason": "no"}):
            with pytest.raises(InputInvalid):
                await case.decide(ADA, approval, **kind)
        assert await case.pending(execution_id) == [approval]

        await case.decide(ADA, approval, "respond", message=True)
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert await final_messages(case, "asking", execution_id) == CONVERSATION
        execution = await case.get(execution_id)
        assert execution.result is not None
        assert execution.result["approved"] is True


@pytest.mark.parametrize("falsy", [False, None, 0, "", {}, []])
async def test_an_answer_that_is_false_or_empty_is_an_answer(
    falsy: Any, settings: Settings, database_url: str, tmp_path: Path
) -> None:
    async with foreign(settings, database_url, tmp_path) as case:
        execution_id, approval = await asked(case, "asking", INPUT)
        await case.decide(ADA, approval, "respond", message=falsy)
        assert await case.advance(execution_id) is Status.SUCCEEDED
        execution = await case.get(execution_id)
        assert execution.result is not None
        assert execution.result["approved"] is False


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ("tomorrow", "message"),
        ({}, "message"),
        ({"date": "tomorrow"}, "message.date"),
        ({"date": "2026-11-24", "and": "more"}, "message"),
        (None, "message"),
    ],
)
async def test_an_answer_that_breaks_a_plain_json_schema_changes_nothing(
    wrong: Any, field: str, settings: Settings, database_url: str, tmp_path: Path
) -> None:
    async with foreign(settings, database_url, tmp_path) as case:
        execution_id, approval = await asked(case, "json_schema", {"parcel": "P-7"})
        assert approval.response_schema == DATE_SCHEMA
        before = await _everything(case, execution_id)
        with pytest.raises(InputInvalid) as refused:
            await case.decide(ADA, approval, "respond", message=wrong)
        assert refused.value.field == field
        assert await _everything(case, execution_id) == before

        await case.decide(ADA, approval, "respond", message={"date": "2026-11-24"})
        assert await case.advance(execution_id) is Status.SUCCEEDED
        execution = await case.get(execution_id)
        assert execution.result == {"parcel": "P-7", "note": "P-7 on 2026-11-24"}


async def test_a_pydantic_model_is_published_as_its_schema_and_the_node_gets_the_model(
    settings: Settings, database_url: str, tmp_path: Path
) -> None:
    async with foreign(settings, database_url, tmp_path) as case:
        execution_id, approval = await asked(case, "model", {"parcel": "P-7"})
        assert approval.response_schema == Choice.model_json_schema()
        assert approval.description == "How shall P-7 go on?"
        before = await _everything(case, execution_id)
        with pytest.raises(InputInvalid) as refused:
            await case.decide(ADA, approval, "respond", message={"carrier": "UPS", "insured_minor": 100})
        assert refused.value.field == "message.carrier"
        with pytest.raises(InputInvalid) as refused:
            await case.decide(ADA, approval, "respond", message={"carrier": "DHL", "insured_minor": -1})
        assert refused.value.field == "message.insured_minor"
        assert await _everything(case, execution_id) == before

        await case.decide(ADA, approval, "respond", message={"carrier": "DHL", "insured_minor": 100})
        assert await case.advance(execution_id) is Status.SUCCEEDED
        execution = await case.get(execution_id)
        assert execution.result == {"parcel": "P-7", "choice": {"carrier": "DHL", "insured_minor": 100}}


async def test_an_answer_is_taken_once(settings: Settings, database_url: str, tmp_path: Path) -> None:
    async with foreign(settings, database_url, tmp_path) as case:
        execution_id, approval = await asked(case, "json_schema", {"parcel": "P-7"})
        await case.decide(ADA, approval, "respond", message={"date": "2026-11-24"})
        assert await case.advance(execution_id) is Status.SUCCEEDED
        settled = await case.decisions.get("default", approval.approval_id)
        assert settled.state is ApprovalState.RESPONDED
        assert await case.advance(execution_id) is None  # a late wake-up finds nothing to do
        assert await case.decisions.get("default", approval.approval_id) == settled


async def _everything(case: Rig, execution_id: UUID) -> Any:
    """All that is written about an execution."""
    checkpoints = await case.scalar("SELECT count(*) FROM checkpoints WHERE thread_id = :t", t=str(execution_id))
    audited = await case.scalar("SELECT count(*) FROM casework.audit")
    approvals = await case.decisions.page("default", limit=100, execution_id=execution_id)
    return await case.get(execution_id), await case.events(execution_id), approvals, checkpoints, audited
