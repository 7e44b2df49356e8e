"""Budgets per execution. Reaching one hands the case to a person; nothing is ever cut off in silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    working_s: int = 900
    """Seconds at work, pauses between tries included; waiting for people apart. Less than the setting `run_timeout`."""
    handovers: int = 3
    """Changes of specialist."""
    missteps: int = 2
    """Broken or unknown calls, or prose where a call was needed, that the model is told about in a row."""
    prompt_tokens: int = 24_000
    """What one specialist prompt may hold, approximately; older turns are left out above it."""


COUNTED: Mapping[str, str] = {
    "model_calls": "model calls",
    "tool_calls": "tool calls",
    "tokens": "tokens",
    "cost_microusd": "cost microusd",
    "working_s": "seconds of work",
}
"""The limits that `spent` counts against, and what people call them. Steps need none: a step that asks no model is
followed by one that does."""

FOR_ACTING = ("tokens", "cost_microusd", "working_s")
"""Looked at again between a model's answer and the calls it asks for; tool calls are counted there one by one."""


def exhausted(limits: Limits, spent: Mapping[str, int], names: Iterable[str] = COUNTED) -> str | None:
    """Which budget of these is used up, in words for a person; None while there is some of each left."""
    for name in names:
        limit: int = getattr(limits, name)
        if spent.get(name, 0) >= limit:
            return f"the budget of {limit} {COUNTED[name]} is used up"
    return None
