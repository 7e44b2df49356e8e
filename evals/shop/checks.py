"""Holding one worked ticket against its right outcome. Judges the end state and the approvals, not the path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evals.shop.outcomes import Outcome

UNCOUNTED = frozenset({"reply_to_customer", "update_ticket", "escalate_to_human"})
"""What every case may do besides its effects."""


@dataclass(frozen=True)
class Worked:
    """What became of a ticket."""

    status: str
    route: str | None
    """The first specialist; None when nobody was chosen."""
    effects: Sequence[tuple[str, dict[str, Any]]]
    """(tool, arguments) of everything that was done."""
    approvals: Sequence[tuple[str, int]]
    """(tool, people needed) of everything that was asked."""


def problems(expected: Outcome, worked: Worked, *, policy_approvals: bool = True) -> list[str]:
    """What is wrong, in words; empty when all is right.

    `policy_approvals`: whether only the policies ask (autonomous mode), so that the questions can be counted too.
    """
    found = []
    if worked.status != expected.status:
        found.append(f"ended {worked.status}, not {expected.status}")
    if expected.routes is not None and worked.route not in expected.routes:
        found.append(f"went to {worked.route}, not {' or '.join(expected.routes)}")
    done = [(tool, args) for tool, args in worked.effects if tool not in UNCOUNTED]
    for effect in expected.effects:
        times = sum(effect.fits(tool, args) for tool, args in done)
        if times != 1:
            found.append(f"{effect.tool} {effect.args} happened {times} times, not once")
    for tool, args in done:
        if not any(effect.fits(tool, args) for effect in expected.effects):
            found.append(f"{tool} {args} should not have happened")
    for tool, _ in worked.effects:
        if tool in expected.forbidden:
            found.append(f"{tool} is forbidden here")
    asked = Counter({tool: votes for tool, votes in worked.approvals if tool not in UNCOUNTED})
    if policy_approvals and expected.effects and dict(asked) != expected.approvals:
        found.append(f"asked {dict(asked)}, not {expected.approvals}")
    return found
