"""The shop's rules at their edges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from casework.actor import Actor
from policies.shop.addresses import Address, ChangeAddressArgs, address_policy
from policies.shop.money import Money, display
from policies.shop.orders import CancelOrderArgs, OrderFacts, OrderStatus, cancellation_policy
from policies.shop.refunds import PaidOrder, Payment, RefundArgs, RefundFacts, RefundReason, refund_policy
from policies.verdict import Allow, Deny, NeedsApproval, Verdict

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ADA = Actor(actor_id="ada")
SECOND = timedelta(seconds=1)


def paid_order(
    *payments: Payment,
    placed: timedelta = timedelta(days=5),
    delivered: timedelta | None = timedelta(days=2),
    refunded_for: frozenset[RefundReason] = frozenset(),
) -> PaidOrder:
    return PaidOrder(
        placed_at=NOW - placed,
        delivered_at=None if delivered is None else NOW - delivered,
        payments=payments,
        refunded_for=refunded_for,
    )


def charge(paid_minor: int, refunded_minor: int = 0, charge_id: str = "ch_1") -> Payment:
    return Payment(charge_id=charge_id, paid_minor=paid_minor, refunded_minor=refunded_minor)


def judge(amount_minor: int, order: PaidOrder | None, reason: RefundReason = RefundReason.DAMAGED) -> Verdict:
    args = RefundArgs(order_id="O-5042", amount_minor=amount_minor, reason=reason)
    return refund_policy(args, ADA, RefundFacts(now=NOW, order=order))


@pytest.mark.parametrize(
    ("amount_minor", "refunded_minor", "votes"),
    [
        (1, 0, 0),
        (100_00, 0, 0),
        (100_01, 0, 1),
        (500_00, 0, 1),
        (500_01, 0, 2),
        (900_00, 0, 2),
        (40_00, 60_00, 0),
        (40_01, 60_00, 1),
        (100_00, 400_00, 1),
        (100_00, 400_01, 2),
    ],
)
def test_people_are_asked_above_the_limits_counting_what_the_order_was_refunded_before(
    amount_minor: int, refunded_minor: int, votes: int
) -> None:
    verdict = judge(amount_minor, paid_order(charge(900_00, refunded_minor)))
    assert (verdict.votes if isinstance(verdict, NeedsApproval) else 0) == votes
    assert not isinstance(verdict, Deny)


@pytest.mark.parametrize(
    ("order", "allowed"),
    [
        (paid_order(charge(50_00), delivered=timedelta(days=30)), True),
        (paid_order(charge(50_00), delivered=timedelta(days=30) + SECOND), False),
        (paid_order(charge(50_00), placed=timedelta(days=90), delivered=timedelta(days=1)), True),
        (paid_order(charge(50_00), placed=timedelta(days=60), delivered=None), True),
        (paid_order(charge(50_00), placed=timedelta(days=60) + SECOND, delivered=None), False),
    ],
)
def test_the_window_counts_from_delivery_or_from_ordering_when_nothing_came(order: PaidOrder, allowed: bool) -> None:
    assert isinstance(judge(10_00, order), Allow if allowed else Deny)


def test_a_late_refund_is_told_when_its_window_ended() -> None:
    verdict = judge(10_00, paid_order(charge(50_00), placed=timedelta(days=55), delivered=timedelta(days=47)))
    assert verdict == Deny(
        "order O-5042 can no longer be refunded: the limit is 30 days after delivery, and it ended on 2026-11-03"
    )


@pytest.mark.parametrize(
    ("amount_minor", "payments", "reason"),
    [
        (50_00, (charge(50_00),), None),
        (50_01, (charge(50_00),), "at most 50.00 EUR is left"),
        (30_00, (charge(50_00, 20_00),), None),
        (30_01, (charge(50_00, 20_00),), "at most 30.00 EUR is left"),
        (1, (charge(50_00, 50_00),), "already refunded in full"),
        (1, (), "nothing has been paid"),
        (50_00, (charge(50_00), charge(50_00, charge_id="ch_2")), None),
        (50_01, (charge(50_00), charge(50_00, charge_id="ch_2")), "at most 50.00 EUR is left"),
    ],
)
def test_no_more_goes_back_than_was_paid(amount_minor: int, payments: tuple[Payment, ...], reason: str | None) -> None:
    verdict = judge(amount_minor, paid_order(*payments))
    if reason is None:
        assert isinstance(verdict, Allow)
    else:
        assert isinstance(verdict, Deny)
        assert reason in verdict.reason


def test_each_reason_is_refunded_once_per_order() -> None:
    order = paid_order(charge(80_00, 10_00), refunded_for=frozenset({RefundReason.DAMAGED}))
    assert isinstance(judge(5_00, order, RefundReason.DAMAGED), Deny)
    assert isinstance(judge(5_00, order, RefundReason.MISSING_ITEM), Allow)


def test_a_double_charge_is_paid_back_from_the_second_charge() -> None:
    order = paid_order(charge(129_00), charge(129_00, charge_id="ch_2"))
    chosen = order.payment_for(129_00)
    assert chosen is not None
    assert chosen.charge_id == "ch_2"


def test_somebody_elses_order_is_refused_as_a_missing_one_by_every_policy() -> None:
    missing = "this customer has no order O-5042; list_orders shows the ones that exist"
    cancel = CancelOrderArgs(order_id="O-5042", reason="changed my mind")
    move = ChangeAddressArgs(order_id="O-5042", address=address())
    unknown = OrderFacts(status=None)
    assert judge(10_00, None) == Deny(missing)
    assert cancellation_policy(cancel, ADA, unknown) == Deny(missing)
    assert address_policy(move, ADA, unknown) == Deny(missing)


@pytest.mark.parametrize("status", list(OrderStatus))
def test_only_a_pending_order_can_be_cancelled(status: OrderStatus) -> None:
    args = CancelOrderArgs(order_id="O-5042", reason="changed my mind")
    verdict = cancellation_policy(args, ADA, OrderFacts(status=status))
    assert isinstance(verdict, Allow) == (status is OrderStatus.PENDING)


@pytest.mark.parametrize("status", list(OrderStatus))
def test_an_address_can_only_be_changed_before_dispatch(status: OrderStatus) -> None:
    args = ChangeAddressArgs(order_id="O-5042", address=address())
    verdict = address_policy(args, ADA, OrderFacts(status=status))
    assert isinstance(verdict, Allow) == (status in {OrderStatus.PENDING, OrderStatus.PACKING})


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount_minor": 0},
        {"amount_minor": -1},
        {"amount_minor": 34.9},
        {"amount_minor": "3490"},
        {"amount_minor": 1_000_001},
        {"reason": "because"},
        {"order_id": "5042"},
        {"order_id": "O-5042; O-5043"},
        {"customer_id": "C-1042"},
    ],
)
def test_refund_arguments_are_exact(wrong: dict[str, object]) -> None:
    fine = {"order_id": "O-5042", "amount_minor": 3490, "reason": "damaged"}
    RefundArgs.model_validate(fine)
    with pytest.raises(ValidationError):
        RefundArgs.model_validate(fine | wrong)


@pytest.mark.parametrize(("amount_minor", "text"), [(4990, "49.90 EUR"), (5, "0.05 EUR"), (-1250, "-12.50 EUR")])
def test_money_is_shown_as_people_write_it(amount_minor: int, text: str) -> None:
    assert display(amount_minor) == text
    assert Money.of(amount_minor).model_dump() == {"amount_minor": amount_minor, "currency": "EUR", "display": text}


def address() -> Address:
    return Address(recipient="Ada Byron", street="Lindenstraße 14", postal_code="04109", city="Leipzig", country="DE")
