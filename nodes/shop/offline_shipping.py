"""The offline model as shipping: parcels, addresses, cancellations."""

from __future__ import annotations

from nodes.shop.house_rules import LOST_AFTER_STANDSTILL
from nodes.shop.offline_addresses import find_address
from nodes.shop.offline_case import Answer, Case
from nodes.shop.offline_desk import NotDone
from nodes.shop.offline_phrases import (
    ADDRESS_CHANGED,
    ADDRESS_TOO_LATE,
    ASK_ADDRESS,
    CANCEL_TOO_LATE,
    DELIVERED,
    DELIVERED_STAGE,
    IS_CANCELLED,
    LOST,
    PACKING_STAGE,
    PREPARING,
    SHIPPED_STAGE,
    TRACKED,
    TRACKED_LATE,
)
from nodes.shop.offline_reading import Matter
from nodes.shop.offline_vocabulary import ACCOUNT_ADDRESS, NOTHING_CAME, Topic
from policies.shop.orders import OrderStatus
from policies.shop.refunds import WINDOW_AFTER_DELIVERY
from tools.shop.order_view import Order
from tools.shop.orders import CancelledOrder
from tools.shop.shipments import ReaddressedOrder, Tracking
from tools.shop.tickets import Team

CANCEL_REASON = "the customer asked for it"
STAGES = {
    OrderStatus.PACKING: PACKING_STAGE,
    OrderStatus.SHIPPED: SHIPPED_STAGE,
    OrderStatus.DELIVERED: DELIVERED_STAGE,
}


def tell_whereabouts(case: Case, matter: Matter) -> Answer:
    return under_way(case, case.order_of(matter))


def under_way(case: Case, order: Order) -> Answer:
    """Where an order is. What the carrier calls delivered and the customer does not have is for people."""
    if order.status is OrderStatus.CANCELLED:
        return Answer(case.say(IS_CANCELLED, order=order.order_id), f"{order.order_id} is cancelled.")
    if order.status in (OrderStatus.PENDING, OrderStatus.PACKING):
        return Answer(case.say(PREPARING, order=order.order_id), f"{order.order_id} is {order.status}.")
    parcel = case.desk.must(Tracking, "track_shipment", order_id=order.order_id)
    if parcel.delivered_at is None:
        return _moving(case, parcel)
    if NOTHING_CAME.search(case.reading.text):
        day = f"{parcel.delivered_at:%Y-%m-%d}"
        case.escalate(Team.SHIPPING, f"The carrier delivered {order.order_id} on {day}; the customer has nothing.")
    say = case.say(DELIVERED, order=order.order_id, carrier=parcel.carrier, date=f"{parcel.delivered_at:%Y-%m-%d}")
    return Answer(say, f"{order.order_id} was delivered on {parcel.delivered_at:%Y-%m-%d}.")


def change_address(case: Case, matter: Matter) -> Answer:
    """Before dispatch, to an address that is all there."""
    if matter.order_id is None and ACCOUNT_ADDRESS.search(matter.text):
        case.escalate(Team.CUSTOMER_CARE, "The customer wants the account's own address changed; no tool does that.")
    order = case.order_of(matter)
    match order.status:
        case OrderStatus.CANCELLED:
            return Answer(case.say(IS_CANCELLED, order=order.order_id), f"{order.order_id} is cancelled.")
        case OrderStatus.SHIPPED:
            return _too_late_for_address(case, order)
        case OrderStatus.DELIVERED:
            case.escalate(Team.SHIPPING, f"{order.order_id} is delivered; the customer asks about its address.")
    address = find_address(case.reading.text, order.ships_to)
    if address is None:
        return Answer(case.say(ASK_ADDRESS, order=order.order_id), f"Asked for {order.order_id}'s address.", waits=True)
    args = {"order_id": order.order_id, "address": address.model_dump()}
    changed = case.desk.ask(ReaddressedOrder, "change_shipping_address", **args)
    if isinstance(changed, NotDone):
        case.escalate(Team.SHIPPING, f"The address of {order.order_id} was not changed. {changed.said}")
    new = changed.ships_to.one_line()
    return Answer(case.say(ADDRESS_CHANGED, order=order.order_id, address=new), f"{order.order_id} now goes to {new}.")


def cancel(case: Case, matter: Matter) -> Answer:
    """Only a pending order; for a later one, the way that is left."""
    order = case.order_of(matter)
    if order.status is OrderStatus.CANCELLED:
        return Answer(case.say(IS_CANCELLED, order=order.order_id), f"{order.order_id} was cancelled before.")
    if order.status is not OrderStatus.PENDING:
        stage = case.say(STAGES[order.status])
        say = case.say(CANCEL_TOO_LATE, order=order.order_id, stage=stage, days=WINDOW_AFTER_DELIVERY.days)
        return Answer(say, f"{order.order_id} is {order.status} and cannot be cancelled; told how to return it.")
    done = case.desk.ask(CancelledOrder, "cancel_order", order_id=order.order_id, reason=CANCEL_REASON)
    if isinstance(done, NotDone):
        case.escalate(Team.SHIPPING, f"{order.order_id} was not cancelled. {done.said}")
    return Answer(case.say(IS_CANCELLED, order=order.order_id), f"Cancelled {order.order_id}; nothing was charged.")


MATTERS = {Topic.TRACK: tell_whereabouts, Topic.ADDRESS: change_address, Topic.CANCEL: cancel}


def _moving(case: Case, parcel: Tracking) -> Answer:
    last = max(parcel.events, key=lambda event: event.at, default=None)
    moved_at = last.at if last else parcel.dispatched_at
    if case.written_at - moved_at >= LOST_AFTER_STANDSTILL:
        say = case.say(LOST, order=parcel.order_id, date=f"{moved_at:%Y-%m-%d}")
        return Answer(say, f"{parcel.order_id} counts as lost: refund or send again? Asked.", waits=True)
    say = case.say(
        TRACKED_LATE if parcel.overdue_days else TRACKED,
        order=parcel.order_id,
        carrier=parcel.carrier,
        number=parcel.tracking_number,
        expected=f"{parcel.expected_at:%Y-%m-%d}",
        days=parcel.overdue_days,
        lost=LOST_AFTER_STANDSTILL.days,
        place=last.place if last else "–",
        what=last.what if last else "–",
        date=f"{moved_at:%Y-%m-%d}",
    )
    late = f", {parcel.overdue_days} days late" if parcel.overdue_days else ""
    return Answer(say, f"{parcel.order_id} is with {parcel.carrier}, expected {parcel.expected_at:%Y-%m-%d}{late}.")


def _too_late_for_address(case: Case, order: Order) -> Answer:
    parcel = case.desk.must(Tracking, "track_shipment", order_id=order.order_id)
    say = case.say(ADDRESS_TOO_LATE, order=order.order_id, carrier=parcel.carrier, number=parcel.tracking_number)
    return Answer(say, f"{order.order_id} has left; told how the carrier can redirect it.")
