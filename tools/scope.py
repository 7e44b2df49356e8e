"""Whose call it is: what the gate and the ledger need to know about the execution and the calling specialist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from casework.actor import Actor
from casework.execution import Mode
from casework.resources import Resources
from policies.verdict import Verdict
from tools.spec import Tool, ToolContext

ExtraPolicy = Callable[[str, BaseModel, Actor], Verdict]
"""A specialist's own policy on top of the tool's: (tool name, arguments, actor) → verdict. Pure."""


@dataclass(frozen=True)
class Caller:
    """The specialist, as the gate sees it."""

    name: str
    tools: Mapping[str, Tool]
    permissions: frozenset[str]
    policies: tuple[ExtraPolicy, ...] = ()


@dataclass(frozen=True)
class Scope:
    """The execution, as the gate and the ledger see it."""

    execution_id: UUID
    actor: Actor
    """Who started it."""
    fence: int
    mode: Mode
    resources: Resources
    case: Mapping[str, str] = field(default_factory=dict)
    """Ids bound at the start; a model cannot change them."""
    suspicions: tuple[str, ...] = ()
    """Signs of injected instructions found in the request."""
    services: Mapping[type[Any], Any] = field(default_factory=dict)

    def key(self, call_id: str, attempt: int = 1) -> str:
        """What an effect is known by: to the ledger as the first attempt's, to its provider as the present one's.

        A new attempt needs a new one: a provider answers a key it knows with that key's first answer, or failure.
        """
        key = f"{self.execution_id}:{call_id}"
        return key if attempt == 1 else f"{key}#{attempt}"

    def context(self, call_id: str, db: AsyncConnection | None, attempt: int = 1) -> ToolContext:
        """What one call of a tool is given. `attempt` above 1: a person said that those before did not happen."""
        return ToolContext(
            execution_id=self.execution_id,
            call_id=call_id,
            key=self.key(call_id, attempt),
            case=self.case,
            actor=self.actor,
            now=self.resources.clock(),
            engine=self.resources.engine,
            db=db,
            services=self.services,
        )
