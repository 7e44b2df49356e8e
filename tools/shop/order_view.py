"""Orders as the tools show them, and how they are read. Everything here sees the case's customer's orders only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy import RowMapping, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from casework.errors import ToolFailed
from policies.shop.addresses import Address
from policies.shop.money import Money
from policies.shop.orders import OrderStatus, no_such_order
from policies.shop.refunds import RefundReason
from tools.shop.tables import RefundState, charges, order_lines, orders, refunds, shipments
from tools.spec import ToolContext


class OrderSummary(BaseModel):
    order_id: str
    status: OrderStatus
    placed_at: datetime
    total: Money
    items: list[str]
    """Quantity and title, e.g. `2 × Linen cushion`."""


class OrderLine(BaseModel):
    sku: str
    title: str
    quantity: int
    unit_price: Money
    line_total: Money


class OrderPayment(BaseModel):
    charge_id: str
    """The payment provider's id."""
    paid: Money
    charged_at: datetime


class OrderRefund(BaseModel):
    amount: Money
    reason: RefundReason
    state: RefundState
    created_at: datetime


class Order(BaseModel):
    order_id: str
    status: OrderStatus
    placed_at: datetime
    delivered_at: datetime | None
    """None: not delivered, as far as the carrier told us."""
    total: Money
    lines: list[OrderLine]
    ships_to: Address
    payments: list[OrderPayment]
    """Oldest first. Empty before dispatch, when the card is charged; more than one means it was charged twice."""
    refunds: list[OrderRefund]
    """Oldest first. Failed ones paid nothing."""


def own_order(order_id: str, ctx: ToolContext) -> Select[Any]:
    """The order's row if it is the case's customer's; no row otherwise."""
    return select(orders).where(orders.c.order_id == order_id, orders.c.customer_id == ctx.case["customer_id"])


async def load_summaries(ctx: ToolContext, limit: int) -> list[OrderSummary]:
    """The customer's latest orders, newest first."""
    latest = await _rows(
        ctx.transaction,
        select(orders)
        .where(orders.c.customer_id == ctx.case["customer_id"])
        .order_by(orders.c.placed_at.desc(), orders.c.order_id)
        .limit(limit),
    )
    items: dict[str, list[str]] = {row["order_id"]: [] for row in latest}
    lines = select(order_lines).where(order_lines.c.order_id.in_(items)).order_by(order_lines.c.line)
    for line in await _rows(ctx.transaction, lines):
        items[line["order_id"]].append(f"{line['quantity']} × {line['title']}")
    return [
        OrderSummary(
            order_id=row["order_id"],
            status=row["status"],
            placed_at=row["placed_at"],
            total=Money.of(row["total_minor"]),
            items=items[row["order_id"]],
        )
        for row in latest
    ]


async def load_order(order_id: str, ctx: ToolContext) -> Order:
    """One order in full. Raises ToolFailed when the case's customer has none of that id."""
    db = ctx.transaction
    row = (await db.execute(own_order(order_id, ctx))).mappings().one_or_none()
    if row is None:
        raise ToolFailed(no_such_order(order_id))
    lines = select(order_lines).where(order_lines.c.order_id == order_id).order_by(order_lines.c.line)
    paid = select(charges).where(charges.c.order_id == order_id).order_by(charges.c.charged_at)
    refunded = select(refunds).where(refunds.c.order_id == order_id).order_by(refunds.c.refund_id)
    return Order(
        order_id=order_id,
        status=row["status"],
        placed_at=row["placed_at"],
        delivered_at=await db.scalar(select(shipments.c.delivered_at).where(shipments.c.order_id == order_id)),
        total=Money.of(row["total_minor"]),
        lines=[_line(line) for line in await _rows(db, lines)],
        ships_to=Address.model_validate(row["address"]),
        payments=[_payment(charge) for charge in await _rows(db, paid)],
        refunds=[_refund(refund) for refund in await _rows(db, refunded)],
    )


async def _rows(db: AsyncConnection, query: Select[Any]) -> list[RowMapping]:
    return list((await db.execute(query)).mappings())


def _line(row: RowMapping) -> OrderLine:
    return OrderLine(
        sku=row["sku"],
        title=row["title"],
        quantity=row["quantity"],
        unit_price=Money.of(row["unit_price_minor"]),
        line_total=Money.of(row["quantity"] * row["unit_price_minor"]),
    )


def _payment(row: RowMapping) -> OrderPayment:
    return OrderPayment(charge_id=row["charge_id"], paid=Money.of(row["amount_minor"]), charged_at=row["charged_at"])


def _refund(row: RowMapping) -> OrderRefund:
    return OrderRefund(
        amount=Money.of(row["amount_minor"]),
        reason=row["reason"],
        state=row["state"],
        created_at=row["created_at"],
    )
