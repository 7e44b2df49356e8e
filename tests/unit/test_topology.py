"""The graph as it is drawn: every node and edge, written out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from langchain_core.runnables.graph import Graph

from casework.errors import GraphInvalid
from graphs.assembly import RESERVED, assemble
from graphs.support import builder, support

START, END = "__start__", "__end__"
SPECIALISTS = {"billing", "shipping", "general"}
NODES = {
    START,
    "screen_input",
    "router",
    "billing",
    "shipping",
    "general",
    "check_calls",
    "handle_call",
    "settle_call",
    "screen_output",
    "close",
    "escalate",
    END,
}
ALWAYS = {
    (START, "screen_input"),
    ("screen_input", "router"),
    ("screen_output", "close"),
    ("close", END),
    ("escalate", END),
}
CHOSEN = {
    ("router", "billing"),
    ("router", "shipping"),
    ("router", "general"),
    ("router", "escalate"),
    ("billing", "check_calls"),
    ("billing", "billing"),
    ("billing", "settle_call"),
    ("billing", "screen_output"),
    ("billing", "escalate"),
    ("shipping", "check_calls"),
    ("shipping", "shipping"),
    ("shipping", "settle_call"),
    ("shipping", "screen_output"),
    ("shipping", "escalate"),
    ("general", "check_calls"),
    ("general", "general"),
    ("general", "settle_call"),
    ("general", "screen_output"),
    ("general", "escalate"),
    ("check_calls", "handle_call"),
    ("check_calls", "router"),
    ("check_calls", "billing"),
    ("check_calls", "shipping"),
    ("check_calls", "general"),
    ("check_calls", "escalate"),
    ("handle_call", "billing"),
    ("handle_call", "shipping"),
    ("handle_call", "general"),
    ("settle_call", "billing"),
    ("settle_call", "shipping"),
    ("settle_call", "general"),
}


@pytest.fixture(scope="module")
def drawn() -> Graph:
    return builder.compile().get_graph()


def test_support_has_exactly_these_nodes_and_edges(drawn: Graph) -> None:
    assert set(drawn.nodes) == NODES
    assert {(e.source, e.target) for e in drawn.edges if not e.conditional} == ALWAYS
    assert {(e.source, e.target) for e in drawn.edges if e.conditional} == CHOSEN
    assert len(drawn.edges) == len(ALWAYS) + len(CHOSEN)


def test_every_node_can_be_reached_and_can_reach_the_end(drawn: Graph) -> None:
    forward = [(e.source, e.target) for e in drawn.edges]
    assert reached(START, forward) == NODES
    assert reached(END, [(target, source) for source, target in forward]) == NODES


def test_nothing_acts_without_check_calls(drawn: Graph) -> None:
    assert {e.source for e in drawn.edges if e.target == "handle_call"} == {"check_calls"}


def test_a_settled_call_leads_back_to_a_specialist_and_nowhere_else(drawn: Graph) -> None:
    assert {e.target for e in drawn.edges if e.source == "settle_call"} == SPECIALISTS


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_specialist_named_like_a_node_of_the_machinery_is_refused(name: str) -> None:
    named = replace(support.specialists[0], name=name)
    with pytest.raises(GraphInvalid, match=name):
        assemble(replace(support, specialists=(named, *support.specialists[1:])))


@pytest.mark.parametrize("name", [START, END, "", "two words", "a:b", "a|b"])
def test_a_specialist_whose_name_is_no_word_is_refused(name: str) -> None:
    named = replace(support.specialists[0], name=name)
    with pytest.raises(GraphInvalid, match="cannot name a specialist"):
        assemble(replace(support, specialists=(named, *support.specialists[1:])))


def test_the_names_of_the_machinery_are_the_reserved_ones() -> None:
    assert NODES - SPECIALISTS - {START, END} == RESERVED


def reached(start: str, edges: Iterable[tuple[str, str]]) -> set[str]:
    found, edges = {start}, list(edges)
    while more := {target for source, target in edges if source in found} - found:
        found |= more
    return found
