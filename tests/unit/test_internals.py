"""Pins what we use of LangGraph that it does not promise to keep. Red after an upgrade: read graphs/internals.py."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.errors import UnknownInterruptError
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from graphs.internals import STRICT_RESUME, strict_serializer
from tests.conftest import ROOT


class Named(BaseModel):
    """A class that the state names."""

    n: int


class Stranger(BaseModel):
    """A class that it does not."""

    n: int


class Asked(TypedDict, total=False):
    answers: list[str]
    named: Named


async def ask(state: Any) -> dict[str, Any]:
    return {"answers": [*state.get("answers", []), interrupt("first?")]}


async def ask_again(state: Any) -> dict[str, Any]:
    return {"answers": [*state.get("answers", []), interrupt("second?")]}


def asking() -> StateGraph[Any]:
    graph: StateGraph[Any] = StateGraph(Asked)
    graph.add_node("ask", ask)
    graph.add_node("ask_again", ask_again)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "ask_again")
    graph.add_edge("ask_again", END)
    return graph


async def asked_for_the_second_time(saver: InMemorySaver, **configurable: Any) -> tuple[Any, Any, str]:
    """A graph that waits at its second question, its config, and the id of the first one."""
    graph = asking().compile(checkpointer=saver)
    config = {"configurable": {"thread_id": "t", **configurable}}
    first = (await graph.ainvoke({"answers": []}, config))["__interrupt__"][0]
    await graph.ainvoke(Command(resume={first.id: "yes"}), config)
    return graph, config, first.id


async def test_strict_resume_refuses_an_answer_to_a_question_that_is_not_asked() -> None:
    graph, config, old = await asked_for_the_second_time(InMemorySaver(), **STRICT_RESUME)
    for unknown in (old, "0" * 32):
        with pytest.raises(UnknownInterruptError):
            await graph.ainvoke(Command(resume={unknown: "yes"}), config)
    snapshot = await graph.aget_state(config)
    assert (snapshot.next, snapshot.values["answers"]) == (("ask_again",), ["yes"])
    second = snapshot.interrupts[0]
    assert (await graph.ainvoke(Command(resume={second.id: "no"}), config))["answers"] == ["yes", "no"]


async def test_without_strict_resume_such_an_answer_passes_in_silence() -> None:
    """The control: this is why STRICT_RESUME is in every run's config."""
    graph, config, old = await asked_for_the_second_time(InMemorySaver())
    result = await graph.ainvoke(Command(resume={old: "yes"}), config)
    assert [question.value for question in result["__interrupt__"]] == ["second?"]


async def test_a_bare_answer_would_answer_whatever_is_asked() -> None:
    """The control for answering by id."""
    graph, config, _ = await asked_for_the_second_time(InMemorySaver(), **STRICT_RESUME)
    assert (await graph.ainvoke(Command(resume="yes"), config))["answers"] == ["yes", "yes"]


def test_a_runs_serializer_reads_the_classes_its_state_names_and_no_others() -> None:
    strict = strict_serializer(asking().compile())
    written = JsonPlusSerializer().dumps_typed({"named": Named(n=1), "stranger": Stranger(n=2)})
    assert strict.loads_typed(written) == {"named": Named(n=1), "stranger": {"n": 2}}
    permissive = JsonPlusSerializer(allowed_msgpack_modules=True)
    assert permissive.loads_typed(written) == {"named": Named(n=1), "stranger": Stranger(n=2)}  # the control


def test_a_runs_serializer_never_unpickles() -> None:
    strict = strict_serializer(asking().compile())
    assert strict.pickle_fallback is False
    with pytest.raises(TypeError):
        strict.dumps_typed({"f": lambda: None})


def test_without_strict_reading_no_workflow_is_loaded() -> None:
    """The control of tests/unit/test_packages.py: somebody switched it off, or imported LangGraph before us."""
    program = "from graphs.catalog import Catalog; from pathlib import Path; Catalog.load(Path('langgraph.json'))"
    lax = os.environ | {"LANGGRAPH_STRICT_MSGPACK": "false"}
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=lax, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith("casework.errors.SettingsInvalid: set LANGGRAPH_STRICT_MSGPACK=true")
