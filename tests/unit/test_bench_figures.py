"""The bench's table: each figure judged by its median, every goal for a figure that a whole run has."""

from __future__ import annotations

import pytest

from bench.figures import GOALS, ratios, table
from bench.sections import Sizes


def test_every_goal_that_names_a_size_names_that_of_a_whole_run() -> None:
    sizes = Sizes()
    assert {name for name in GOALS if name.startswith("turn ")} <= {
        f"turn {turn} ÷ turn 1, {what}" for turn in sizes.turns for what in ("time", "bytes written")
    }
    assert f"{sizes.waiting} waiting approved at once, s until all done" in GOALS
    assert "memory after {1} executions ÷ after {0}".format(*sizes.memory) in GOALS


@pytest.mark.parametrize(
    ("values", "verdict"),
    [([3.0, 4.0, 99.0], "aim"), ([1.0, 9.0, 99.0], "ok"), ([1.0, 11.0, 12.0], "MISSED")],
)
def test_the_table_judges_the_median(values: list[float], verdict: str) -> None:
    name = "pick-up, p50 ms: accepted → run.started"  # must be 10 at most, should be 4
    assert table({name: values}).endswith(f"  {verdict}\n")


def test_more_is_better_for_a_rate() -> None:
    name = "executions/s at 32 callers ÷ langgraph dev"  # must be 1.6 at least, should be 2.5
    assert [table({name: [value]}).split()[-1] for value in (1.5, 1.6, 2.5)] == ["MISSED", "ok", "aim"]


def test_a_ratio_needs_both_of_its_sides() -> None:
    found = {"executions/s at 32 callers": 60.0, "langgraph dev: runs/s, 32 callers": 40.0}
    assert ratios(found) == {"executions/s at 32 callers ÷ langgraph dev": 1.5}
