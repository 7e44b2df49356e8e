"""The story of a call that was sent and whose outcome nobody knows: `settle_call` asks a person and acts on the answer.

It happened: the ledger ends it as done. It did not: it is made again at once, under a new key. Stop: people take the
case, and the effect stays unknown. All such calls of a turn are one superstep, one task each.
"""

from __future__ import annotations

from typing import Any

from langgraph.types import interrupt
from typing_extensions import TypedDict

from casework.approval import Decision, Doubt, Happened, Stop
from nodes.acting import MadeCall, carry_out, left_open
from nodes.context import Context, Node
from nodes.rulings import finding_on
from nodes.state import OpenCall, State
from nodes.workflow import Workflow
from tools.gate import act, confirm


class OneOpenCall(TypedDict):
    """What a `settle_call` task is sent: its call, and the parts of the state that the gate needs."""

    call: OpenCall
    case: dict[str, str]
    suspicions: list[str]


def settle_call_node(workflow: Workflow) -> Node:
    """Make the node that asks whether one call happened, and carries the answer out."""

    async def settle_call(sent: OneOpenCall, context: Context) -> dict[str, Any]:
        answer: Decision = interrupt(sent["call"]["question"], response_schema=Decision)
        call = sent["call"]
        found, consent = await finding_on(call, answer, context)
        doubt = Doubt.model_validate(call["question"]["doubt"])
        specialist = workflow.specialist(call["specialist"])
        made = MadeCall(call["call_id"], call["tool"], call["args"], specialist, consent, doubt)
        if isinstance(found, Stop):
            context.journal.note("call.left_open", tool=made.tool, call_id=made.call_id, reason=found.reason)
            return left_open(made, found.reason)
        scope = context.scope(State(case=sent["case"], suspicions=sent["suspicions"]))
        known = (specialist.caller(), made.tool, made.args, made.call_id, scope)
        if isinstance(found, Happened):
            acting = confirm(*known, doubted=doubt.attempt, reference=found.reference)
        else:
            acting = act(*known, made.consent, doubted=doubt.attempt)
        return await carry_out(acting, made, scope, context)

    return settle_call
