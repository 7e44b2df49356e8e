"""What a policy answers. Policies never raise and do no I/O: same inputs, same verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from casework.actor import Role

APPROVERS = frozenset({Role.APPROVER})


@dataclass(frozen=True)
class Allow:
    """The call may be made without asking anybody."""

    reason: str = "allowed by policy"
    money: Mapping[str, int] = field(default_factory=dict)
    """As in NeedsApproval: what an approver must be good for if something else asks for one, the mode for example."""


@dataclass(frozen=True)
class NeedsApproval:
    """The call may be made once enough people said yes."""

    reason: str
    """Shown to the approver; what made this need a person."""
    votes: int = 1
    """How many different people must approve; never below 1."""
    roles: frozenset[Role] = APPROVERS
    """Which roles each of them must hold, all of these. Empty: whoever the other verdicts name, else an approver."""
    money: Mapping[str, int] = field(default_factory=dict)
    """What is at stake, in minor units by ISO 4217 currency: `{"EUR": 64900}`. Each of them must have a limit of at
    least this much in every currency named. Empty: no money moves."""


@dataclass(frozen=True)
class Deny:
    """The call may not be made, whoever approves."""

    reason: str
    """Told to the model, so it says what rule stands in the way and what would be allowed."""


Verdict = Allow | NeedsApproval | Deny


@dataclass(frozen=True)
class Consent:
    """What stands behind a call: so many people, each with these roles and good for this much money."""

    votes: int = 0
    """0: nobody was asked."""
    roles: frozenset[Role] = frozenset()
    money: Mapping[str, int] = field(default_factory=dict)
    """As in NeedsApproval. With 0 votes: what was at stake when nobody needed to be asked."""

    def covers(self, needed: Verdict) -> bool:
        """Whether this is enough for what is needed now."""
        if not isinstance(needed, NeedsApproval):
            return not isinstance(needed, Deny)
        enough = all(self.money.get(currency, 0) >= minor for currency, minor in needed.money.items())
        return self.votes >= needed.votes and self.roles >= needed.roles and enough


def strictest(verdicts: Iterable[Verdict]) -> Verdict:
    """The one that decides: any Deny, else what satisfies every NeedsApproval, else Allow.

    The most votes, every role that any of them names, and the most money in each currency, also what an Allow puts at
    stake. Reasons of all verdicts of the deciding kind are joined, so that an approver sees every one.
    """
    every = list(verdicts)
    denials = [v for v in every if isinstance(v, Deny)]
    if denials:
        return Deny("; ".join(v.reason for v in denials))
    allowed = [v for v in every if isinstance(v, Allow)]
    asks = [v for v in every if isinstance(v, NeedsApproval)]
    money = _most([*(v.money for v in allowed), *(v.money for v in asks)])
    if asks:
        roles = frozenset[Role]().union(*(v.roles for v in asks)) or APPROVERS
        return NeedsApproval("; ".join(v.reason for v in asks), max(v.votes for v in asks), roles, money)
    return Allow("; ".join(v.reason for v in allowed) or "no rule stands against it", money)


def _most(amounts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    most: dict[str, int] = {}
    for amount in amounts:
        for currency, minor in amount.items():
            most[currency] = max(minor, most.get(currency, minor))
    return most
