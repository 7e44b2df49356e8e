"""A workflow and its specialists, as data. What a package of your own writes to have a process run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework.errors import GraphInvalid
from casework.settings import Settings
from nodes.offline import OfflineRules
from policies.limits import Limits
from tools.scope import Caller, ExtraPolicy
from tools.spec import Effect, Tool

Services = Mapping[type[Any], Any]


@dataclass(frozen=True)
class Specialist:
    """An agent: prompt, model role, tools, permissions and policies of its own."""

    name: str
    """A word; the router's choice and the graph's node."""
    description: str
    """One line for the router: which cases are this one's."""
    instructions: str
    """The prompt's own part: who it is, how it works a case, when it stops."""
    tools: tuple[Tool, ...]
    permissions: frozenset[str]
    """What it may do; a tool whose permission is missing here is refused when it is called, too."""
    must_call: tuple[str, ...] = ()
    """Before its final answer counts, one of these tools must have succeeded, and anew after each further message."""
    model_role: str = "specialist"
    """Which of the configured models it thinks with."""
    policies: tuple[ExtraPolicy, ...] = ()
    """Policies on top of the tools' own."""

    def caller(self) -> Caller:
        """How the gate sees it."""
        return Caller(self.name, {t.name: t for t in self.tools}, self.permissions, self.policies)


class OpenedCase(BaseModel):
    """What an execution begins with: the graph's input."""

    model_config = ConfigDict(frozen=True)

    goal: str
    """What is to be reached, e.g. `resolve ticket T-1042`."""
    case: dict[str, str]
    """Ids the execution is bound to; tools take them from here, never from the model."""
    request: str
    """The outsider's own words: untrusted."""


OpenCase = Callable[[Any, AsyncConnection], Awaitable[Mapping[str, Any]]]
ServicesFactory = Callable[[Settings], AbstractAsyncContextManager[Services]]
Prepare = Callable[[AsyncEngine, Services], Awaitable[None]]


def no_services(settings: Settings) -> AbstractAsyncContextManager[Services]:
    """For workflows whose tools need nothing opened."""
    return nullcontext({})


@dataclass(frozen=True)
class Workflow:
    """A named business process. `graphs.assembly.assemble` makes its graph."""

    name: str
    description: str
    """One paragraph for the people who start or oversee it."""
    owner: str
    """Who answers for it."""
    specialists: tuple[Specialist, ...]
    intake: type[BaseModel]
    """What a caller sends to start one."""
    open_case: OpenCase
    """(intake, db) → what OpenedCase holds. Raises NotFound for what does not exist or is not the caller's."""
    escalation: Tool
    """Hands the case to people; takes `reason` and `summary`. Transactional, and never asks."""
    limits: Limits = field(default_factory=Limits)
    confidence_floor: float = 0.6
    """A route chosen with less confidence goes to a person; 0 to 1."""
    services: ServicesFactory = no_services
    """Opens what the tools need besides our database; open for the life of the process."""
    prepare: Prepare | None = None
    """Makes and fills the business tables of a demo. Repeatable. Run by `casework up` and `casework migrate`."""
    offline: OfflineRules | None = None
    """How the offline model plays this workflow; None: it escalates every case."""

    def __post_init__(self) -> None:
        names = [s.name for s in self.specialists]
        if not names or len(set(names)) != len(names):
            raise GraphInvalid(f"workflow {self.name}: specialists must be at least one, each with its own name")
        for name in names:
            if not name.isidentifier() or name.startswith("_"):
                raise GraphInvalid(
                    f"workflow {self.name}: {name!r} cannot name a specialist: use letters, digits and _"
                )
        if self.escalation.effect is not Effect.TRANSACTIONAL or self.escalation.asks:
            raise GraphInvalid(f"workflow {self.name}: the escalation tool must be transactional and never ask")
        for specialist in self.specialists:
            missing = {t.permission for t in specialist.tools} - specialist.permissions
            if missing:
                raise GraphInvalid(f"specialist {specialist.name} has tools without the permission: {sorted(missing)}")

    def forbid_names(self, taken: frozenset[str]) -> None:
        """Raises GraphInvalid when a specialist has one of these names."""
        clash = taken & {s.name for s in self.specialists}
        if clash:
            raise GraphInvalid(f"workflow {self.name}: these specialist names are taken by the machinery: {clash}")

    def specialist(self, name: str) -> Specialist:
        """Raises GraphInvalid for a name that is not one of its specialists."""
        for specialist in self.specialists:
            if specialist.name == name:
                return specialist
        raise GraphInvalid(f"workflow {self.name} has no specialist {name!r}")
