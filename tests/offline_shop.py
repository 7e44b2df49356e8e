"""A small hand-made shop for the offline model: answers its tool calls from memory, and plays a case to its end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from nodes.offline import Reply, ToolCallRequest
from nodes.shop.billing import billing
from nodes.shop.general import general
from nodes.shop.offline_rules import support_rules
from nodes.shop.shipping import shipping
from policies.content import fence

SPECIALISTS = {s.name: s for s in (billing, shipping, general)}
HOME = {"recipient": "Ada Byron", "street": "Ringstraße 1", "postal_code": "04105", "city": "Leipzig", "country": "DE"}
NOW = "2026-11-20T10:00:00Z"
WRITES = {"issue_refund", "cancel_order", "change_shipping_address"}


def money(minor: int) -> dict[str, Any]:
    return {"amount_minor": minor, "currency": "EUR", "display": f"{minor // 100}.{minor % 100:02d} EUR"}


def order(
    order_id: str = "O-7001",
    status: str = "delivered",
    lines: Mapping[str, tuple[int, int]] | None = None,
    *,
    delivered: str | None = "2026-11-15T09:00:00Z",
    charges: int = 1,
    refunds: tuple[tuple[int, str], ...] = (),
) -> dict[str, Any]:
    """An order of `title: (quantity, unit price)`; one vase unless said otherwise."""
    goods = lines or {"Stoneware vase": (1, 3490)}
    total = sum(quantity * price for quantity, price in goods.values())
    sent = status in ("shipped", "delivered")
    return {
        "order_id": order_id,
        "status": status,
        "placed_at": "2026-11-05T09:00:00Z",
        "delivered_at": delivered if status == "delivered" else None,
        "total": money(total),
        "lines": [
            {"sku": title, "title": title, "quantity": q, "unit_price": money(p), "line_total": money(q * p)}
            for title, (q, p) in goods.items()
        ],
        "ships_to": HOME,
        "payments": [
            {"charge_id": f"ch_{n}", "paid": money(total), "charged_at": "2026-11-10T09:00:00Z"}
            for n in range(charges if sent else 0)
        ],
        "refunds": [
            {"amount": money(m), "reason": reason, "state": "succeeded", "created_at": "2026-11-16T09:00:00Z"}
            for m, reason in refunds
        ],
    }


@dataclass
class Shop:
    """Answers tool calls from memory, and plays a specialist until it ends its turn for good."""

    text: str
    orders: list[dict[str, Any]] = field(default_factory=lambda: [order()])
    overdue_days: int = 0
    moved_at: str = "2026-11-18T09:00:00Z"
    articles: list[dict[str, str]] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    """Tool → what it answers instead of a result."""
    replied_to: bool = False

    def play(
        self, role: str, passed: str = "", without: frozenset[str] = frozenset()
    ) -> tuple[list[ToolCallRequest], str]:
        """All calls in order, and the final text ("" when it escalated or handed over)."""
        opening = f"Goal: resolve it\n\n{passed}\n\n{fence(self.text, 'request')}"
        messages: list[BaseMessage] = [SystemMessage("instructions"), HumanMessage(opening)]
        tools = (frozenset(t.name for t in SPECIALISTS[role].tools) | {"hand_over"}) - without
        made: list[ToolCallRequest] = []
        for turn in range(12):
            reply = support_rules(role, messages, tools)
            made += reply.calls
            if not reply.calls or reply.calls[0].name in ("escalate_to_human", "hand_over"):
                return made, reply.text
            messages += self.answered(reply, turn)
        raise AssertionError(f"it does not end: {made}")

    def answered(self, reply: Reply, turn: int) -> list[BaseMessage]:
        calls = [{"name": c.name, "args": c.args, "id": f"{turn}.{n}"} for n, c in enumerate(reply.calls)]
        answers = [
            ToolMessage(self.answer(c.name, c.args), name=c.name, tool_call_id=f"{turn}.{n}")
            for n, c in enumerate(reply.calls)
        ]
        return [AIMessage(reply.text, tool_calls=calls), *answers]

    def answer(self, name: str, args: dict[str, Any]) -> str:
        if name in self.said:
            return self.said[name]
        result = RESULTS[name](self, args)
        if result is None:
            return f"Error: this customer has no order {args['order_id']}; list_orders shows the ones that exist"
        text = json.dumps(result, ensure_ascii=False)
        return fence(text, name) if name == "get_ticket" else text

    def order(self, args: dict[str, Any]) -> dict[str, Any] | None:
        return next((o for o in self.orders if o["order_id"] == args["order_id"]), None)

    def ticket(self) -> dict[str, Any]:
        subject, _, body = self.text.partition("\n\n")
        mine = {"ticket_id": "T-1", "subject": subject, "body": body, "channel": "email", "language": "en"}
        return mine | {"status": "open", "created_at": NOW, "messages": []}

    def listed(self) -> dict[str, Any]:
        shown = [{k: o[k] for k in ("order_id", "status", "placed_at", "total")} for o in self.orders]
        items = [[f"{line['quantity']} × {line['title']}" for line in o["lines"]] for o in self.orders]
        return {"orders": [o | {"items": i} for o, i in zip(shown, items, strict=True)]}

    def parcel(self, args: dict[str, Any]) -> dict[str, Any]:
        found = self.order(args) or {}
        return {
            "order_id": args["order_id"],
            "status": found["status"],
            "carrier": "Parcelon",
            "tracking_number": "PN1",
            "dispatched_at": "2026-11-06T09:00:00Z",
            "expected_at": "2026-11-17T09:00:00Z",
            "delivered_at": found["delivered_at"],
            "overdue_days": self.overdue_days,
            "events": [{"at": self.moved_at, "place": "Hub", "what": "Sorted"}],
        }


CUSTOMER = {"customer_id": "C-1", "name": "Ada Byron", "email": "ada@example.com", "tier": "standard"}
RESULTS: dict[str, Callable[[Shop, dict[str, Any]], Any]] = {
    "get_ticket": lambda shop, args: shop.ticket(),
    "get_customer": lambda shop, args: CUSTOMER | {"language": "en", "address": HOME, "customer_since": "2025-01-01"},
    "get_order": lambda shop, args: shop.order(args),
    "list_orders": lambda shop, args: shop.listed(),
    "track_shipment": lambda shop, args: shop.parcel(args),
    "search_knowledge": lambda shop, args: {"articles": shop.articles},
    "issue_refund": lambda shop, args: {
        "order_id": args["order_id"],
        "amount": money(args["amount_minor"]),
        "reason": args["reason"],
        "provider_ref": "re_1",
    },
    "cancel_order": lambda shop, args: {
        "order_id": args["order_id"],
        "status": "cancelled",
        "note": "Nothing charged.",
    },
    "change_shipping_address": lambda shop, args: {"order_id": args["order_id"], "ships_to": args["address"]},
    "reply_to_customer": lambda shop, args: {"ticket_id": "T-1", "recipient": "ada@example.com"},
    "update_ticket": lambda shop, args: {"ticket_id": "T-1", "status": args["status"]},
}
RETURNS = {"article_id": "A-1", "title": "Returning", "snippet": "Return an unused item within a month."}
WARRANTY = {"article_id": "A-2", "title": "Two-year warranty", "snippet": "Lamps carry a warranty of two years."}
RESERVED = {"article_id": "A-3", "title": "Card", "snippet": "Your bank shows a reservation until the card is charged."}


def args_of(made: list[ToolCallRequest], name: str) -> list[dict[str, Any]]:
    return [call.args for call in made if call.name == name]


def effects(made: list[ToolCallRequest]) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, call.args) for call in made if call.name in WRITES]


def letter(made: list[ToolCallRequest]) -> str:
    (reply,) = args_of(made, "reply_to_customer")
    return str(reply["body"])


def status(made: list[ToolCallRequest]) -> str:
    (update,) = args_of(made, "update_ticket")
    return str(update["status"])


def team(made: list[ToolCallRequest]) -> str:
    assert not args_of(made, "reply_to_customer")
    return str(args_of(made, "escalate_to_human")[0]["team"])
