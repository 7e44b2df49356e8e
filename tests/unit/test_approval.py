"""What an approver's yes is bound to, and how an answer is read."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from casework.approval import (
    Answer,
    Approve,
    Decision,
    DidNotHappen,
    Doubt,
    Edit,
    Happened,
    Reject,
    Respond,
    Stop,
    approval_id_of,
    canonical,
    digest_of,
    outcome_digest,
)

DIGEST = "0" * 64
CASE = UUID(int=1)
characters = st.characters(exclude_categories=["Cs"])
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    leaves | st.text(characters),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(characters), inner, max_size=3),
    max_leaves=10,
)
arguments = st.dictionaries(st.text(characters), values, max_size=4)


@given(arguments)
def test_the_order_of_keys_changes_no_digest(args: dict[str, Any]) -> None:
    backwards = dict(reversed(args.items()))
    assert digest_of("issue_refund", args) == digest_of("issue_refund", backwards)


@given(arguments)
def test_arguments_keep_their_digest_through_json(args: dict[str, Any]) -> None:
    assert digest_of("issue_refund", json.loads(json.dumps(args))) == digest_of("issue_refund", args)


@given(arguments, arguments)
def test_other_arguments_have_another_digest(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (digest_of("issue_refund", one) == digest_of("issue_refund", other)) == (canonical(one) == canonical(other))


def test_a_digest_covers_the_tool_and_every_argument_exactly() -> None:
    told_apart = [
        digest_of("issue_refund", {"amount_minor": 10}),
        digest_of("cancel_order", {"amount_minor": 10}),
        digest_of("issue_refund", {"amount_minor": 9999}),
        digest_of("issue_refund", {"amount_minor": 10.0}),
        digest_of("issue_refund", {"amount_minor": "10"}),
        digest_of("issue_refund", {"amount_minor": [10]}),
        digest_of("issue_refund", {"amount_minor": None}),
        digest_of("issue_refund", {}),
        digest_of("issue_refund", {"amount_minor": True}),
        digest_of("issue_refund", {"amount_minor": 1}),
        digest_of("reply", {"body": "Ärger"}),
        digest_of("reply", {"body": "A\u0308rger"}),  # looks alike; other characters
    ]
    assert len(set(told_apart)) == len(told_apart)


def test_the_canonical_form_is_plain_sorted_json() -> None:
    assert canonical({"b": [1, 1.5, None, True], "a": "Straße 🏠"}) == '{"a":"Straße 🏠","b":[1,1.5,null,true]}'


def test_an_answer_about_one_attempt_fits_no_other() -> None:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    doubt = Doubt(key="k", attempt=1, begun_at=at, since=at, why="no answer", reference=None)
    others = [
        doubt.model_copy(update={"key": "k#2", "attempt": 2}),
        doubt.model_copy(update={"since": at + timedelta(microseconds=1)}),
        doubt.model_copy(update={"reference": "re_1"}),
    ]
    digests = {outcome_digest("issue_refund", {"amount_minor": 10}, each) for each in [doubt, *others]}
    digests |= {outcome_digest("issue_refund", {"amount_minor": 11}, doubt), digest_of("issue_refund", {})}
    assert len(digests) == 6
    again = Doubt.model_validate_json(doubt.model_dump_json())
    assert outcome_digest("issue_refund", {"amount_minor": 10}, again) in digests


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_has_no_digest(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of("issue_refund", {"amount_minor": value})


@pytest.mark.parametrize("value", [{1, 2}, object(), b"bytes", CASE])
def test_what_is_not_json_has_no_digest(value: object) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        digest_of("issue_refund", {"amount_minor": value})


def test_the_same_call_asks_the_same_question_and_any_other_asks_another() -> None:
    asked = approval_id_of(CASE, "call_1", DIGEST)
    assert approval_id_of(CASE, "call_1", DIGEST) == asked
    others = {
        approval_id_of(UUID(int=2), "call_1", DIGEST),
        approval_id_of(CASE, "call_2", DIGEST),
        approval_id_of(CASE, "call_1", "1" * 64),
    }
    assert len(others | {asked}) == 4


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"type": "approve", "digest": DIGEST}, Approve(type="approve", digest=DIGEST)),
        (
            {"type": "edit", "digest": DIGEST, "args": {"amount_minor": 5}},
            Edit(type="edit", digest=DIGEST, args={"amount_minor": 5}),
        ),
        (
            {"type": "reject", "digest": DIGEST, "reason": "too much"},
            Reject(type="reject", digest=DIGEST, reason="too much"),
        ),
        (
            {"type": "respond", "digest": DIGEST, "message": "Ask them"},
            Respond(type="respond", digest=DIGEST, message="Ask them"),
        ),
        (
            {"type": "happened", "digest": DIGEST, "reference": "re_1"},
            Happened(type="happened", digest=DIGEST, reference="re_1"),
        ),
        ({"type": "did_not_happen", "digest": DIGEST}, DidNotHappen(type="did_not_happen", digest=DIGEST)),
        (
            {"type": "stop", "digest": DIGEST, "reason": "ask the bank"},
            Stop(type="stop", digest=DIGEST, reason="ask the bank"),
        ),
    ],
)
def test_each_answer_is_read_as_what_it_is_and_written_the_same(written: dict[str, Any], read: Answer) -> None:
    decision = Decision.model_validate(written)
    assert decision.root == read
    assert decision.model_dump(mode="json") == written


@pytest.mark.parametrize(
    ("written", "field"),
    [
        (True, ()),
        ("approve", ()),
        ({}, ()),
        ({"digest": DIGEST}, ()),
        ({"type": "accept", "digest": DIGEST}, ()),
        ({"type": "approve"}, ("approve", "digest")),
        ({"type": "approve", "digest": "0" * 63}, ("approve", "digest")),
        ({"type": "approve", "digest": "Z" * 64}, ("approve", "digest")),
        ({"type": "approve", "digest": DIGEST + "\n"}, ("approve", "digest")),
        ({"type": "approve", "digest": DIGEST, "args": {"amount_minor": 9999}}, ("approve", "args")),
        ({"type": "edit", "digest": DIGEST}, ("edit", "args")),
        ({"type": "edit", "digest": DIGEST, "args": [1]}, ("edit", "args")),
        ({"type": "reject", "digest": DIGEST}, ("reject", "reason")),
        ({"type": "reject", "digest": DIGEST, "reason": ""}, ("reject", "reason")),
        ({"type": "reject", "digest": DIGEST, "reason": "x" * 2001}, ("reject", "reason")),
        ({"type": "respond", "digest": DIGEST}, ("respond", "message")),
        ({"type": "happened", "digest": DIGEST}, ("happened", "reference")),
        ({"type": "happened", "digest": DIGEST, "reference": ""}, ("happened", "reference")),
        ({"type": "did_not_happen", "digest": DIGEST, "reference": "re_1"}, ("did_not_happen", "reference")),
        ({"type": "stop", "digest": DIGEST}, ("stop", "reason")),
    ],
)
def test_anything_else_is_no_answer_and_the_field_at_fault_is_named(written: object, field: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        Decision.model_validate(written)
    assert refused.value.errors()[0]["loc"] == field
