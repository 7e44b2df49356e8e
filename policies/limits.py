"""Budgets per execution. Reaching one hands the case to a person; nothing is ever cut off in silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Cumulative over all runs of one execution, from its start or from when it was last opened again."""

    model_calls: int = 24
    tool_calls: int = 40
    tokens: int = 250_000
    """Input and output tokens together."""
    cost_microusd: int = 2_000_000
    """Model cost in millionths of a US dollar."""
    handovers: int = 3
    """Changes of specialist."""
    missteps: int = 2
    """Broken or unknown calls, or prose where a call was needed, that the model is told about in a row."""
    prompt_tokens: int = 24_000
    """What one specialist prompt may hold, approximately; older turns are left out above it."""


COUNTED = ("model_calls", "tool_calls", "tokens", "cost_microusd")
"""The limits that `spent` counts against."""


def exhausted(limits: Limits, spent: Mapping[str, int]) -> str | None:
    """Which budget is used up, in words for a person; None while there is some of each left."""
    for name in COUNTED:
        limit: int = getattr(limits, name)
        if spent.get(name, 0) >= limit:
            return f"the budget of {limit} {name.replace('_', ' ')} is used up"
    return None
