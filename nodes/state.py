"""What decides a workflow's next step. Plain JSON and messages; anything to list, search or audit is a row.

Changes are additive: checkpoints of paused executions are read by later versions.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from langchain_core.messages import AnyMessage
from langgraph.channels import DeltaChannel
from langgraph.graph.message import _messages_delta_reducer
from typing_extensions import TypedDict

SNAPSHOT_EVERY = 100
"""Updates of `messages` between full snapshots: bounds both what a turn writes and what a load replays."""


class Route(TypedDict):
    """The router's choice."""

    specialist: str
    """Name of one of the workflow's specialists."""
    confidence: float
    """0 to 1, as the model said; a hand-over has 1."""
    reason: str
    """In the model's words."""


class HandOver(TypedDict):
    """One specialist passing the case to another."""

    by: str
    to: str
    summary: str
    """What was done and what is left, in the first one's words."""
    at: int
    """How many messages there were: the next specialist starts reading after them."""


class PendingCall(TypedDict):
    """A call that passed the gate's review, on its way to `handle_call`."""

    call_id: str
    tool: str
    args: dict[str, Any]
    specialist: str
    approval: dict[str, Any] | None
    """The ApprovalRequest as JSON, complete and final; None when nobody is asked."""
    money: NotRequired[dict[str, int]]
    """What is at stake, in minor units by currency; absent in calls judged before it was kept."""


class OpenCall(TypedDict):
    """A call that was made and whose outcome nobody knows, on its way to `settle_call`."""

    call_id: str
    tool: str
    args: dict[str, Any]
    """Exactly as sent; a person may have edited what the model proposed."""
    specialist: str
    votes: int
    """How many people stood behind the call when it was made."""
    question: dict[str, Any]
    """The ApprovalRequest as JSON, complete and final: did it happen?"""


class Outcome(TypedDict):
    """How the case ended."""

    status: Literal["succeeded", "escalated"]
    reason: str
    """Why a person has it now; empty when it succeeded."""
    summary: str
    """What was done, for people."""
    args: NotRequired[dict[str, Any]]
    """The escalation tool's arguments, when a specialist called it."""


def keep_first(old: Outcome | None, new: Outcome | None) -> Outcome | None:
    """Calls of one turn may each end the case; the first to be applied stands."""
    return old or new


def add_up(old: Mapping[str, int] | None, new: Mapping[str, int] | None) -> dict[str, int]:
    """Sum per key."""
    total = dict(old or {})
    for name, amount in (new or {}).items():
        total[name] = total.get(name, 0) + amount
    return total


def settle(old: Mapping[str, OpenCall] | None, new: Mapping[str, OpenCall | None] | None) -> dict[str, OpenCall]:
    """Calls in doubt, by call id; None takes one out."""
    merged = {**(old or {}), **(new or {})}
    return {call_id: call for call_id, call in merged.items() if call is not None}


class CaseInput(TypedDict):
    """What an execution starts with."""

    goal: str
    """What is to be reached, e.g. `resolve ticket T-1042`."""
    case: dict[str, str]
    """Ids the execution is bound to, e.g. customer_id and ticket_id. A model cannot change them."""
    request: str
    """The outsider's own words. Untrusted: data, never instructions."""


class CaseOutput(TypedDict):
    """What an execution ends with."""

    outcome: Outcome
    answer: str
    spent: dict[str, int]
    """As in State."""
    messages_read: int
    """As in State."""
    route: Route
    """As in State."""


class State(TypedDict, total=False):
    """Everything the graph keeps between steps."""

    goal: str
    """As in CaseInput; never changed."""
    case: dict[str, str]
    """As in CaseInput; never changed."""
    request: str
    """As in CaseInput, cleaned by screen_input."""
    suspicions: list[str]
    """Signs of injected instructions in the request; set by screen_input. Any makes every write ask."""
    messages: Annotated[list[AnyMessage], DeltaChannel(_messages_delta_reducer, snapshot_frequency=SNAPSHOT_EVERY)]
    """All specialists' turns: model messages and the answers to their calls."""
    route: Route
    """Who works the case now; set by the router."""
    handovers: Annotated[list[HandOver], operator.add]
    """Every change of specialist, oldest first."""
    calls: list[PendingCall]
    """The calls of the present turn that may be made; set by check_calls."""
    unsettled: Annotated[dict[str, OpenCall], settle]
    """The calls of the present turn whose outcome nobody knows, by call id; the specialist waits until none is left."""
    succeeded: Annotated[list[str], operator.add]
    """Names of the tools that have succeeded since the last message that was read; what `must_call` looks at."""
    untrusted_read: Annotated[bool, operator.or_]
    """Whether text that outsiders wrote has been read."""
    missteps: int
    """Broken turns in a row that the model was told about; any good turn sets it back to 0."""
    spent: Annotated[dict[str, int], add_up]
    """model_calls, tool_calls, tokens, cost_microusd: cumulative over the execution."""
    spent_before: dict[str, int]
    """`spent` when the case was last opened again; budgets count from there."""
    messages_read: int
    """Number of the last further message that was read; 0: none yet."""
    answer: str
    """The final answer, after screen_output."""
    outcome: Annotated[Outcome | None, keep_first]
    """How the case ended; None while it goes on."""


def spent_of_budget(state: State) -> dict[str, int]:
    """What counts against the limits: everything spent since the case was opened, or opened again."""
    before = state.get("spent_before", {})
    return {name: amount - before.get(name, 0) for name, amount in state.get("spent", {}).items()}
