"""The offline model's working memory: what was called, what came back, and how to ask for what is missing.

Rules are written straight down, as if every tool answered at once. Each turn they are read again from the top over
the conversation so far: a call that was made gives its result, the first that was not ends the turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from pydantic import BaseModel, ValidationError

from nodes.offline import Reply, ToolCallRequest
from nodes.shop.offline_letters import FENCE, Letters, last_letter
from tools.shop.tickets import Team

Shape = TypeVar("Shape", bound=BaseModel)
Answered = tuple[str, Mapping[str, Any], str]
"""Tool, arguments and answer of a call."""

ONCE = frozenset({"reply_to_customer", "update_ticket"})
"""Made at most once for each letter, so known again by their name: their texts need not be compared."""
READS = ("get_", "list_", "search_", "track_")
"""How the names of tools begin that change nothing."""
HANDED_OVER = re.compile(r"^Handed over by (\w+):", re.MULTILINE)
EDITED = "Note: a person changed the arguments"
UNMADE = ("Error:", "Refused:", "A person answered instead:", "The outcome of this call is not known", "Not made:")
SUMMARY_CHARS, REASON_CHARS = 2000, 200
"""What the escalation and hand-over tools take at most."""


class Turn(Exception):
    """Control flow, no failure: the rules cannot go on before this was said and answered."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


@dataclass(frozen=True)
class NotDone:
    """A call that did not happen."""

    said: str
    """What the tool, the gate or a person said instead."""

    @property
    def by_a_person(self) -> bool:
        return self.said.startswith(("A person answered", "Refused: a person", "Refused: nobody decided"))

    @property
    def refused(self) -> bool:
        return self.said.startswith("Refused:")


@dataclass(frozen=True)
class Desk:
    """One specialist's desk: the conversation so far, and the tools within reach."""

    role: str
    passed_by: tuple[str, ...]
    """Specialists who worked the case before, oldest first."""
    tools: frozenset[str]
    answers: Sequence[Answered] = field(default=())
    """Every call that was answered since the newest letter, oldest first."""
    earlier: Sequence[Answered] = field(default=())
    """Those that were answered before it."""
    letters: Letters = field(default_factory=Letters)

    @classmethod
    def of(cls, role: str, messages: Sequence[BaseMessage], tools: frozenset[str]) -> Desk:
        opening = next((m.text for m in messages if isinstance(m, HumanMessage)), "")
        # The hand-over lines stand before the request, and only there: a ticket may say anything.
        before = opening.split('<data source="request">')[0]
        said = {m.tool_call_id: m.text for m in messages if isinstance(m, ToolMessage)}
        newest = last_letter(messages)
        earlier, answered = (
            tuple((c["name"], c["args"], said[c["id"]]) for m in part for c in _calls(m) if c["id"] in said)
            for part in (messages[:newest], messages[newest:])
        )
        return cls(role, tuple(HANDED_OVER.findall(before)), tools, answered, earlier, Letters.of(messages))

    def ask(self, shape: type[Shape], name: str, **args: Any) -> Shape | NotDone:
        """The call's result; NotDone when it failed or was refused. Ends the turn when it was not made yet."""
        self.ask_together((name, args))
        text = self._answer(name, args) or ""
        if text.startswith(UNMADE):
            return NotDone(text)
        try:
            return shape.model_validate(_result(text))
        except (ValidationError, ValueError):
            return NotDone(f"Error: what {name} returned cannot be read")

    def must(self, shape: type[Shape], name: str, **args: Any) -> Shape:
        """Like `ask`, where nothing can be done without the result: then the case is for people."""
        result = self.ask(shape, name, **args)
        if isinstance(result, NotDone):
            self.escalate(Team.CUSTOMER_CARE, f"{name} gave no result: {result.said}")
        return result

    def ask_together(self, *calls: tuple[str, Mapping[str, Any]]) -> None:
        """End the turn with those of the calls that were not made yet, if any."""
        missing = [(name, args) for name, args in calls if self._answer(name, args) is None]
        for name, _ in missing:
            if name not in self.tools:
                self.escalate(Team.CUSTOMER_CARE, f"This needs {name}, which {self.role} does not have.")
        if missing:
            raise Turn(Reply(calls=[ToolCallRequest(name, dict(args)) for name, args in missing]))

    def escalate(self, team: Team, reason: str, wanted: str = "") -> NoReturn:
        """Hand the case to people. Ends the turn, and the case with it."""
        if "escalate_to_human" not in self.tools or self._answer("escalate_to_human", {}) is not None:
            raise Turn(Reply(text=f"A person must take this case: {reason}"))
        done = "; ".join(self.done()) or "nothing"
        summary = f"{wanted or 'See the ticket.'}\nWhy it is yours: {reason}\nDone so far: {done}."
        args = {"team": team.value, "reason": reason[:REASON_CHARS], "summary": summary[:SUMMARY_CHARS]}
        raise Turn(Reply(calls=[ToolCallRequest("escalate_to_human", args)]))

    def hand_over(self, specialist: str, summary: str) -> NoReturn:
        """Pass the case to another specialist. Ends the turn, and this specialist's work."""
        args = {"specialist": specialist, "summary": summary[:SUMMARY_CHARS]}
        if "hand_over" not in self.tools or self._answer("hand_over", args) is not None:
            self.escalate(Team.CUSTOMER_CARE, f"This is for {specialist}, who could not be given it.", summary)
        raise Turn(Reply(calls=[ToolCallRequest("hand_over", args)]))

    def done(self) -> list[str]:
        """The writes that happened, in a few words each."""
        return [*self.done_before(), *_writes(self.answers)]

    def done_before(self) -> list[str]:
        """Those that happened before the newest letter."""
        return _writes(self.earlier)

    def _answer(self, name: str, args: Mapping[str, Any]) -> str | None:
        """Since the newest letter: what was read before may have changed, and what was not made may be right now."""
        same = ONCE | {"escalate_to_human"}
        for made, given, text in self.answers:
            if made == name and (name in same or given == dict(args)):
                return text
        if name in same or name.startswith(READS):
            return None
        before = (text for made, given, text in self.earlier if made == name and given == dict(args))
        return next((text for text in before if not text.startswith(UNMADE)), None)


def request_in(opening: str) -> str:
    """What the fence called `request` holds; the whole opening when there is no fence."""
    for fence in FENCE.finditer(opening):
        if fence["source"] == "request":
            return fence["inner"]
    return opening


def _writes(calls: Sequence[Answered]) -> list[str]:
    made = [(name, args) for name, args, text in calls if not text.startswith(UNMADE)]
    return [f"{name} {args.get('order_id', '')}".strip() for name, args in made if not name.startswith(READS)]


def _calls(message: BaseMessage) -> list[ToolCall]:
    return message.tool_calls if isinstance(message, AIMessage) else []


def _result(text: str) -> Any:
    """A tool's result as JSON, out of its fence and without a note before it."""
    if text.startswith(EDITED):
        text = text.partition("\n")[2]
    fenced = FENCE.search(text)
    return json.loads(fenced["inner"] if fenced else text)
