"""The offline model as billing: what each matter about money comes to."""

from __future__ import annotations

import re
from datetime import datetime

from nodes.shop.house_rules import LOST_AFTER_STANDSTILL
from nodes.shop.offline_case import UNDERWAY, Answer, Case
from nodes.shop.offline_desk import NotDone
from nodes.shop.offline_general import article
from nodes.shop.offline_phrases import (
    ASK_PROBLEM,
    CHARGED_ONCE,
    IS_CANCELLED,
    NOTHING_CHARGED,
    REFUNDED,
    REFUNDED_BEFORE,
    TOO_LATE,
)
from nodes.shop.offline_reading import Matter
from nodes.shop.offline_shipping import under_way
from nodes.shop.offline_vocabulary import COMPLAINTS, RESERVATIONS, WARRANTY, Topic
from policies.shop.money import display
from policies.shop.orders import OrderStatus
from policies.shop.refunds import WINDOW_AFTER_DELIVERY, WINDOW_AFTER_ORDERING, RefundReason
from tools.shop.order_view import Order, OrderLine, OrderRefund
from tools.shop.payments import Refund
from tools.shop.shipments import Tracking
from tools.shop.tables import RefundState
from tools.shop.tickets import Team

REASONS = {
    Topic.DAMAGED: RefundReason.DAMAGED,
    Topic.FAULTY: RefundReason.FAULTY,
    Topic.WRONG_ITEM: RefundReason.WRONG_ITEM,
    Topic.MISSING_ITEM: RefundReason.MISSING_ITEM,
}
ENDED_ON = re.compile(r"can no longer be refunded.*ended on (\d{4}-\d{2}-\d{2})")
"""How the refund policy says that the time is up."""


def refund_goods(case: Case, matter: Matter) -> Answer | None:
    """Damaged, faulty, wrong or missing: the price of the pieces concerned. None: an earlier matter covered them."""
    order = case.order_of(matter)
    obstacle = _obstacle(case, order, REASONS[matter.topic])
    if obstacle:
        return obstacle
    covered = _covered_before(case, matter, order)
    lines = [(line, pieces) for line, pieces in case.lines_of(matter, order) if line.sku not in covered]
    if not lines:
        return None
    amount_minor = sum(line.unit_price.amount_minor * pieces for line, pieces in lines)
    what = ", ".join(f"{pieces} × {line.title}" for line, pieces in lines)
    return _pay(case, order, amount_minor, REASONS[matter.topic], f"{matter.topic.value}: {what}")


def refund_undelivered(case: Case, matter: Matter) -> Answer:
    """Only a parcel that stands still for long counts as lost; a late one is told about instead."""
    order = case.order_of(matter)
    obstacle = _obstacle(case, order, RefundReason.NOT_DELIVERED)
    if obstacle or order.status not in (OrderStatus.SHIPPED, OrderStatus.DELIVERED):
        return obstacle or under_way(case, order)
    parcel = case.desk.must(Tracking, "track_shipment", order_id=order.order_id)
    moved_at = max([parcel.dispatched_at, *(event.at for event in parcel.events)])
    if parcel.delivered_at or case.written_at - moved_at < LOST_AFTER_STANDSTILL:
        return under_way(case, order)
    paid_minor = order.payments[-1].paid.amount_minor
    return _pay(case, order, paid_minor, RefundReason.NOT_DELIVERED, f"no tracking event since {moved_at:%Y-%m-%d}")


def refund_double_charge(case: Case, matter: Matter) -> Answer:
    order = case.order_of(matter)
    obstacle = _obstacle(case, order, RefundReason.DOUBLE_CHARGE)
    if obstacle:
        return obstacle
    if len(order.payments) == 1:
        return _one_charge(case, order)
    second = order.payments[-1]
    note = f"charged {len(order.payments)} times, last {second.charge_id}"
    return _pay(case, order, second.paid.amount_minor, RefundReason.DOUBLE_CHARGE, note)


def refund_overcharge(case: Case, matter: Matter) -> Answer:
    """What was charged above the order's total, if anything."""
    order = case.order_of(matter)
    obstacle = _obstacle(case, order, RefundReason.OVERCHARGED)
    if obstacle:
        return obstacle
    over_minor = order.payments[-1].paid.amount_minor - order.total.amount_minor
    if over_minor <= 0:
        return _one_charge(case, order)
    return _pay(case, order, over_minor, RefundReason.OVERCHARGED, f"the order's total is {order.total.display}")


def refund_returned(case: Case, matter: Matter) -> Answer:
    """No tool knows what came back to the warehouse, so only a refund already made can be told of."""
    order = case.order_of(matter)
    before = _before(order, RefundReason.RETURNED)
    if before:
        return _told_of_before(case, order, before)
    return case.escalate(
        Team.BILLING, f"The customer says that goods of {order.order_id} were sent back: please check the warehouse."
    )


def weigh_goodwill(case: Case, matter: Matter) -> Answer:
    return case.escalate(Team.BILLING, "A price, discount or goodwill request is a matter of judgement.")


def refund_without_reason(case: Case, matter: Matter) -> Answer:
    """A bare wish for money: told of an earlier refund or the rule in the way, else asked for the reason."""
    order = case.order_of(matter)
    paid_back = [refund for refund in order.refunds if refund.state is not RefundState.FAILED]
    if paid_back:
        return _told_of_before(case, order, paid_back[-1])
    obstacle = _obstacle(case, order, RefundReason.GOODWILL)
    return obstacle or Answer(case.say(ASK_PROBLEM), f"Asked what is wrong with {order.order_id}.", waits=True)


MATTERS = {
    **dict.fromkeys(COMPLAINTS, refund_goods),
    Topic.NOT_DELIVERED: refund_undelivered,
    Topic.DOUBLE_CHARGE: refund_double_charge,
    Topic.OVERCHARGED: refund_overcharge,
    Topic.RETURNED: refund_returned,
    Topic.GOODWILL: weigh_goodwill,
    Topic.REFUND: refund_without_reason,
}


def _pay(case: Case, order: Order, amount_minor: int, reason: RefundReason, why: str) -> Answer:
    args = {"order_id": order.order_id, "amount_minor": amount_minor, "reason": reason.value}
    refund = case.desk.ask(Refund, "issue_refund", **args)
    if isinstance(refund, NotDone):
        return _not_paid(case, order, amount_minor, refund)
    say = case.say(REFUNDED, amount=refund.amount.display, order=order.order_id)
    return Answer(say, f"Refunded {refund.amount.display} on {order.order_id} ({why}).")


def _not_paid(case: Case, order: Order, amount_minor: int, refusal: NotDone) -> Answer:
    """A rule is told to the customer; everything else is for people."""
    ended = ENDED_ON.search(refusal.said)
    if refusal.refused and ended and not refusal.by_a_person:
        return _told_too_late(case, order, ended[1])
    what = f"A refund of {display(amount_minor)} on {order.order_id} was not made."
    return case.escalate(Team.BILLING, f"{what} {refusal.said}")


def _obstacle(case: Case, order: Order, reason: RefundReason) -> Answer | None:
    """What already stands in the way, as the order shows it: no need to propose what must be refused."""
    before = _before(order, reason)
    if before:
        return _told_of_before(case, order, before)
    if order.status is OrderStatus.CANCELLED and not order.payments:
        return Answer(case.say(IS_CANCELLED, order=order.order_id), f"{order.order_id} is cancelled, nothing was paid.")
    if not order.payments:
        return _told_nothing_charged(case, order)
    last_day = _last_day(order)
    if case.written_at > last_day:
        return _told_too_late(case, order, f"{last_day:%Y-%m-%d}")
    return None


def _last_day(order: Order) -> datetime:
    if order.delivered_at is None:
        return order.placed_at + WINDOW_AFTER_ORDERING
    return order.delivered_at + WINDOW_AFTER_DELIVERY


def _before(order: Order, reason: RefundReason) -> OrderRefund | None:
    """An earlier refund for the same reason, or the last of those that left nothing to refund."""
    counted = [refund for refund in order.refunds if refund.state is not RefundState.FAILED]
    same = [refund for refund in counted if refund.reason is reason]
    returned_minor = sum(refund.amount.amount_minor for refund in counted)
    used_up = bool(counted) and returned_minor >= sum(payment.paid.amount_minor for payment in order.payments)
    before = same or (counted if used_up else [])
    return before[-1] if before else None


def _covered_before(case: Case, matter: Matter, order: Order) -> set[str]:
    """Lines that an earlier complaint of the ticket is about: `cracked, and does not hold water` is one vase."""
    complaints = [m for m in case.reading.matters if m.topic in COMPLAINTS and m.order_id == matter.order_id]
    earlier: list[tuple[OrderLine, int]] = []
    for complaint in complaints[: complaints.index(matter)]:
        earlier += case.lines_of(complaint, order)
    return {line.sku for line, _ in earlier}


def _one_charge(case: Case, order: Order) -> Answer:
    charge = order.payments[-1]
    say = case.say(CHARGED_ONCE, order=order.order_id, amount=charge.paid.display, date=f"{charge.charged_at:%Y-%m-%d}")
    return Answer(say, f"{order.order_id} was charged once, {charge.paid.display}.", waits=True)


def _told_of_before(case: Case, order: Order, refund: OrderRefund) -> Answer:
    day = f"{refund.created_at:%Y-%m-%d}"
    say = case.say(REFUNDED_BEFORE, order=order.order_id, amount=refund.amount.display, date=day)
    return Answer(say, f"{order.order_id} was refunded before: {refund.amount.display} on {day}. Nothing paid now.")


def _told_nothing_charged(case: Case, order: Order) -> Answer:
    say = case.say(NOTHING_CHARGED, order=order.order_id)
    about_reservations = article(case, RESERVATIONS.query)
    return Answer(f"{say}\n\n{about_reservations}", f"{order.order_id} is {order.status} and was not charged.")


def _told_too_late(case: Case, order: Order, last_day: str) -> Answer:
    """The rule, and what may still help."""
    say = case.say(TOO_LATE, order=order.order_id, last=last_day)
    if order.status not in UNDERWAY:
        say = f"{say}\n\n{article(case, WARRANTY.query)}"
    return Answer(say, f"No refund for {order.order_id}: the time ended on {last_day}.")
