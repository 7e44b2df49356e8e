"""What a person's decision makes of a gated call. The approvals row is the authority; the resume value never is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from casework.approval import Approval, ApprovalState, Approve, Decision, Edit, Reject, Respond, digest_of
from casework.decisions import read_approval
from nodes.context import Context
from nodes.state import Outcome, PendingCall


@dataclass(frozen=True)
class Ruling:
    """Either the arguments to act on, or the answer to give in the tool's place."""

    args: dict[str, Any]
    """What may be done, exactly; a person may have edited it."""
    votes: int
    """How many people stand behind it."""
    answer: str | None = None
    """Told to the model instead of acting; None: act."""
    outcome: Outcome | None = None
    """Set when the ruling ends the case."""
    note: str = ""
    """Put before the tool's result."""


async def ruling_on(call: PendingCall, answer: Decision, context: Context) -> Ruling:
    """Look up what was decided about a call. In the Studio, the person at it decides, on what the gate allows."""
    if context.studio:
        return _from_studio(call, answer)
    request = call["approval"] or {}
    row = await read_approval(context.resources.engine, context.requester.tenant, UUID(request["approval_id"]))
    if row is None or row.execution_id != context.execution_id or row.tool_call_id != call["call_id"]:
        return _refused("no approval stands behind this call")
    return _from_row(call, row)


def _from_row(call: PendingCall, row: Approval) -> Ruling:
    decision = row.decision or {}
    match row.state:
        case ApprovalState.APPROVED if row.digest == decision.get("digest") == digest_of(call["tool"], row.args):
            edited = row.args != call["args"]
            return Ruling(row.args, row.votes_needed, note=_edited(row.args) if edited else "")
        case ApprovalState.REJECTED:
            return _refused(f"a person said no: {decision.get('reason')}")
        case ApprovalState.RESPONDED:
            return _responded(decision.get("message"))
        case ApprovalState.EXPIRED:
            reason = f"nobody decided about {call['tool']} before the deadline"
            return Ruling({}, 0, f"Refused: {reason}", Outcome(status="escalated", reason=reason, summary=""))
    return _refused("no approval stands behind this call")


def _from_studio(call: PendingCall, answer: Decision) -> Ruling:
    choice = answer.root
    if choice.digest != (call["approval"] or {}).get("digest"):
        return _refused("the digest is not the one of this call")
    match choice:
        case Approve():
            return Ruling(call["args"], votes=1)
        case Edit():
            return Ruling(choice.args, votes=1, note=_edited(choice.args))
        case Reject():
            return _refused(f"a person said no: {choice.reason}")
        case Respond():
            return _responded(choice.message)


def _refused(reason: str) -> Ruling:
    return Ruling({}, 0, f"Refused: {reason}")


def _responded(message: Any) -> Ruling:
    return Ruling({}, 0, f"A person answered instead: {message}")


def _edited(args: dict[str, Any]) -> str:
    return f"Note: a person changed the arguments to {args}.\n"
