"""How a case ends: closed by its specialist, or handed to people with everything known so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import ToolMessage

from casework.errors import ToolError
from casework.telemetry import logger
from nodes.context import Context, Node
from nodes.state import Outcome, State
from nodes.workflow import Workflow
from policies.verdict import Consent
from tools.gate import act
from tools.scope import Caller

log = logger(__name__)

ESCALATION_CALL = "escalation"
"""Call id of the machinery's own escalation: once per execution, whatever led to it."""
STUCK = "the agent did not find a valid next step, though it was told what was wrong"
REASON_CHARS, SUMMARY_CHARS = 200, 2000
"""What is told of a reason or summary that the machinery wrote itself."""


async def close(state: State, context: Context) -> dict[str, Any]:
    """The specialist finished the case."""
    context.journal.note("case.closed", answer=state["answer"])
    return {"outcome": Outcome(status="succeeded", reason="", summary=state["answer"])}


def escalate_node(workflow: Workflow) -> Node:
    """Make the node that hands the case to people, through the workflow's own escalation tool."""
    tool = workflow.escalation
    caller = Caller("casework", {tool.name: tool}, frozenset({tool.permission}))

    async def escalate(state: State, context: Context) -> dict[str, Any]:
        outcome = state.get("outcome") or Outcome(status="escalated", reason=STUCK, summary="")
        summary = outcome["summary"] or _known(state)
        args = outcome.get("args") or {"reason": outcome["reason"][:REASON_CHARS], "summary": summary[:SUMMARY_CHARS]}
        await _hand_to_people(caller, tool.name, args, state, context)
        context.journal.note("case.escalated", reason=outcome["reason"], summary=summary)
        answer = f"Handed to a person: {outcome['reason']}"
        return {"outcome": outcome, "answer": answer, "spent": {"tool_calls": 1}}

    return escalate


async def _hand_to_people(caller: Caller, name: str, args: Mapping[str, Any], state: State, context: Context) -> None:
    """Tell the business system. When it cannot be told, the execution still ends escalated, and says so."""
    try:
        await act(caller, name, args, ESCALATION_CALL, context.scope(state), Consent())
    except ToolError as error:
        log.error("escalation.failed", error=error.message)
        context.journal.note("escalation.failed", error=error.message)


def _known(state: State) -> str:
    """What was found and done so far, from the answers of the calls: no model writes this."""
    lines = [f"- {m.name}: {m.text[:200]}" for m in state.get("messages", []) if isinstance(m, ToolMessage)]
    return "\n".join(["What the agents found and did:", *lines[-12:]]) if lines else "No agent has worked it yet."
