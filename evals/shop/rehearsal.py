"""How the demo's people decide, and what must come of it where they decide otherwise than yes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evals.shop.outcomes import ExpectedEffect, Outcome, load_outcomes

FIRST, SECOND = "ana", "ben"
"""The demo's approvers."""


@dataclass(frozen=True)
class Act:
    """One person's answer to a question; `answer` lacks only the digest."""

    by: str
    answer: Mapping[str, Any]


APPROVE = {"type": "approve"}


@dataclass(frozen=True)
class Part:
    """How one ticket is rehearsed."""

    expected: Outcome
    acts: tuple[Act, ...] = (Act(FIRST, APPROVE), Act(SECOND, APPROVE))
    """Answers in order to each question, until it is settled."""
    tool: str | None = None
    """The tool whose questions `acts` are for; all others are approved. None: every question."""
    copilot: bool = False
    """Whether every write asks, though the policies would let it pass."""
    note: str = ""
    """What is special about it, for the table; empty for nothing."""


def rehearsal() -> dict[str, Part]:
    """A part for every demo ticket."""
    parts = {ticket: Part(outcome) for ticket, outcome in load_outcomes().items()}
    parts["T-1020"] = _edited(parts["T-1020"].expected, 18_000)
    parts["T-1005"] = _rejected(parts["T-1005"].expected)
    for ticket in ("T-1003", "T-1042"):
        parts[ticket] = Part(parts[ticket].expected, copilot=True, note="in copilot mode: every write asks")
    return parts


def _edited(expected: Outcome, amount_minor: int) -> Part:
    """The first approver lowers the amount; whoever edits may not approve, so the second one does."""
    refund = expected.effects[0]
    lowered = ExpectedEffect(tool=refund.tool, args={**refund.args, "amount_minor": amount_minor})
    acts = (Act(FIRST, {"type": "edit", "change": {"amount_minor": amount_minor}}), Act(SECOND, APPROVE))
    outcome = expected.model_copy(update={"effects": (lowered,)})
    return Part(outcome, acts, tool=refund.tool, note="an approver lowers the amount, another one agrees")


def _rejected(expected: Outcome) -> Part:
    """No refund: the agent adapts, and a person takes the case."""
    reason = "The carrier's report is missing. Ask the warehouse before anything is paid."
    outcome = expected.model_copy(update={"status": "escalated", "effects": (), "forbidden": ("issue_refund",)})
    acts = (Act(FIRST, {"type": "reject", "reason": reason}),)
    return Part(outcome, acts, tool="issue_refund", note="the refund is rejected")
