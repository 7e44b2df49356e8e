"""What a run gives its nodes beside the state: who, which fence, which live things. Never checkpointed.

The runner passes a `Context`. Under `langgraph dev` nothing is passed, and nodes/studio.py makes one.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from casework.actor import Actor
from casework.execution import Mode
from casework.journal import Journal
from casework.resources import Resources
from casework.tokens import Tokens
from nodes.llm import Models
from nodes.state import State, spent_of_budget
from tools.scope import Scope


@dataclass(frozen=True)
class Context:
    """One run's."""

    execution_id: UUID
    requester: Actor
    fence: int
    mode: Mode
    resources: Resources
    models: Models
    tokens: Tokens
    services: Mapping[type[Any], Any] = field(default_factory=dict)
    journal: Journal = field(default_factory=Journal)
    worked_s: float = 0.0
    """How long the execution had been at work when this try began: seconds."""
    began: float = field(default_factory=time.monotonic)
    last_attempt: bool = False
    """Whether this run will not be tried again: what would fail it now escalates the case instead."""
    studio: bool = False
    """Whether `langgraph dev` drives it: the person at the Studio decides, and no worker or approval row is there."""

    def spent(self, state: State) -> dict[str, int]:
        """What counts against the limits, by now."""
        return {**spent_of_budget(state), "working_s": int(self.worked_s + time.monotonic() - self.began)}

    def scope(self, state: State) -> Scope:
        """What the gate needs to know."""
        return Scope(
            execution_id=self.execution_id,
            actor=self.requester,
            fence=self.fence,
            mode=self.mode,
            resources=self.resources,
            case=state.get("case", {}),
            suspicions=tuple(state.get("suspicions", ())),
            services=self.services,
        )


Node = Callable[[Any, Context], Awaitable[dict[str, Any]]]
"""A node of ours: (state, or what it was sent, and the run's context) → state update. graphs/assembly.py binds it."""
