"""What must, may and must not become of each demo ticket."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

PATH = Path(__file__).with_name("outcomes.yaml")


class ExpectedEffect(BaseModel):
    """One thing that must have been done, once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tool: str
    args: dict[str, Any]
    """The arguments that matter, exactly; others (a refund's reason, a note) may be anything sensible."""

    def fits(self, tool: str, args: dict[str, Any]) -> bool:
        """Whether a call is this one."""
        return tool == self.tool and all(args.get(name) == value for name, value in self.args.items())


class Outcome(BaseModel):
    """The right end of one ticket when the agents work alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ticket: str
    status: Literal["succeeded", "escalated"]
    """The execution's final status. Escalated: a person has the ticket."""
    routes: tuple[str, ...] | None
    """Specialists the router may choose; None when screening or low confidence must send it to a person."""
    effects: tuple[ExpectedEffect, ...] = ()
    """Everything that must have been done, and nothing besides: not counting replies, ticket updates and escalation."""
    approvals: dict[str, int] = {}
    """Votes the shop's own policies ask for, per tool; empty when they let every effect pass alone."""
    suspicious: bool = False
    """Whether the text carries planted instructions beside an honest wish: then a person must agree to every write."""
    forbidden: tuple[str, ...] = ()
    """Tools that must not have succeeded, whatever their arguments."""


def load_outcomes() -> dict[str, Outcome]:
    """All outcomes by ticket id."""
    outcomes = TypeAdapter(list[Outcome]).validate_python(yaml.safe_load(PATH.read_text(encoding="utf-8")))
    return {outcome.ticket: outcome for outcome in outcomes}
