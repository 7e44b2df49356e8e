"""When money may be paid back, how much, and who must agree."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from casework.actor import Actor
from policies.shop.money import CURRENCY, display
from policies.shop.orders import OrderId, no_such_order
from policies.verdict import Allow, Deny, NeedsApproval, Verdict

ALONE_UP_TO_MINOR = 100_00
"""Cents refunded on one order that an agent may reach without asking."""
ONE_APPROVER_UP_TO_MINOR = 500_00
"""Cents refunded on one order that a single approver may let through; above it two must."""
WINDOW_AFTER_DELIVERY = timedelta(days=30)
WINDOW_AFTER_ORDERING = timedelta(days=60)
"""For an order that was never delivered."""


class RefundReason(StrEnum):
    """Why money goes back. Each reason is good for one refund per order."""

    DAMAGED = "damaged"
    FAULTY = "faulty"
    WRONG_ITEM = "wrong_item"
    MISSING_ITEM = "missing_item"
    NOT_DELIVERED = "not_delivered"
    RETURNED = "returned"
    DOUBLE_CHARGE = "double_charge"
    OVERCHARGED = "overcharged"
    GOODWILL = "goodwill"


class RefundArgs(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    order_id: OrderId
    amount_minor: Annotated[
        int,
        Field(
            gt=0,
            le=10_000_00,
            strict=True,
            description=(
                "How much, in whole euro cents: 49.90 EUR is 4990, not 49.90 and not 50. Take it from the order's "
                "lines or payments as get_order shows them, not from what the ticket claims."
            ),
            examples=[4990],
        ),
    ]
    reason: Annotated[
        RefundReason,
        Field(description="What went wrong. One refund per order and reason.", examples=["damaged"]),
    ]


class Payment(BaseModel):
    """One charge of an order, and what has gone back of it."""

    model_config = ConfigDict(frozen=True)

    charge_id: str
    """The payment provider's id."""
    paid_minor: int
    """Cents, above 0."""
    refunded_minor: int = 0
    """Cents refunded so far, refunds under way included."""

    @property
    def remaining_minor(self) -> int:
        return self.paid_minor - self.refunded_minor


class PaidOrder(BaseModel):
    """What a refund of an order is judged by."""

    model_config = ConfigDict(frozen=True)

    placed_at: datetime
    delivered_at: datetime | None
    """None: not delivered, as far as the carrier told us."""
    payments: tuple[Payment, ...]
    """Oldest first; empty before dispatch, because the card is charged then; two after a double charge."""
    refunded_for: frozenset[RefundReason] = frozenset()
    """Reasons of this order's refunds, those under way included, failed ones not."""

    @property
    def refunded_minor(self) -> int:
        return sum(payment.refunded_minor for payment in self.payments)

    @property
    def largest_refund_minor(self) -> int:
        """The most one refund can pay: a refund belongs to a single charge."""
        return max((payment.remaining_minor for payment in self.payments), default=0)

    def payment_for(self, amount_minor: int) -> Payment | None:
        """The latest charge with this much left: after a double charge, that is the second one."""
        return next((p for p in reversed(self.payments) if p.remaining_minor >= amount_minor), None)


class RefundFacts(BaseModel):
    model_config = ConfigDict(frozen=True)

    now: datetime
    order: PaidOrder | None
    """None: the case's customer has no such order (somebody else's looks the same)."""


def refund_policy(args: RefundArgs, actor: Actor, facts: RefundFacts) -> Verdict:
    """The order's own money, in time, once per reason; above a limit, with people's consent."""
    if facts.order is None:
        return Deny(no_such_order(args.order_id))
    obstacle = (
        _nothing_paid(args, facts.order)
        or _too_late(args, facts.order, facts.now)
        or _refunded_before(args, facts.order)
        or _too_much(args, facts.order)
    )
    return obstacle or _consent(args, facts.order)


def _nothing_paid(args: RefundArgs, order: PaidOrder) -> Deny | None:
    if order.payments:
        return None
    return Deny(f"nothing has been paid for order {args.order_id}: the card is charged on dispatch")


def _too_late(args: RefundArgs, order: PaidOrder, now: datetime) -> Deny | None:
    if order.delivered_at is None:
        since, window, what = order.placed_at, WINDOW_AFTER_ORDERING, "ordering, when never delivered"
    else:
        since, window, what = order.delivered_at, WINDOW_AFTER_DELIVERY, "delivery"
    if now - since <= window:
        return None
    return Deny(
        f"order {args.order_id} can no longer be refunded: the limit is {window.days} days after {what}, "
        f"and it ended on {since + window:%Y-%m-%d}"
    )


def _refunded_before(args: RefundArgs, order: PaidOrder) -> Deny | None:
    if args.reason not in order.refunded_for:
        return None
    return Deny(
        f"order {args.order_id} was already refunded for the reason {args.reason}: "
        f"{display(order.refunded_minor)} so far; each reason is refunded once"
    )


def _too_much(args: RefundArgs, order: PaidOrder) -> Deny | None:
    if args.amount_minor <= order.largest_refund_minor:
        return None
    if order.largest_refund_minor == 0:
        return Deny(f"order {args.order_id} was already refunded in full: {display(order.refunded_minor)}")
    return Deny(
        f"{display(args.amount_minor)} is more than one refund of order {args.order_id} may pay: "
        f"at most {display(order.largest_refund_minor)} is left of a payment"
    )


def _consent(args: RefundArgs, order: PaidOrder) -> Verdict:
    # The limits count what the order was refunded before: otherwise a large refund slips through in small pieces.
    total_minor = order.refunded_minor + args.amount_minor
    total = f"{display(total_minor)} refunded in all on order {args.order_id}"
    money: dict[str, int] = {CURRENCY: total_minor}
    if total_minor <= ALONE_UP_TO_MINOR:
        return Allow(f"{total}, within {display(ALONE_UP_TO_MINOR)}", money)
    if total_minor <= ONE_APPROVER_UP_TO_MINOR:
        return NeedsApproval(f"{total}, above {display(ALONE_UP_TO_MINOR)}", money=money)
    reason = f"{total}, above {display(ONE_APPROVER_UP_TO_MINOR)}: two people must agree"
    return NeedsApproval(reason, votes=2, money=money)
