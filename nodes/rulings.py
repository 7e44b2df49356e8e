"""What a person's decision makes of a call. The approvals row is the authority; the resume value never is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from casework.approval import (
    Answer,
    Approval,
    ApprovalRequest,
    ApprovalState,
    Approve,
    Decision,
    DidNotHappen,
    Edit,
    Happened,
    Reject,
    Respond,
    Stop,
    digest_of,
    outcome_digest,
)
from casework.decisions import read_approval
from casework.messages import OVERTAKEN
from nodes.context import Context
from nodes.state import OpenCall, Outcome, PendingCall
from policies.verdict import Consent

Finding = Happened | DidNotHappen | Stop
"""What a person found out about a call whose outcome nobody knew."""

FINDINGS: Mapping[ApprovalState, type[Finding]] = {
    ApprovalState.HAPPENED: Happened,
    ApprovalState.DID_NOT_HAPPEN: DidNotHappen,
    ApprovalState.STOPPED: Stop,
    ApprovalState.EXPIRED: Stop,
}
"""What stands in an approvals row of each state."""


@dataclass(frozen=True)
class Ruling:
    """Either the arguments to act on, or the answer to give in the tool's place."""

    args: dict[str, Any]
    """What may be done, exactly; a person may have edited it."""
    consent: Consent
    """Who stands behind it."""
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
    row = await _row_behind(call["approval"] or {}, call["call_id"], context)
    return _from_row(call, row) if row is not None else _refused("no approval stands behind this call")


async def finding_on(call: OpenCall, answer: Decision, context: Context) -> tuple[Finding, Consent]:
    """Look up what a person found out about a call, and what they stand behind.

    What nobody answered for this very attempt leaves it open.
    """
    asked = ApprovalRequest.model_validate(call["question"])
    money: Mapping[str, int] = asked.money
    if context.studio:
        found: Answer | None = answer.root
    else:
        row = await _row_behind(call["question"], call["call_id"], context)
        found = _found_in(call, row) if row is not None else None
        money = (row.good_for if row is not None else None) or {}
    # Who says that it did not happen wants exactly this call made: one person at least stands behind it now.
    consent = Consent(max(call["votes"], 1), frozenset(asked.roles), money)
    if isinstance(found, Finding) and found.digest == asked.digest:
        return found, consent
    return Stop(type="stop", digest=asked.digest, reason="no answer stands behind this question"), consent


async def _row_behind(asked: Mapping[str, Any], call_id: str, context: Context) -> Approval | None:
    """The approvals row of a question of this execution about this call."""
    row = await read_approval(context.resources.engine, context.requester.tenant, UUID(asked["approval_id"]))
    if row is None or row.execution_id != context.execution_id or row.tool_call_id != call_id:
        return None
    return row


def _found_in(call: OpenCall, row: Approval) -> Answer | None:
    kind = FINDINGS.get(row.state)
    if kind is None or row.doubt is None or row.digest != outcome_digest(call["tool"], call["args"], row.doubt):
        return None
    found = Decision.model_validate(row.decision).root
    return found if isinstance(found, kind) else None


def _from_row(call: PendingCall, row: Approval) -> Ruling:
    decision = row.decision or {}
    match row.state:
        case ApprovalState.APPROVED if row.digest == decision.get("digest") == digest_of(call["tool"], row.args):
            edited = row.args != call["args"]
            consent = Consent(row.votes_needed, frozenset(row.roles), row.good_for or {})
            return Ruling(row.args, consent, note=_edited(row.args) if edited else "")
        case ApprovalState.REJECTED:
            return _refused(f"a person said no: {decision.get('reason')}")
        case ApprovalState.RESPONDED:
            return _responded(decision.get("message"))
        case ApprovalState.EXPIRED:
            reason = f"nobody decided about {call['tool']} before the deadline"
            return Ruling({}, Consent(), f"Refused: {reason}", Outcome(status="escalated", reason=reason, summary=""))
        case ApprovalState.SUPERSEDED:
            return Ruling({}, Consent(), f"Not made: {OVERTAKEN}. Read it, and propose what is right now.")
    return _refused("no approval stands behind this call")


def _from_studio(call: PendingCall, answer: Decision) -> Ruling:
    choice = answer.root
    if call["approval"] is None or choice.digest != call["approval"]["digest"]:
        return _refused("the digest is not the one of this call")
    asked = ApprovalRequest.model_validate(call["approval"])
    consent = Consent(1, frozenset(asked.roles), asked.money)
    match choice:
        case Approve():
            return Ruling(call["args"], consent)
        case Edit():
            return Ruling(choice.args, consent, note=_edited(choice.args))
        case Reject():
            return _refused(f"a person said no: {choice.reason}")
        case Respond():
            return _responded(choice.message)
    return _refused(f"{choice.type} is no answer to this question")


def _refused(reason: str) -> Ruling:
    return Ruling({}, Consent(), f"Refused: {reason}")


def _responded(message: Any) -> Ruling:
    return Ruling({}, Consent(), f"A person answered instead: {message}")


def _edited(args: dict[str, Any]) -> str:
    return f"Note: a person changed the arguments to {args}.\n"
