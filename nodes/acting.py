"""Acting on one call, and what comes of it: an answer for the model, or a question for a person."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import ToolMessage

from casework.approval import ApprovalRequest, Doubt, approval_id_of, outcome_digest
from casework.errors import CallRefused, OutcomeUnknown, ToolError
from nodes.context import Context
from nodes.state import OpenCall, Outcome
from nodes.workflow import Specialist
from policies import content
from policies.verdict import APPROVERS, Consent
from tools.ledger import Result, read_doubt
from tools.scope import Scope

OUTCOMES = ["happened", "did_not_happen", "stop"]
"""What an approver may answer when nobody knows whether a call happened."""


@dataclass(frozen=True)
class MadeCall:
    """A call as it is made."""

    call_id: str
    tool: str
    args: dict[str, Any]
    """Exactly; a person may have edited what the model proposed."""
    specialist: Specialist
    consent: Consent
    """Who stands behind it."""
    doubt: Doubt | None = None
    """What a person was asked about an earlier attempt; None on the first."""


async def carry_out(
    acting: Awaitable[Result], made: MadeCall, scope: Scope, context: Context, note: str = ""
) -> dict[str, Any]:
    """Act, and turn every failure of the tool into an answer: an error of one call must not cancel its siblings.

    `note` is put before the tool's result. The model is told nothing of a call as long as nobody knows its outcome.
    """
    name, call_id = made.tool, made.call_id
    try:
        result = await acting
    except OutcomeUnknown as unknown:
        context.journal.note("call.unknown", tool=name, call_id=call_id, error=unknown.message)
        return await _in_doubt(made, unknown, scope, context)
    except CallRefused as error:
        context.journal.note("call.denied", tool=name, call_id=call_id, reason=error.message)
        return _answered(made, f"Refused: {error.message}")
    except ToolError as error:
        context.journal.note("call.failed", tool=name, call_id=call_id, error=error.message)
        return _answered(made, f"Error: {error.message}")
    tool = made.specialist.caller().tools[name]
    text = json.dumps(result, ensure_ascii=False)
    context.journal.note("call.succeeded", tool=name, call_id=call_id, result=result)
    told = _answered(made, note + (content.fence(text, name) if tool.untrusted else text))
    return {**told, "succeeded": [name], "untrusted_read": tool.untrusted}


def left_open(made: MadeCall, reason: str) -> dict[str, Any]:
    """Nobody found out: the effect stays unknown, and a person takes the case."""
    told = _answered(made, "The outcome of this call is not known. A person checks it.")
    return {**told, "outcome": escalated(f"nobody knows whether {made.tool} happened: {reason}", "")}


def escalated(reason: str, summary: str, args: dict[str, Any] | None = None) -> Outcome:
    outcome = Outcome(status="escalated", reason=reason, summary=summary)
    return Outcome(**outcome, args=args) if args else outcome


def tell(name: str, call_id: str, text: str) -> ToolMessage:
    """The answer to one call; its own id makes it the same message when the node runs again."""
    return ToolMessage(text, name=name, tool_call_id=call_id, id=f"tool_{call_id}")


def _answered(made: MadeCall, text: str) -> dict[str, Any]:
    return {"messages": [tell(made.tool, made.call_id, text)], "unsettled": {made.call_id: None}}


async def _in_doubt(made: MadeCall, unknown: OutcomeUnknown, scope: Scope, context: Context) -> dict[str, Any]:
    """Ask a person, unless that was done already and the answer changed nothing: then people take the whole case."""
    doubt = await read_doubt(scope, made.call_id)
    if doubt is None or doubt == made.doubt:
        return left_open(made, unknown.message)
    tool = made.specialist.caller().tools[made.tool]
    digest = outcome_digest(made.tool, made.args, doubt)
    question = ApprovalRequest(
        type="tool_outcome",
        tool_call_id=made.call_id,
        name=made.tool,
        args=made.args,
        description=f"Did this happen? {tool.describe(tool.args.model_validate(made.args))}",
        approval_id=approval_id_of(context.execution_id, made.call_id, digest),
        digest=digest,
        reasons=[doubt.why],
        # To say what became of the money takes the same right as to let it go; one person is enough to look it up.
        roles=sorted(made.consent.roles or APPROVERS),
        votes=1,
        money=dict(made.consent.money),
        allowed=OUTCOMES,
        expires_at=context.resources.clock() + context.resources.settings.approval_deadline,
        specialist=made.specialist.name,
        doubt=doubt,
    )
    call = OpenCall(
        call_id=made.call_id,
        tool=made.tool,
        args=made.args,
        specialist=made.specialist.name,
        votes=made.consent.votes,
        question=question.model_dump(mode="json"),
    )
    return {"unsettled": {made.call_id: call}}
