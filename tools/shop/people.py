"""Whom and what a call concerns, in a line for the approver."""

from __future__ import annotations

from sqlalchemy import select

from tools.shop.order_view import Order
from tools.shop.tables import customers
from tools.spec import ToolContext


async def customer_line(ctx: ToolContext) -> str:
    """The case's customer by name, id and tier."""
    customer_id = ctx.case["customer_id"]
    found = await ctx.transaction.execute(
        select(customers.c.name, customers.c.tier).where(customers.c.customer_id == customer_id)
    )
    row = found.one_or_none()
    return f"{row.name} ({customer_id}, {row.tier})" if row is not None else customer_id


def goods_line(order: Order) -> str:
    """What was ordered."""
    goods = ", ".join(f"{line.quantity} × {line.title}" for line in order.lines)
    return f"order {order.order_id}, {order.total.display}: {goods}"
