"""The figures of a run: what each must reach, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

Figures = Mapping[str, Sequence[float]]
"""By name, one value per repeat."""


@dataclass(frozen=True)
class Goal:
    """What the median of a figure must reach, and what it should."""

    must: float
    aim: float
    more_is_better: bool = False

    def verdict(self, value: float) -> str:
        if self._reached(self.aim, value):
            return "aim"
        return "ok" if self._reached(self.must, value) else "MISSED"

    def _reached(self, bound: float, value: float) -> bool:
        return value >= bound if self.more_is_better else value <= bound


GOALS = {
    "executions/s at 32 callers ÷ stock saver in process": Goal(1.0, 1.5, more_is_better=True),
    "executions/s at 32 callers ÷ langgraph dev": Goal(1.6, 2.5, more_is_better=True),
    "p50 at one caller ÷ stock saver in process": Goal(1.8, 1.2),
    "first event of a stream, p50 ms": Goal(11, 6),
    "approval posted → next event, p50 ms": Goal(25, 12),
    "pick-up, p50 ms: accepted → run.started": Goal(10, 4),
    "server CPU per execution, ms": Goal(15, 9),
    "turn 50 ÷ turn 1, time": Goal(1.7, 1.3),
    "turn 500 ÷ turn 1, time": Goal(5, 3),
    "turn 500 ÷ turn 1, bytes written": Goal(1.5, 1.0),
    "1000 waiting approved at once, s until all done": Goal(20, 10),
    "memory after 5000 executions ÷ after 500": Goal(1.1, 1.0),
}


def ratios(found: Mapping[str, float]) -> dict[str, float]:
    """Those of one repeat whose both sides were measured in it."""
    wanted = {
        "executions/s at 32 callers ÷ stock saver in process": (
            "executions/s at 32 callers",
            "floor: runs/s, stock saver",
        ),
        "executions/s at 32 callers ÷ langgraph dev": (
            "executions/s at 32 callers",
            "langgraph dev: runs/s, 32 callers",
        ),
        "p50 at one caller ÷ stock saver in process": (
            "p50 at one caller, ms",
            "floor: p50 ms, stock saver, one caller",
        ),
    }
    return {
        name: found[above] / found[below]
        for name, (above, below) in wanted.items()
        if above in found and below in found
    }


def table(figures: Figures) -> str:
    """Medians with least and greatest, and how they stand to their goals; those with a goal first."""
    named = [name for name in GOALS if name in figures] + [name for name in figures if name not in GOALS]
    width = max(map(len, named), default=0)
    lines = [f"{'figure':<{width}}{'median':>10}{'least':>10}{'greatest':>10}{'must':>9}{'aim':>9}"]
    for name in named:
        values = figures[name]
        line = f"{name:<{width}}{median(values):>10.2f}{min(values):>10.2f}{max(values):>10.2f}"
        lines.append(line + (_judged(GOALS[name], median(values)) if name in GOALS else ""))
    return "\n".join(lines) + "\n"


def _judged(goal: Goal, value: float) -> str:
    sign = "≥" if goal.more_is_better else "≤"
    return f"{f'{sign} {goal.must:g}':>9}{f'{sign} {goal.aim:g}':>9}  {goal.verdict(value)}"
