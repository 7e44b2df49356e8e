"""Seed records as rows: pure functions of a record and the moment of seeding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tools.shop.payments_client import Charge, ProviderRefund
from tools.shop.seed_data import SeedCustomer, SeedEvent, SeedOrder, SeedProduct, SeedTicket
from tools.shop.tables import RefundState, TicketStatus

CARRIER = "Parcelon"
HUB = SeedEvent(days_ago=0, place="Leipzig hub", what="Sorted for onward transport")
HUB_AFTER_DAYS = 0.6

Row = dict[str, Any]


def customer_row(customer: SeedCustomer, now: datetime) -> Row:
    return {
        "customer_id": customer.customer_id,
        "name": customer.name,
        "email": customer.email,
        "tier": customer.tier,
        "language": customer.language,
        "address": customer.address.model_dump(),
        "created_at": _ago(now, customer.since),
    }


def order_row(order: SeedOrder, home: SeedCustomer, products: Mapping[str, SeedProduct], now: datetime) -> Row:
    return {
        "order_id": order.order_id,
        "customer_id": order.customer_id,
        "status": order.status,
        "total_minor": order.total_minor(products),
        "address": home.address.model_dump(),
        "placed_at": _ago(now, order.placed),
    }


def line_rows(order: SeedOrder, products: Mapping[str, SeedProduct]) -> list[Row]:
    return [
        {
            "order_id": order.order_id,
            "line": line,
            "sku": sku,
            "title": products[sku].title,
            "quantity": quantity,
            "unit_price_minor": products[sku].unit_price_minor,
        }
        for line, (sku, quantity) in enumerate(order.lines.items(), start=1)
    ]


def shipment_row(order: SeedOrder, now: datetime) -> Row:
    return {
        "order_id": order.order_id,
        "carrier": CARRIER,
        "tracking_number": f"PN{order.order_id.removeprefix('O-')}00417DE",
        "dispatched_at": _ago(now, order.dispatched),
        "expected_at": _ago(now, order.expected),
        "delivered_at": _ago(now, order.delivered),
    }


def event_rows(order: SeedOrder, city: str, now: datetime) -> list[Row]:
    return [
        {"order_id": order.order_id, "at": _ago(now, event.days_ago), "place": event.place, "what": event.what}
        for event in _journey(order, city)
    ]


def charge_rows(order: SeedOrder, charges: Sequence[Charge], now: datetime) -> list[Row]:
    charged_at = _ago(now, order.dispatched)
    return [
        {
            "charge_id": charge.id,
            "order_id": order.order_id,
            "amount_minor": charge.amount,
            "charged_at": charged_at + timedelta(minutes=number) if charged_at else None,
        }
        for number, charge in enumerate(charges)
    ]


def refund_rows(order: SeedOrder, refunds: Sequence[ProviderRefund], now: datetime) -> list[Row]:
    return [
        {
            "effect_key": f"seed:{order.order_id}:{planned.reason}",
            "order_id": order.order_id,
            "charge_id": made.charge,
            "amount_minor": made.amount,
            "reason": planned.reason,
            "state": RefundState.SUCCEEDED,
            "provider_ref": made.id,
            "created_at": _ago(now, planned.days_ago),
            "settled_at": _ago(now, planned.days_ago),
        }
        for planned, made in zip(order.refunds, refunds, strict=True)
    ]


def ticket_row(ticket: SeedTicket, now: datetime) -> Row:
    came_in = now - timedelta(hours=ticket.hours)
    return {
        "ticket_id": ticket.ticket_id,
        "customer_id": ticket.customer_id,
        "subject": ticket.subject,
        "body": ticket.body,
        "channel": ticket.channel,
        "language": ticket.language,
        "status": TicketStatus.OPEN,
        "created_at": came_in,
        "updated_at": came_in,
    }


def _journey(order: SeedOrder, city: str) -> Iterator[SeedEvent]:
    if order.dispatched is None:
        return
    yield SeedEvent(days_ago=order.dispatched, place="Leipzig", what="Handed to the carrier")
    if order.last_seen is not None:
        yield order.last_seen
        return
    if order.dispatched > HUB_AFTER_DAYS:
        yield HUB.model_copy(update={"days_ago": order.dispatched - HUB_AFTER_DAYS})
    if order.delivered is not None:
        yield SeedEvent(days_ago=order.delivered, place=city, what="Delivered")


def _ago(now: datetime, days: float | None) -> datetime | None:
    return None if days is None else now - timedelta(days=days)
