"""The demo's own check can fail: each kind of wrong end is found, and the right one is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evals.shop.checks import Worked, problems
from evals.shop.outcomes import ExpectedEffect, Outcome

REFUND = ("issue_refund", {"order_id": "O-1", "amount_minor": 500, "reason": "damaged"})
EXPECTED = Outcome(
    ticket="T-1",
    status="succeeded",
    routes=("billing",),
    effects=(ExpectedEffect(tool="issue_refund", args={"order_id": "O-1", "amount_minor": 500}),),
    approvals={"issue_refund": 1},
    forbidden=("cancel_order",),
)
RIGHT = Worked("succeeded", "billing", [REFUND, ("reply_to_customer", {"body": "Hi"})], [("issue_refund", 1)])


def test_the_right_end_has_no_problems() -> None:
    assert problems(EXPECTED, RIGHT) == []


@pytest.mark.parametrize(
    ("worked", "said"),
    [
        (replace(RIGHT, status="escalated"), "ended escalated"),
        (replace(RIGHT, route="general"), "went to general"),
        (replace(RIGHT, effects=[]), "happened 0 times"),
        (replace(RIGHT, effects=[REFUND, REFUND]), "happened 2 times"),
        (replace(RIGHT, effects=[REFUND, ("issue_refund", {"order_id": "O-2", "amount_minor": 1})]), "should not have"),
        (replace(RIGHT, effects=[REFUND, ("cancel_order", {"order_id": "O-1"})]), "cancel_order is forbidden"),
        (replace(RIGHT, approvals=[]), "asked {}"),
        (replace(RIGHT, approvals=[("issue_refund", 2)]), "asked {'issue_refund': 2}"),
    ],
)
def test_each_wrong_end_is_named(worked: Worked, said: str) -> None:
    assert any(said in problem for problem in problems(EXPECTED, worked))


def test_where_every_write_asks_an_unasked_one_is_named() -> None:
    suspicious = EXPECTED.model_copy(update={"suspicious": True})
    assert problems(suspicious, RIGHT) == ["reply_to_customer was done without asking"]
    asked = replace(RIGHT, approvals=[("issue_refund", 1), ("reply_to_customer", 1)])
    assert problems(suspicious, asked) == []
    assert problems(EXPECTED, RIGHT, policy_approvals=False) == ["reply_to_customer was done without asking"]
