"""An execution's events in people's words. What has no words here is told by its own name, never left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from casework.approval import Kind
from casework.execution import Event
from server.ui.text import Row, brief, rows_of, usd


class Tone(StrEnum):
    """How much a line matters to a reader."""

    QUIET = "quiet"
    PLAIN = "plain"
    GOOD = "good"
    ASKS = "asks"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True)
class Words:
    """How one type of event is told: texts with its data's fields in braces."""

    tone: Tone
    title: str
    text: str = ""
    node: str = ""
    """The graph's node that it shows to have run."""
    by_model: bool = False
    """Whether `text` is the model's own words."""


@dataclass(frozen=True)
class Line:
    """One event, told."""

    event: Event
    words: Words

    @property
    def args(self) -> list[Row]:
        """Arguments of the call that it is about."""
        found = self.event.data.get("args")
        return list(rows_of(found)) if isinstance(found, Mapping) else []

    @property
    def result(self) -> Any:
        """What the call brought; None without."""
        return self.event.data.get("result")

    @property
    def cost(self) -> str:
        """What a model took for it; empty without."""
        tokens, cost = self.event.data.get("tokens"), self.event.data.get("cost_microusd")
        if not isinstance(tokens, int):
            return ""
        return f"{tokens:,} tokens" + (f", {usd(cost)}" if isinstance(cost, int) and cost else "")


STORY: dict[str, Words] = {
    "execution.created": Words(Tone.PLAIN, "{by} started {workflow}", "Mode: {mode}."),
    "execution.cancel_requested": Words(Tone.WARN, "{by} asked to cancel"),
    "execution.cancelled": Words(Tone.BAD, "Cancelled"),
    "execution.escalated": Words(Tone.WARN, "Handed to a person", "{reason}"),
    "execution.reopened": Words(Tone.PLAIN, "Opened again"),
    "message.received": Words(Tone.PLAIN, "{by} passed on a further message", "{text}"),
    "message.read": Words(Tone.QUIET, "{by} read message {number}"),
    "execution.pruned": Words(Tone.QUIET, "Its working memory was deleted", "It ended long ago; its story stays."),
    "run.started": Words(Tone.QUIET, "A worker took it up ({kind}, attempt {attempt})"),
    "run.released": Words(Tone.WARN, "Given back, to be tried again", "{error}"),
    "run.finished": Words(Tone.QUIET, "The run ended: {status}", "{error}"),
    "input.screened": Words(Tone.QUIET, "Request screened", node="screen_input"),
    "case.routed": Words(Tone.PLAIN, "Routed to {specialist}", "{reason}", "router", by_model=True),
    "router.gave_up": Words(Tone.WARN, "The router gave up", "{reason}", "router"),
    "case.handed_over": Words(Tone.PLAIN, "{by} handed over to {to}", "{summary}", "router", by_model=True),
    "model.answered": Words(Tone.PLAIN, "{specialist} thinks", "{text}", by_model=True),
    "specialist.left": Words(Tone.QUIET, "{specialist} left the case by {by}", node="check_calls"),
    "budget.exhausted": Words(Tone.WARN, "Budget exhausted", "{reason}"),
    "call.checked": Words(Tone.QUIET, "{tool} may be called", "{reason}", "check_calls"),
    "call.broken": Words(Tone.WARN, "{tool} was called wrongly", "{error}", "check_calls"),
    "call.denied": Words(Tone.WARN, "{tool} was refused", "{reason}", "check_calls"),
    "call.succeeded": Words(Tone.GOOD, "{tool} succeeded", node="handle_call"),
    "call.failed": Words(Tone.BAD, "{tool} failed", "{error}", "handle_call"),
    "call.unknown": Words(Tone.BAD, "Nobody knows whether {tool} happened", "{error}", "handle_call"),
    "call.left_open": Words(Tone.WARN, "Nobody found out whether {tool} happened", "{reason}", "settle_call"),
    "call.answered": Words(Tone.PLAIN, "{tool} was not called", "{answer}", "handle_call"),
    "effect.started": Words(Tone.QUIET, "{tool} was begun, and written down before it was sent", node="handle_call"),
    "effect.done": Words(Tone.QUIET, "{tool} is in the ledger: done", node="handle_call"),
    "effect.failed": Words(Tone.QUIET, "{tool} is in the ledger: failed, nothing happened", "{error}", "handle_call"),
    "effect.unknown": Words(Tone.BAD, "{tool} is in the ledger: nobody knows", "{error}", "handle_call"),
    "approval.requested": Words(Tone.ASKS, "A person is asked", "{description}", "handle_call"),
    "approval.voted": Words(Tone.PLAIN, "{by} approved: {votes} of {needed}"),
    "approval.edited": Words(Tone.PLAIN, "{by} changed the arguments"),
    "approval.decided": Words(Tone.PLAIN, "{by} decided on {tool}: {state}"),
    "approval.superseded": Words(Tone.WARN, "The question about {tool} no longer counts", "{reason}"),
    "output.screened": Words(Tone.QUIET, "Answer screened", node="screen_output"),
    "case.closed": Words(Tone.GOOD, "Resolved", "{answer}", "close", by_model=True),
    "case.taken_over": Words(Tone.WARN, "{by} took the case over", "{reason}"),
    "case.assigned": Words(Tone.PLAIN, "{to} has the case now"),
    "case.solved": Words(Tone.GOOD, "{by} solved it by hand", "{note}"),
    "case.handed_back": Words(Tone.PLAIN, "{by} handed it back to the agents", "{instruction}"),
    "case.escalated": Words(Tone.WARN, "Handed to a person", "{reason}", "escalate"),
    "escalation.failed": Words(Tone.BAD, "The business system could not be told", "{error}", "escalate"),
}


OUTCOMES: dict[str, tuple[Tone, str]] = {
    "happened": (Tone.GOOD, "{by} found out that {tool} happened"),
    "did_not_happen": (Tone.WARN, "{by} found out that {tool} did not happen"),
    "stopped": (Tone.WARN, "{by} left open whether {tool} happened"),
}
"""How the answer to `did it happen?` is told, by the approval's state."""


class _Fields(dict[str, Any]):
    """An event's data; what is missing or empty reads as nothing."""

    def __missing__(self, name: str) -> str:
        return ""


def told(event: Event) -> Line:
    """One event in people's words."""
    words = _special(event) or STORY.get(event.type) or Words(Tone.PLAIN, event.type)
    fields = _Fields({name: value for name, value in event.data.items() if value is not None})
    return Line(
        event,
        Words(
            words.tone,
            words.title.format_map(fields),
            words.text.format_map(fields),
            words.node.format_map(fields),
            words.by_model,
        ),
    )


def visited(events: Iterable[Event]) -> list[str]:
    """The graph's nodes that the story shows to have run, in order."""
    nodes = [told(event).words.node for event in events]
    return [node for node in nodes if node]


def _special(event: Event) -> Words | None:
    """Where the data decides the tone or the words."""
    data = event.data
    match event.type:
        case "input.screened" if data.get("suspicions"):
            signs = _braced(_listed(data["suspicions"]))
            return Words(Tone.WARN, "The request may carry injected instructions", signs, "screen_input")
        case "message.read" if data.get("suspicions"):
            signs = _braced(_listed(data["suspicions"]))
            return Words(Tone.WARN, "Message {number} may carry injected instructions", signs)
        case "call.checked" if data.get("verdict") == "needs_approval":
            return Words(Tone.ASKS, "{tool} needs a person", "{reason}", "check_calls")
        case "model.answered" if data.get("calls"):
            names = _listed(call.get("tool", "?") for call in data["calls"] if isinstance(call, Mapping))
            return Words(
                Tone.PLAIN, f"{{specialist}} proposes {_braced(names)}", "{text}", "{specialist}", by_model=True
            )
        case "model.answered":
            return Words(Tone.PLAIN, "{specialist} answers", "{text}", "{specialist}", by_model=True)
        case "approval.requested" if data.get("kind") == Kind.OUTCOME:
            return Words(Tone.ASKS, "A person is asked what happened", "{description}", "settle_call")
        case "approval.decided" if data.get("state") in OUTCOMES:
            tone, title = OUTCOMES[data["state"]]
            return Words(tone, title, node="settle_call")
        case "approval.decided" if data.get("state") in ("rejected", "expired"):
            return Words(Tone.WARN, "{by} decided on {tool}: {state}")
        case "approval.decided" if data.get("state") == "approved":
            return Words(Tone.GOOD, "{by} decided on {tool}: {state}")
        case "effect.started" if data.get("attempt", 1) > 1:
            return Words(Tone.PLAIN, "{tool} was begun again: attempt {attempt}, under a new key", node="settle_call")
        case "run.finished" if data.get("status") in ("failed", "waiting") and data.get("error"):
            return Words(Tone.BAD, "The run ended: {status}", "{error}")
    return None


def _listed(names: Iterable[object]) -> str:
    return brief(", ".join(map(str, names)))


def _braced(text: str) -> str:
    """Text that may stand in a format string."""
    return text.replace("{", "{{").replace("}", "}}")
