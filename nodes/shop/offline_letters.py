"""What the customer wrote, letter by letter, as the conversation shows it, and what the offline model makes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from nodes.followups import INSTRUCTION
from nodes.shop.offline_reading import Matter, Reading, read
from nodes.shop.offline_vocabulary import INSTEAD, OF_THE_REQUEST, PEOPLE_FIRST, TAKEN_BACK, THANKS, Topic

FENCE = re.compile(r'<data source="(?P<source>[^"]*)">\n(?P<inner>.*?)\n</data>', re.DOTALL)
WAITING = "Waiting for the customer."
"""Ends our last word on a case that is not done yet: what the customer writes then belongs to it."""
MOOT = frozenset({Topic.REFUND, Topic.CANCEL, Topic.TRACK, Topic.VAGUE})
"""What a letter that takes a request back may name, without wanting it."""


@dataclass(frozen=True)
class Letters:
    """The customer's further letters, oldest first."""

    before: tuple[str, ...] = ()
    """Those that were answered: the case was closed after them."""
    new: tuple[str, ...] = ()
    closed: bool = False
    """Whether everything before the new ones is done."""

    @classmethod
    def of(cls, messages: Sequence[BaseMessage]) -> Letters:
        before: list[str] = []
        new: list[str] = []
        closed = False
        answer: str | None = None
        for source, text in _written(messages):
            if source == "answer":
                answer = text
            elif source == "message":
                if answer is not None and not answer.rstrip().endswith(WAITING):
                    before, new, closed = [*before, *new], [], True
                answer = None
                new.append(text)
        return cls(tuple(before), tuple(new), closed)


def last_letter(messages: Sequence[BaseMessage]) -> int:
    """Where in the conversation the newest letter stands; 0, the opening, when none came since."""
    return max((i for i, m in enumerate(messages) if isinstance(m, HumanMessage) and _letters_in(m)), default=0)


def read_letters(first: str, letters: Letters) -> Reading:
    """What is wanted now. `first`: the ticket, as it was when the case began."""
    if not letters.new:
        return read(first)
    earlier = "\n\n".join([first, *letters.before])
    newest = read("\n\n".join(letters.new))
    if _takes_back(newest):
        return replace(newest, matters=(), language=_language(newest, earlier), taken_back=True)
    if letters.closed or INSTEAD.search(newest.text) or Topic.CANCEL in newest.topics:
        return _on(newest, earlier)
    return read("\n\n".join([earlier, *letters.new]))


def _on(newest: Reading, earlier: str) -> Reading:
    """The newest letter alone, about the order that was spoken of before."""
    before = read(earlier).order_ids
    only = before[0] if len(before) == 1 else None
    matters = tuple(_about(matter, only) for matter in newest.matters)
    thanks = not matters and bool(THANKS.search(newest.text))
    return replace(newest, matters=matters, language=_language(newest, earlier), only_thanks=thanks)


def _about(matter: Matter, order_id: str | None) -> Matter:
    return matter if matter.order_id or matter.topic in PEOPLE_FIRST else replace(matter, order_id=order_id)


def _takes_back(newest: Reading) -> bool:
    if not TAKEN_BACK.search(newest.text) or not set(newest.topics) <= MOOT:
        return False
    return Topic.CANCEL not in newest.topics or bool(OF_THE_REQUEST.search(newest.text))


def _language(newest: Reading, earlier: str) -> str | None:
    return newest.language or read(earlier).language


def _written(messages: Sequence[BaseMessage]) -> Iterator[tuple[str, str]]:
    """(source, text) of all that is fenced in what we were told, and of our own last words on the case."""
    for message in messages:
        if isinstance(message, HumanMessage):
            yield from ((fence["source"], fence["inner"]) for fence in FENCE.finditer(message.text))
            if message.text.startswith(INSTRUCTION):
                yield "message", message.text.partition("\n")[2]
        elif isinstance(message, AIMessage) and not message.tool_calls:
            yield "answer", message.text


def _letters_in(message: BaseMessage) -> bool:
    fenced = any(fence["source"] == "message" for fence in FENCE.finditer(message.text))
    return fenced or message.text.startswith(INSTRUCTION)
