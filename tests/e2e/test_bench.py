"""The bench measures what it says it measures. No figure is judged here: a shared machine's speed proves nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.sections import SECTIONS, Plan, Sizes
from bench.service import Layout
from bench.turns import PERIOD

TINY = Sizes(
    floor_runs=4,
    executions=8,
    single=4,
    peer_runs=4,
    peer_single=1,
    turns=(PERIOD,),
    waiting=6,
    memory=(4, 8),
)
APART = Layout(workers=1, concurrency=4)

pytestmark = pytest.mark.long


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(tmp_path / "bench", TINY, Layout(concurrency=4), None)


@pytest.mark.parametrize("layout", [Layout(concurrency=4), APART], ids=["up", "apart"])
def test_the_service_is_measured_in_either_layout(plan: Plan, layout: Layout) -> None:
    found = SECTIONS["service"](replace(plan, layout=layout))
    assert found["executions/s at 32 callers"] > 0
    assert found["server CPU per execution, ms"] > 0
    assert found["Postgres CPU per execution, ms"] > 0
    assert found["first event of a stream, p50 ms"] < found["end of a stream, p50 ms"]
    assert found["approval posted → next event, p50 ms"] < found["approval posted → execution over, p50 ms"]
    assert 0 < found["pick-up, p50 ms: accepted → run.started"] < found["p50 at one caller, ms"]


def test_a_burst_of_approvals_is_measured_to_its_end(plan: Plan) -> None:
    found = SECTIONS["burst"](plan)
    assert found["6 waiting approved at once, s until all accepted"] > 0
    assert found["6 waiting approved at once, s until all done"] > 0


def test_a_turn_of_a_long_conversation_is_measured_against_a_first_one(plan: Plan) -> None:
    found = SECTIONS["turns"](plan)
    assert found[f"turn {PERIOD} ÷ turn 1, time"] == found[f"turn {PERIOD}, ms"] / found["turn 1, ms"]
    assert found[f"turn {PERIOD} ÷ turn 1, bytes written"] > 1  # a first turn has fewer channels to tell of
    assert (
        found[f"turn {PERIOD} ÷ turn 1, bytes written, with snapshots"]
        > found[f"turn {PERIOD} ÷ turn 1, bytes written"]
    )


def test_memory_is_read_twice(plan: Plan) -> None:
    found = SECTIONS["memory"](plan)
    assert found["memory after 4 executions, MiB"] > 10
    assert found["memory after 8 executions ÷ after 4"] > 0.5


def test_floors_and_the_peer_run_the_same_graph(plan: Plan, tmp_path: Path) -> None:
    found = SECTIONS["floors"](plan) | SECTIONS["peer"](replace(plan, folder=tmp_path / "peer"))
    assert all(value > 0 for value in found.values())
