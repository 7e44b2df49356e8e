"""Tools on the parcels of the customer's orders: track, send elsewhere."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select, update

from casework.errors import CallRefused, ToolFailed
from policies.shop.addresses import Address, ChangeAddressArgs, address_policy
from policies.shop.orders import OrderId, OrderStatus, no_such_order
from policies.verdict import Deny
from tools.preview import Change, Preview
from tools.shop.order_view import load_order, own_order
from tools.shop.orders import order_facts
from tools.shop.people import customer_line, goods_line
from tools.shop.tables import orders, shipments, tracking_events
from tools.spec import Effect, ToolContext, tool


class TrackShipmentArgs(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    order_id: OrderId


class TrackingEvent(BaseModel):
    at: datetime
    place: str
    what: str
    """In the carrier's words."""


class Tracking(BaseModel):
    order_id: str
    status: OrderStatus
    carrier: str
    tracking_number: str
    dispatched_at: datetime
    expected_at: datetime
    """When we told the customer it would arrive."""
    delivered_at: datetime | None
    overdue_days: int
    """Whole days past `expected_at` without delivery; 0 when delivered or not yet due."""
    events: list[TrackingEvent]
    """Newest first."""


class ReaddressedOrder(BaseModel):
    order_id: str
    ships_to: Address


@tool(effect=Effect.READ, permission="shipment:read")
async def track_shipment(args: TrackShipmentArgs, ctx: ToolContext) -> Tracking:
    """Read where the parcel of one order is: carrier, tracking number, expected and real delivery, carrier's events.

    Takes the order's id, not the carrier's tracking number. Fails when the order has not been dispatched yet, and
    when the case's customer has no such order (somebody else's counts as missing).
    """
    order = (await ctx.transaction.execute(own_order(args.order_id, ctx))).mappings().one_or_none()
    if order is None:
        raise ToolFailed(no_such_order(args.order_id))
    found = await ctx.transaction.execute(select(shipments).where(shipments.c.order_id == args.order_id))
    parcel = found.mappings().one_or_none()
    if parcel is None:
        raise ToolFailed(f"order {args.order_id} is {order['status']} and was never dispatched: there is no parcel")
    events = await ctx.transaction.execute(
        select(tracking_events).where(tracking_events.c.order_id == args.order_id).order_by(tracking_events.c.at.desc())
    )
    late = ctx.now - parcel["expected_at"]
    return Tracking.model_validate(
        {
            **parcel,
            "status": order["status"],
            "overdue_days": 0 if parcel["delivered_at"] else max(0, late.days),
            "events": [dict(event) for event in events.mappings()],
        }
    )


async def preview_address(args: ChangeAddressArgs, ctx: ToolContext) -> Preview:
    """Where it goes now, and where it would go."""
    order = await load_order(args.order_id, ctx)
    sends = Change(what="Ships to", before=order.ships_to.one_line(), after=args.address.one_line())
    return Preview(
        changes=(sends,),
        touches=(await customer_line(ctx), goods_line(order)),
        reversible=True,
        undo="It can be changed again until the parcel is dispatched.",
    )


@tool(
    effect=Effect.TRANSACTIONAL,
    permission="order:readdress",
    policy=address_policy,
    facts=order_facts,
    preview=preview_address,
    summary=lambda args: f"Send order {args.order_id} to {args.address.one_line()}",
)
async def change_shipping_address(args: ChangeAddressArgs, ctx: ToolContext) -> ReaddressedOrder:
    """Send one order of the customer to another address.

    Only before dispatch, while the order is `pending` or `packing`; afterwards it is refused and the customer can
    only ask the carrier to redirect the parcel. Give the whole address: it replaces the old one. It changes this
    order alone, not the customer's home address.
    """
    # The parcel may have left since the policy last looked; order_facts locks the order while we act.
    verdict = address_policy(args, ctx.actor, await order_facts(args, ctx))
    if isinstance(verdict, Deny):
        raise CallRefused(verdict.reason)
    await ctx.transaction.execute(
        update(orders).where(orders.c.order_id == args.order_id).values(address=args.address.model_dump())
    )
    return ReaddressedOrder(order_id=args.order_id, ships_to=args.address)
