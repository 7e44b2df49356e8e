"""Tools on the customer's orders: list, read, cancel."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from sqlalchemy import update

from casework.errors import CallRefused
from policies.shop.addresses import ChangeAddressArgs
from policies.shop.orders import CancelOrderArgs, OrderFacts, OrderId, OrderStatus, cancellation_policy
from policies.verdict import Deny
from tools.preview import Change, Preview
from tools.shop.order_view import Order, OrderSummary, load_order, load_summaries, own_order
from tools.shop.people import customer_line, goods_line
from tools.shop.tables import orders
from tools.spec import Effect, ToolContext, tool

LISTED_ORDERS = 20
"""How many orders list_orders shows at most."""


class ListOrdersArgs(BaseModel):
    """Nothing to choose: it is always the case's customer."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GetOrderArgs(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    order_id: OrderId


class OrderList(BaseModel):
    orders: list[OrderSummary]
    """Newest first; empty when the customer never ordered."""


class CancelledOrder(BaseModel):
    order_id: str
    status: OrderStatus
    note: str
    """What it means for the customer's money."""


async def order_facts(args: CancelOrderArgs | ChangeAddressArgs, ctx: ToolContext) -> OrderFacts:
    """How the order stands, kept so until the transaction ends."""
    found = await ctx.transaction.execute(own_order(args.order_id, ctx).with_for_update())
    row = found.mappings().one_or_none()
    return OrderFacts(status=row["status"] if row else None)


@tool(effect=Effect.READ, permission="order:read")
async def list_orders(args: ListOrdersArgs, ctx: ToolContext) -> OrderList:
    """List the customer's orders, newest first, with status, total and items.

    Use it when a ticket names no order, a wrong one, or only describes the goods. At most 20 are shown. Only
    orders of the case's customer are here. Takes no arguments; read one in full with get_order.
    """
    return OrderList(orders=await load_summaries(ctx, LISTED_ORDERS))


@tool(effect=Effect.READ, permission="order:read")
async def get_order(args: GetOrderArgs, ctx: ToolContext) -> Order:
    """Read one order: status, lines with prices, delivery date, address, payments and refunds so far.

    Read it before changing, cancelling or refunding it: the amounts to refund are the ones shown here, in cents
    (`amount_minor`). Fails when the case's customer has no order of that id; an order of somebody else counts as
    missing.
    """
    return await load_order(args.order_id, ctx)


async def preview_cancellation(args: CancelOrderArgs, ctx: ToolContext) -> Preview:
    """What would no longer be sent."""
    order = await load_order(args.order_id, ctx)
    return Preview(
        changes=(Change(what=f"Order {args.order_id}", before=order.status, after=OrderStatus.CANCELLED),),
        touches=(await customer_line(ctx), goods_line(order)),
        reversible=False,
        undo="The customer would have to order again. Nothing has been charged yet.",
    )


@tool(
    effect=Effect.TRANSACTIONAL,
    permission="order:cancel",
    policy=cancellation_policy,
    facts=order_facts,
    preview=preview_cancellation,
    summary=lambda args: f"Cancel order {args.order_id}: {args.reason}",
)
async def cancel_order(args: CancelOrderArgs, ctx: ToolContext) -> CancelledOrder:
    """Cancel one whole order of the customer, before the warehouse starts on it. This cannot be undone.

    Only while the order is `pending`; once it is packing, shipped or delivered it is refused. Nothing was charged
    yet at that point, so no refund is needed. Cancel only when the customer asks for it.
    """
    # The warehouse may have started since the policy last looked; order_facts locks the order while we act.
    verdict = cancellation_policy(args, ctx.actor, await order_facts(args, ctx))
    if isinstance(verdict, Deny):
        raise CallRefused(verdict.reason)
    await ctx.transaction.execute(
        update(orders)
        .where(orders.c.order_id == args.order_id)
        .values(status=OrderStatus.CANCELLED, cancel_reason=args.reason)
    )
    return CancelledOrder(
        order_id=args.order_id,
        status=OrderStatus.CANCELLED,
        note="The card had not been charged: there is nothing to refund.",
    )
