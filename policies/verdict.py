"""What a policy answers. Policies never raise and do no I/O: same inputs, same verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from casework.actor import Role


@dataclass(frozen=True)
class Allow:
    """The call may be made without asking anybody."""

    reason: str = "allowed by policy"


@dataclass(frozen=True)
class NeedsApproval:
    """The call may be made once enough people said yes."""

    reason: str
    """Shown to the approver; what made this need a person."""
    votes: int = 1
    """How many different people must approve; never below 1."""
    role: Role = Role.APPROVER
    """Which role they must have."""


@dataclass(frozen=True)
class Deny:
    """The call may not be made, whoever approves."""

    reason: str
    """Told to the model, so it says what rule stands in the way and what would be allowed."""


Verdict = Allow | NeedsApproval | Deny


def strictest(verdicts: Iterable[Verdict]) -> Verdict:
    """The one that decides: any Deny, else the NeedsApproval with most votes, else Allow.

    Reasons of all verdicts of the deciding kind are joined, so that an approver sees every one.
    """
    every = list(verdicts)
    denials = [v for v in every if isinstance(v, Deny)]
    if denials:
        return Deny("; ".join(v.reason for v in denials))
    asks = [v for v in every if isinstance(v, NeedsApproval)]
    if asks:
        most = max(asks, key=lambda v: v.votes)
        return NeedsApproval("; ".join(v.reason for v in asks), most.votes, most.role)
    return Allow("; ".join(v.reason for v in every if isinstance(v, Allow)) or "no rule stands against it")
