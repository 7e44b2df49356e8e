"""One ticket as the offline model works it: who wrote, in which language, about which order and which goods."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from nodes.shop.offline_desk import Desk, NotDone
from nodes.shop.offline_letters import read_letters
from nodes.shop.offline_lexicon import NUMBERS
from nodes.shop.offline_phrases import ASK_ITEM, ASK_ORDER, NO_ORDERS, NO_SUCH_ORDER, Phrase
from nodes.shop.offline_reading import Matter, Reading, words_of_goods
from nodes.shop.offline_vocabulary import COMPLAINTS, SIGNS, Topic
from policies.shop.orders import OrderStatus
from tools.shop.customers import Customer
from tools.shop.order_view import Order, OrderLine, OrderSummary
from tools.shop.orders import OrderList
from tools.shop.tables import Direction
from tools.shop.tickets import Team, Ticket

UNDERWAY = frozenset({OrderStatus.PENDING, OrderStatus.PACKING, OrderStatus.SHIPPED})
NOT_LEFT = frozenset({OrderStatus.PENDING, OrderStatus.PACKING})
PLAUSIBLE: dict[Topic, frozenset[OrderStatus]] = {
    **dict.fromkeys(COMPLAINTS, frozenset({OrderStatus.DELIVERED})),
    Topic.NOT_DELIVERED: UNDERWAY,
    Topic.TRACK: UNDERWAY,
    Topic.CANCEL: NOT_LEFT,
    Topic.ADDRESS: NOT_LEFT,
}
"""How an order must stand for a matter to be about it, where the text does not say which."""
EVERYTHING = re.compile(
    r"\b(whole|entire|complete) order\b|\beverything\b|\ball of (it|them)\b|\balles\b|\btodo\b", re.IGNORECASE
)
CLAUSE_END = re.compile(r"[,;:()–\n]|\b(?:but|although|though|while|aber|obwohl|mais|pero|aunque)\b", re.IGNORECASE)
_NUMBER = rf"\b(\d{{1,2}}|{'|'.join(NUMBERS)})\b"
ONLY_SO_MANY = re.compile(rf"\b(?:only|just|nur|seulement|solo|sólo)\s+{_NUMBER}", re.IGNORECASE)
PART_OF = re.compile(
    rf"{_NUMBER}\s+(?:out of|of|von|sur|de)\s+(?:(?:the|den|les|las|los|my)\s+)?{_NUMBER}", re.IGNORECASE
)


@dataclass(frozen=True)
class Answer:
    """What one matter came to."""

    say: str
    """The paragraph for the customer."""
    note: str
    """For colleagues, in English."""
    waits: bool = False
    """Whether the customer must answer before anything more can be done."""


class CannotGoOn(Exception):
    """Control flow, no failure: a matter needs the customer's word first."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


@dataclass(frozen=True)
class Case:
    """A ticket that was read."""

    desk: Desk
    ticket: Ticket
    customer: Customer
    reading: Reading

    @classmethod
    def open(cls, desk: Desk) -> Case:
        desk.ask_together(("get_ticket", {}), ("get_customer", {}))
        ticket = desk.must(Ticket, "get_ticket")
        customer = desk.must(Customer, "get_customer")
        inbound = [m.body for m in ticket.messages if m.direction is Direction.INBOUND]
        first = "\n\n".join([ticket.subject, ticket.body, *inbound])
        return cls(desk, ticket, customer, read_letters(first, desk.letters))

    @property
    def language(self) -> str:
        return self.reading.language or self.ticket.language

    @property
    def written_at(self) -> datetime:
        """The latest moment known: a tool knows the clock, the rules do not."""
        return max([self.ticket.created_at, *(m.at for m in self.ticket.messages)])

    @property
    def asks_nothing(self) -> bool:
        """Whether the customer wrote again, and wants nothing more."""
        return not self.reading.suspicious and (self.reading.taken_back or self.reading.only_thanks)

    def say(self, phrase: Phrase, **fields: object) -> str:
        return phrase.say(self.language, **fields)

    def escalate(self, team: Team, reason: str) -> NoReturn:
        """Hand the case to people, with what the customer wants. Ends the turn, and the case with it."""
        about = named(self.reading.matters) or "nothing that can be made out"
        self.desk.escalate(team, reason, f"{self.customer.name} writes, under “{self.ticket.subject}”, about: {about}.")

    def asks(self, phrase: Phrase, note: str, **fields: object) -> CannotGoOn:
        return CannotGoOn(Answer(self.say(phrase, **fields), note, waits=True))

    def order_of(self, matter: Matter) -> Order:
        """The order a matter is about. Raises CannotGoOn with the question to ask when that is not plain."""
        order_id = matter.order_id or self._described(matter)
        order = self.desk.ask(Order, "get_order", order_id=order_id)
        if isinstance(order, NotDone):
            raise self.asks(NO_SUCH_ORDER, f"The customer has no order {order_id}.", order=order_id)
        return order

    def lines_of(self, matter: Matter, order: Order) -> list[tuple[OrderLine, int]]:
        """The lines a complaint is about, each with the pieces concerned. Raises CannotGoOn when that is not plain."""
        if EVERYTHING.search(matter.text):
            return [(line, line.quantity) for line in order.lines]
        clauses = [c for c in CLAUSE_END.split(matter.text) if SIGNS[matter.topic].search(c)]
        for text in (" ".join(clauses), matter.text, self.reading.text):
            named = [line for line in order.lines if _own_words(line, order) & words_of_goods(text)]
            if named and (len(named) < len(order.lines) or len(order.lines) == 1 or text is not self.reading.text):
                return [(line, _pieces(line, matter)) for line in named]
        if len(order.lines) == 1:
            return [(order.lines[0], _pieces(order.lines[0], matter))]
        items = ", ".join(f"{line.quantity} × {line.title}" for line in order.lines)
        raise self.asks(
            ASK_ITEM, f"Not clear which goods of {order.order_id} are meant.", order=order.order_id, items=items
        )

    def _described(self, matter: Matter) -> str:
        """The order that fits the description, the sum or the state of things, if exactly one does."""
        orders = self.desk.must(OrderList, "list_orders").orders
        if not orders:
            raise self.asks(NO_ORDERS, "The customer has no orders.")
        plausible = [o for o in orders if o.status in PLAUSIBLE.get(matter.topic, frozenset(OrderStatus))]
        described = _best_described(plausible or orders, words_of_goods(self.reading.text))
        priced = [o for o in plausible if o.total.amount_minor in self.reading.amounts_minor]
        for fitting in (described, priced, plausible, orders):
            if len(fitting) == 1:
                return fitting[0].order_id
        shown = "; ".join(f"{o.order_id} ({', '.join(o.items)})" for o in plausible or orders)
        raise self.asks(ASK_ORDER, f"Not clear which order is meant: {shown}.", orders=shown)


def named(matters: Sequence[Matter]) -> str:
    """Matters in words, for colleagues."""
    return "; ".join(f"{m.topic.value} ({m.order_id})" if m.order_id else m.topic.value for m in matters)


def _best_described(orders: list[OrderSummary], words: set[str]) -> list[OrderSummary]:
    """Those with most of the words in their items; none when no word fits."""
    hits = {o.order_id: len(words_of_goods(" ".join(o.items)) & words) for o in orders}
    most = max(hits.values(), default=0)
    return [o for o in orders if most and hits[o.order_id] == most]


def _own_words(line: OrderLine, order: Order) -> set[str]:
    """The words of a line's title that no other line of the order has."""
    others = (words_of_goods(other.title) for other in order.lines if other is not line)
    return words_of_goods(line.title).difference(*others)


def _pieces(line: OrderLine, matter: Matter) -> int:
    """How many pieces of a line a complaint is about; all of them when the text does not say."""
    only = ONLY_SO_MANY.search(matter.text)
    if matter.topic is Topic.MISSING_ITEM and only:
        return max(1, line.quantity - _number(only[1]))
    part = PART_OF.search(matter.text)
    if part and _number(part[2]) == line.quantity:
        return min(line.quantity, _number(part[1]))
    before = re.compile(rf"{_NUMBER}\s+(?:[^\W\d]+\s+){{0,3}}?(?:{SIGNS[matter.topic].pattern})", re.IGNORECASE)
    counted = before.search(matter.text)
    if counted:
        return min(line.quantity, _number(counted[1]))
    return 1 if _speaks_of_one(line, matter.text) else line.quantity


def _speaks_of_one(line: OrderLine, text: str) -> bool:
    """Whether the goods stand in the singular wherever they are named."""
    singulars = words_of_goods(line.title)
    tokens = set(re.findall(r"[^\W\d_]{3,}", text.lower()))
    return bool(tokens & singulars) and not any(f"{word}s" in tokens for word in singulars)


def _number(word: str) -> int:
    return int(word) if word.isdigit() else NUMBERS[word.lower()]
