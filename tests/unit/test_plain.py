"""Whatever a tool or a graph returns becomes JSON that Postgres can hold."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from casework.plain import plain


class Point(BaseModel):
    x: int


class Strange:
    def __str__(self) -> str:
        return "strange"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": "x\x00y"}, {"a": "x\ufffdy"}),
        (["\ud800"], ["\ufffd"]),
        ([float("nan"), float("inf"), 1.5], [None, None, 1.5]),
        ({1: Point(x=2)}, {"1": {"x": 2}}),
        ((1, {2}), [1, [2]]),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z"),
        (Decimal("1.50"), "1.50"),
        (Strange(), "strange"),
    ],
)
def test_what_json_or_postgres_cannot_hold_is_replaced(value: object, expected: object) -> None:
    assert plain(value) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_the_result_is_strict_json_without_nul_and_stays_as_it_is(value: object) -> None:
    made = plain(value)
    written = json.dumps(made, allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in written
    written.encode("utf-8")
    assert plain(made) == made
