"""Whoever asked writes again: what came in since the last message that was read, as data for the models.

What to read follows from the state's number and the rows, so a node that runs again reads the same, or more, and what
was read is saved with the step that read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.types import Overwrite

from casework.faults import fault
from casework.messages import Message, MessageKind, read_after
from nodes.context import Context
from nodes.state import State
from policies import content

SOURCE = "message"
"""What the fence around a message's text names as its source."""
INSTRUCTION = "Instruction of a colleague, "
"""How a person's instruction begins that comes with a case they hand back."""
ID = "message_"
"""Begins the id of a message in the conversation; its number ends it."""


@dataclass(frozen=True)
class News:
    """Messages that a node has read and that the state does not hold yet."""

    came: Sequence[Message] = ()

    @property
    def turns(self) -> list[HumanMessage]:
        """The messages as the models see them. Their own ids make them the same when the node runs again."""
        return [HumanMessage(_told(m), id=f"{ID}{m.number}") for m in self.came]

    @property
    def suspicions(self) -> list[str]:
        return [sign for message in self.came for sign in _suspicions(message)]

    def seen(self, state: State) -> State:
        """The state as it is with them: who writes again is owed an answer of their own."""
        if not self.came:
            return state
        return State(**{**state, "messages": [*state.get("messages", []), *self.turns], "succeeded": []})

    def note(self, context: Context, reader: str) -> None:
        """Tell the story of it. Only once nothing can fail any more: a try that breaks has read nothing."""
        for message in self.came:
            found = _suspicions(message)
            context.journal.note("message.read", number=message.number, by=reader, suspicions=found)

    def joined(self, state: State, update: Mapping[str, Any]) -> dict[str, Any]:
        """A node's update, with what it has read before it."""
        if not self.came:
            return dict(update)
        known = update.get("suspicions", state.get("suspicions", []))
        return {
            **update,
            "messages": [*self.turns, *update.get("messages", [])],
            "messages_read": self.came[-1].number,
            "suspicions": list(dict.fromkeys([*known, *self.suspicions])),
            "succeeded": Overwrite([]),
            "untrusted_read": any(m.kind is MessageKind.MESSAGE for m in self.came),
        }


def _told(message: Message) -> str:
    """Outsiders' words fenced as data; a colleague's instruction as what it is."""
    if message.kind is MessageKind.INSTRUCTION:
        return f"{INSTRUCTION}{message.author}, who has this case in hand:\n{content.clean(message.text)}"
    return content.fence(message.text, SOURCE)


def _suspicions(message: Message) -> list[str]:
    """Signs of injected instructions. A colleague is expected to give some."""
    return content.suspicions(message.text) if message.kind is MessageKind.MESSAGE else []


async def news(state: State, context: Context) -> News:
    """What came in since the last message that was read."""
    came = await read_after(context.resources.engine, context.execution_id, state.get("messages_read", 0))
    if came:
        await fault("after_reading")
    return News(came)


def is_followup(message: BaseMessage) -> bool:
    """Whether a message of the conversation came from whoever asked."""
    return isinstance(message, HumanMessage) and (message.id or "").startswith(ID)
