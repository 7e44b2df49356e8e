"""Budgets: reaching one ends the agents' work, and says which."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.limits import COUNTED, Limits, exhausted

LIMITS = Limits(model_calls=3, tool_calls=5, tokens=100, cost_microusd=1000)


@pytest.mark.parametrize(
    ("spent", "said"),
    [
        ({}, None),
        ({"model_calls": 2, "tool_calls": 4, "tokens": 99, "cost_microusd": 999}, None),
        ({"model_calls": 3}, "the budget of 3 model calls is used up"),
        ({"tool_calls": 5}, "the budget of 5 tool calls is used up"),
        ({"tokens": 100}, "the budget of 100 tokens is used up"),
        ({"cost_microusd": 1000}, "the budget of 1000 cost microusd is used up"),
        ({"model_calls": 2, "tokens": 100_000}, "the budget of 100 tokens is used up"),
        ({"something_else": 10**9}, None),
    ],
)
def test_a_budget_is_used_up_when_it_is_reached(spent: dict[str, int], said: str | None) -> None:
    assert exhausted(LIMITS, spent) == said


@given(st.fixed_dictionaries({name: st.integers(0, 2000) for name in COUNTED}))
def test_there_is_some_left_only_while_there_is_some_of_each(spent: dict[str, int]) -> None:
    some_of_each = all(spent[name] < asdict(LIMITS)[name] for name in COUNTED)
    assert (exhausted(LIMITS, spent) is None) == some_of_each


def test_every_counted_budget_is_a_limit() -> None:
    assert set(COUNTED) <= set(asdict(Limits()))
