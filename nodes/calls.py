"""The story of a gated call: `check_calls` judges every call of a turn, `handle_call` makes one happen.

All calls of a turn are one superstep, one task each, so an approved call acts whatever its siblings wait for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.types import interrupt
from pydantic import ValidationError
from typing_extensions import TypedDict

from casework.approval import ApprovalRequest, Decision, approval_id_of
from casework.errors import ArgumentsInvalid, CallRefused
from nodes.acting import MadeCall, carry_out, escalated, tell
from nodes.context import Context, Node
from nodes.rulings import Ruling, ruling_on
from nodes.specialist import HAND_OVER, hand_over_tool
from nodes.state import HandOver, PendingCall, State, spent_of_budget
from nodes.workflow import Specialist, Workflow
from policies.limits import FOR_ACTING, exhausted
from policies.verdict import Allow, NeedsApproval
from tools.gate import Review, act, review

ALLOWED = ["approve", "edit", "reject", "respond"]
"""What an approver may answer to a tool call."""


class OneCall(TypedDict):
    """What a `handle_call` task is sent: its call, and the parts of the state that the gate needs."""

    call: PendingCall
    case: dict[str, str]
    suspicions: list[str]


def check_calls_node(workflow: Workflow) -> Node:
    """Make the node that judges a turn: what may be made, what needs a person, what is answered with a refusal."""

    async def check_calls(state: State, context: Context) -> dict[str, Any]:
        specialist = workflow.specialist(state["route"]["specialist"])
        proposal = state["messages"][-1]
        if not isinstance(proposal, AIMessage):
            return {"calls": []}
        ending = _leaving(workflow, specialist, proposal, state, context) or _used_up(
            workflow, proposal, state, context
        )
        if ending is not None:
            return ending
        return await _judge(workflow, specialist, proposal, state, context)

    return check_calls


async def _judge(
    workflow: Workflow, specialist: Specialist, proposal: AIMessage, state: State, context: Context
) -> dict[str, Any]:
    calls: list[PendingCall] = []
    answers: list[AnyMessage] = []
    broken = False
    for call in proposal.tool_calls:
        name, call_id = call["name"], str(call["id"])
        try:
            if name == HAND_OVER:
                raise ArgumentsInvalid("hand_over: name another specialist, and say what is left for them")
            judged = await review(specialist.caller(), name, call["args"], call_id, context.scope(state))
        except ArgumentsInvalid as error:
            broken = True
            answers.append(tell(name, call_id, f"Error: {error.message}"))
            context.journal.note("call.broken", tool=name, call_id=call_id, error=error.message)
        except CallRefused as error:
            answers.append(tell(name, call_id, f"Refused: {error.message}"))
            context.journal.note("call.denied", tool=name, call_id=call_id, reason=error.message)
        else:
            calls.append(_pending(specialist, judged, proposal.text, context))
    missteps = state.get("missteps", 0) + 1 if broken else 0
    spent = {"tool_calls": len(proposal.tool_calls)}
    return {"calls": calls, "messages": answers, "missteps": missteps, "spent": spent}


def _pending(specialist: Specialist, judged: Review, thought: str, context: Context) -> PendingCall:
    call, verdict = judged.call, judged.verdict
    args = call.args.model_dump(mode="json")
    asks = isinstance(verdict, NeedsApproval)
    context.journal.note(
        "call.checked",
        tool=call.tool.name,
        call_id=call.call_id,
        args=args,
        verdict="needs_approval" if asks else "allow",
        reason=verdict.reason,
        policy="allow" if isinstance(judged.policy, Allow) else "needs_approval",
    )
    request = None
    if isinstance(verdict, NeedsApproval):
        request = ApprovalRequest(
            tool_call_id=call.call_id,
            name=call.tool.name,
            args=args,
            description=call.tool.describe(call.args),
            approval_id=approval_id_of(context.execution_id, call.call_id, call.digest),
            digest=call.digest,
            reasons=verdict.reason.split("; "),
            role=verdict.role,
            votes=verdict.votes,
            allowed=ALLOWED,
            expires_at=context.resources.clock() + context.resources.settings.approval_deadline,
            specialist=specialist.name,
            thought=thought,
        )
    return PendingCall(
        call_id=call.call_id,
        tool=call.tool.name,
        args=args,
        specialist=specialist.name,
        approval=request.model_dump(mode="json") if request else None,
    )


def _leaving(
    workflow: Workflow, specialist: Specialist, proposal: AIMessage, state: State, context: Context
) -> dict[str, Any] | None:
    """A hand-over or an escalation ends the specialist's turn: every call of it is answered, none is made."""
    for call in proposal.tool_calls:
        try:
            if call["name"] == HAND_OVER:
                update = _handed_over(workflow, specialist, call["args"], state)
            elif call["name"] == workflow.escalation.name:
                args = workflow.escalation.args.model_validate(dict(call["args"])).model_dump(mode="json")
                update = {"outcome": escalated(args["reason"], args["summary"], args)}
            else:
                continue
        except ValidationError:
            continue  # judged with the others: told to the model as a broken call
        answers = _not_made(proposal, "the case left you")
        context.journal.note("specialist.left", specialist=specialist.name, by=call["name"], args=call["args"])
        return {"calls": [], "messages": answers, "spent": {"tool_calls": 1}, **update}
    return None


def _used_up(workflow: Workflow, proposal: AIMessage, state: State, context: Context) -> dict[str, Any] | None:
    """The model's answer used a budget up, or asks for more calls than are left: none is made, a person takes over."""
    limit = workflow.limits.tool_calls
    left = limit - spent_of_budget(state).get("tool_calls", 0)
    asked = len(proposal.tool_calls)
    reason = exhausted(workflow.limits, context.spent(state), FOR_ACTING)
    if reason is None and asked > left:
        reason = f"{asked} tool calls at once, and of the budget of {limit} only {left} are left"
    if reason is None:
        return None
    context.journal.note("budget.exhausted", reason=reason)
    return {"calls": [], "messages": _not_made(proposal, reason), "outcome": escalated(reason, "")}


def _not_made(proposal: AIMessage, why: str) -> list[AnyMessage]:
    return [tell(c["name"], str(c["id"]), f"Not made: {why}.") for c in proposal.tool_calls]


def _handed_over(workflow: Workflow, specialist: Specialist, args: Mapping[str, Any], state: State) -> dict[str, Any]:
    """Raises ValidationError for a broken hand-over."""
    asked = hand_over_tool(workflow, specialist).model_validate(dict(args)).model_dump()
    if len(state.get("handovers", [])) >= workflow.limits.handovers:
        return {"outcome": escalated(f"handed over {workflow.limits.handovers} times already", asked["summary"])}
    turn = state["messages"][-1]
    read = len(state["messages"]) + (len(turn.tool_calls) if isinstance(turn, AIMessage) else 0)
    entry = HandOver(by=specialist.name, to=asked["specialist"], summary=asked["summary"], at=read)
    return {"handovers": [entry]}


def handle_call_node(workflow: Workflow) -> Node:
    """Make the node that carries one call through: wait for its approval if it needs one, then act."""

    async def handle_call(sent: OneCall, context: Context) -> dict[str, Any]:
        call = sent["call"]
        answer: Decision | None = None
        if call["approval"] is not None:
            answer = interrupt(call["approval"], response_schema=Decision)
        ruling = await ruling_on(call, answer, context) if answer is not None else Ruling(call["args"], votes=0)
        if ruling.answer is not None:
            context.journal.note("call.answered", tool=call["tool"], call_id=call["call_id"], answer=ruling.answer)
            return {"messages": [tell(call["tool"], call["call_id"], ruling.answer)], "outcome": ruling.outcome}
        specialist = workflow.specialist(call["specialist"])
        made = MadeCall(call["call_id"], call["tool"], ruling.args, specialist, ruling.votes)
        scope = context.scope(State(case=sent["case"], suspicions=sent["suspicions"]))
        acting = act(specialist.caller(), made.tool, made.args, made.call_id, scope, made.votes)
        return await carry_out(acting, made, scope, context, ruling.note)

    return handle_call
