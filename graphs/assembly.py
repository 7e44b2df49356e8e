"""The graph every workflow shares. This file is the diagram: nodes say what, the edge functions here say where.

START → screen_input → router → <specialist> → check_calls ─ Send per call → handle_call ─┐
                         ▲          ▲  ▲──────────────┤ (all refused)                     │
                         │          └─────────────────┼───────────────────────────────────┘
                         └──────── hand-over ─────────┤
<specialist> ─ Send per call whose outcome nobody knows → settle_call → <specialist>
<specialist> ─ final answer → screen_output → close → END
router, <specialist>, check_calls ─ budget, doubt, give-up → escalate → END
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send

from nodes.calls import OneCall, check_calls_node, handle_call_node
from nodes.closing import close, escalate_node
from nodes.context import Context, Node
from nodes.router import router_node
from nodes.screen import screen_input, screen_output
from nodes.settling import OneOpenCall, settle_call_node
from nodes.specialist import specialist_node
from nodes.state import CaseInput, CaseOutput, OpenCall, State
from nodes.studio import context_of
from nodes.workflow import Workflow

RESERVED = frozenset(
    {"screen_input", "router", "check_calls", "handle_call", "settle_call", "screen_output", "close", "escalate"}
)


class CaseGraph(StateGraph[State, Context | None, CaseInput, CaseOutput]):
    """An uncompiled builder that knows its workflow; `langgraph dev` and our runner compile it, each with its saver."""

    workflow: Workflow


def assemble(workflow: Workflow) -> CaseGraph:
    """Build a workflow's graph. Raises GraphInvalid for a specialist named like a node of the machinery."""
    workflow.forbid_names(RESERVED)
    graph = CaseGraph(State, input_schema=CaseInput, output_schema=CaseOutput)
    graph.workflow = workflow
    names = [s.name for s in workflow.specialists]

    def add(name: str, node: Node) -> None:
        graph.add_node(name, _bound(node, workflow))

    add("screen_input", screen_input)
    add("router", router_node(workflow))
    for specialist in workflow.specialists:
        add(specialist.name, specialist_node(workflow, specialist))
    add("check_calls", check_calls_node(workflow))
    add("handle_call", handle_call_node(workflow))
    add("settle_call", settle_call_node(workflow))
    add("screen_output", screen_output)
    add("close", close)
    add("escalate", escalate_node(workflow))

    graph.add_edge(START, "screen_input")
    graph.add_edge("screen_input", "router")
    graph.add_conditional_edges("router", after_router, [*names, "escalate"])
    for name in names:
        graph.add_conditional_edges(
            name, after_specialist(workflow), ["check_calls", "settle_call", name, "screen_output", "escalate"]
        )
    graph.add_conditional_edges("check_calls", after_check(workflow), ["handle_call", "router", *names, "escalate"])
    graph.add_conditional_edges("handle_call", to_specialist, names)
    graph.add_conditional_edges("settle_call", to_specialist, names)
    graph.add_edge("screen_output", "close")
    graph.add_edge("close", END)
    graph.add_edge("escalate", END)
    return graph


def _bound(node: Node, workflow: Workflow) -> Any:
    """A node as LangGraph calls it: with the run's context, or one made for the Studio.

    Typed Any: the overloads of `add_node` want one input type, and some nodes are sent another than the state.
    """

    async def bound(state: Any, runtime: Runtime[Context | None]) -> dict[str, Any]:
        return await node(state, await context_of(runtime, workflow))

    return bound


async def to_specialist(state: State) -> str:
    return state["route"]["specialist"]


async def after_router(state: State) -> str:
    return "escalate" if state.get("outcome") else state["route"]["specialist"]


def after_specialist(workflow: Workflow) -> Callable[[State], Awaitable[str | list[Send]]]:
    async def decide(state: State) -> str | list[Send]:
        in_doubt = state.get("unsettled")
        if in_doubt:  # asked about even when the case has ended: money may have moved
            return [Send("settle_call", _open(state, call)) for call in in_doubt.values()]
        if state.get("outcome"):
            return "escalate"
        last = state["messages"][-1]
        if isinstance(last, AIMessage) and last.tool_calls:
            return "check_calls"
        if isinstance(last, HumanMessage):  # told that its answer does not count yet
            return _again(state, workflow)
        return "screen_output"

    return decide


def after_check(workflow: Workflow) -> Callable[[State], Awaitable[str | list[Send]]]:
    async def decide(state: State) -> str | list[Send]:
        if state.get("outcome"):
            return "escalate"
        handovers = state.get("handovers", [])
        if handovers and handovers[-1]["by"] == state["route"]["specialist"] and not state["calls"]:
            return "router"
        if state["calls"]:
            return [Send("handle_call", _one(state, i)) for i in range(len(state["calls"]))]
        return _again(state, workflow)

    return decide


def _again(state: State, workflow: Workflow) -> str:
    """Back to the specialist, unless it was told often enough."""
    return "escalate" if state.get("missteps", 0) > workflow.limits.missteps else state["route"]["specialist"]


def _one(state: State, index: int) -> OneCall:
    return OneCall(call=state["calls"][index], case=state["case"], suspicions=state["suspicions"])


def _open(state: State, call: OpenCall) -> OneOpenCall:
    return OneOpenCall(call=call, case=state["case"], suspicions=state["suspicions"])
