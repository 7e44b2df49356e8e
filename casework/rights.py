"""Who may decide an approval: one rule, for the pages that show it and for the transaction that holds to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from casework.actor import Actor, Role
from casework.money import amount, amounts


class Asked(Protocol):
    """What an approval asks of whoever decides it; an Approval, or its row."""

    @property
    def roles(self) -> Sequence[Role]: ...
    @property
    def money(self) -> Mapping[str, int]: ...
    @property
    def requester(self) -> str: ...
    @property
    def edited_by(self) -> str | None: ...
    @property
    def votes_needed(self) -> int: ...


def barred(actor: Actor, asked: Asked) -> str | None:
    """Why this actor may give no answer at all; None when they may."""
    if actor.has(Role.SERVICE):
        return "a service key never decides an approval"
    if not actor.roles.issuperset(asked.roles):
        return f"deciding this needs the role{'s' * (len(asked.roles) > 1)} {' and '.join(asked.roles)}"
    if actor.actor_id == asked.requester:
        return "whoever started an execution may not decide its approvals"
    return None


def barred_from_yes(actor: Actor, asked: Asked) -> str | None:
    """Why this actor may not be the one to say yes, nor what became of the money; None when they may."""
    if actor.actor_id == asked.edited_by:
        return "whoever edited the arguments may not be the one to approve them"
    return barred(actor, asked) or beyond(actor, asked.money)


def beyond(actor: Actor, money: Mapping[str, int]) -> str | None:
    """Why this much money is above the actor's limits; None when it is within. No limit set: no money at all."""
    for currency, minor in sorted(money.items()):
        limit = actor.limits.get(currency)
        if limit is None or limit < minor:
            yours = f"no limit is set for you in {currency}" if limit is None else f"yours is {amount(limit, currency)}"
            return f"this needs a limit of {amount(minor, currency)}; {yours}"
    return None


def good_for(people: Iterable[Actor]) -> dict[str, int]:
    """How much each of them may let go: the least of their limits, in the currencies in which all have one."""
    limits = [person.limits for person in people]
    common = set(limits[0]).intersection(*limits) if limits else set()
    return {currency: min(limit[currency] for limit in limits) for currency in common}


def wanted(asked: Asked) -> str:
    """Who must agree, in words: `an approver up to 500.00 EUR`, `2 people, each approver up to 649.00 EUR`."""
    roles = " and ".join(asked.roles)
    who = f"{_article(roles)} {roles}" if asked.votes_needed == 1 else f"{asked.votes_needed} people, each {roles}"
    return f"{who} up to {amounts(asked.money)}" if asked.money else who


def _article(words: str) -> str:
    return "an" if words[:1] in "aeiou" else "a"


def listed(roles: Iterable[Role]) -> str:
    return ", ".join(sorted(roles))
