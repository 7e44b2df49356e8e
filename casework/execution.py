"""An execution: one case going through a workflow. Its id is the LangGraph thread id."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict


class Status(StrEnum):
    """Where an execution stands. Only `OVER` statuses are final."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    ESCALATED = "escalated"
    FAILED = "failed"
    CANCELLED = "cancelled"


OVER = frozenset({Status.SUCCEEDED, Status.ESCALATED, Status.FAILED, Status.CANCELLED})


class Outcome(StrEnum):
    """How a case ended, and through whom."""

    BY_AGENTS = "by_agents"
    BY_A_PERSON = "by_a_person"
    WITH_PEOPLE = "with_people"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Mode(StrEnum):
    """How far agents go alone in a workflow."""

    COPILOT = "copilot"
    """Every write asks a person. What a new workflow starts in."""
    AUTONOMOUS = "autonomous"
    """Policies alone decide what asks."""


class Execution(BaseModel):
    """One row of `casework.executions`, as the API and the runner read it."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    execution_id: UUID
    workflow: str
    graph_version: str
    """Version of the workflow's graph it was started with."""
    tenant: str
    requester: str
    """Actor id of whoever started it; may never approve its calls."""
    status: Status
    mode: Mode
    input: dict[str, Any]
    """The graph's input: for our workflows goal, case and request."""
    result: dict[str, Any] | None = None
    """The graph's output once it ended: for our workflows outcome and answer."""
    error: str | None = None
    """Why it failed or could not resume, for the operator; None otherwise."""
    fence: int = 0
    """Raised by every claim; a writer whose fence is not this one has lost the lease."""
    cancel_requested: bool = False
    model_calls: int = 0
    tool_calls: int = 0
    tokens: int = 0
    """Input and output tokens of all model calls so far."""
    cost_microusd: int = 0
    """Model cost so far, in millionths of a US dollar."""
    messages: int = 0
    """How many messages came in after its start."""
    messages_read: int = 0
    """How many of them its agents have read, as of the end of its last run."""
    specialist: str | None = None
    """Who worked it when its last run ended; None: not routed yet, or a graph without specialists."""
    owner: str | None = None
    """Actor id of the person who has it, or had it when it was last handed to people; None: nobody took it yet."""
    solved_by: str | None = None
    """Actor id of the person who ended it by hand; None: its agents did, or it goes on."""
    event_seq: int = 0
    """Number of its newest event."""
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None = None
    pruned_at: datetime | None = None
    """When its working memory, the checkpoints, was deleted: it can be read, and not be taken up again."""


class Event(BaseModel):
    """One line of an execution's story, numbered per execution from 1."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    seq: int
    type: str
    """Dotted machine name, e.g. `call.checked`."""
    data: dict[str, Any]
    at: datetime
