"""A case cancelled at every point: no effect begins after the answer, and what was under way is finished and told."""

from __future__ import annotations

from contextlib import suppress
from itertools import count

import pytest

from casework.errors import ExecutionOver
from casework.execution import Status
from tests.forks import Forked
from tests.rig import OLGA
from tests.stage import ANYWHERE, KEYED, OUTSIDE, TRANSACTIONAL, Case, Stage, at

pytestmark = pytest.mark.long

OURS = "graphs.support:builder"
BEGINNING = ("effect.started", "effect.done")
"""The first of these of a call is written in the transaction that begins its effect."""

NUMBERS = count(1)


async def cancelled_at(
    stage: Stage, survivor: Forked, like: str, point: str, target: str = OURS
) -> tuple[Case, Status]:
    """A case whose worker lingers at this point while it is cancelled, and how it ended."""
    with stage.worker(f"cancelled-{next(NUMBERS)}", target, at(point, "delay:0.7")) as worker:
        await worker.ready()
        with survivor.frozen():
            case = await stage.begin(like)
            await worker.meets(point.partition("@")[0])
            with suppress(ExecutionOver):
                await stage.service.store.cancel(OLGA, case.execution_id)
            ended = await stage.over(case)
        await worker.stop()
    return case, ended


@pytest.mark.parametrize(
    ("like", "point"),
    [
        *(pytest.param(KEYED, point, id=f"keyed-{point}") for point in (*ANYWHERE, *OUTSIDE)),
        *(pytest.param(TRANSACTIONAL, point, id=f"transactional-{point}") for point in ANYWHERE),
    ],
)
async def test_no_effect_begins_after_a_cancel_and_what_began_is_finished(
    stage: Stage, survivor: Forked, like: str, point: str
) -> None:
    case, ended = await cancelled_at(stage, survivor, like, point)
    story = await stage.service.store.events("default", case.execution_id)
    asked = next((event.seq for event in story if event.type == "execution.cancel_requested"), None)
    begun: dict[str, int] = {}
    for event in story:
        if event.type in BEGINNING:
            begun.setdefault(event.data["call_id"], event.seq)
    if asked is None:  # it was over before
        assert ended is Status.SUCCEEDED
    else:
        assert ended is Status.CANCELLED
        assert all(seq < asked for seq in begun.values())
    done = [event.data["call_id"] for event in story if event.type == "effect.done"]
    assert sorted(done) == sorted(begun)
    refunds = [event for event in story if event.type == "effect.done" and event.data["tool"] == "issue_refund"]
    assert stage.paid_back(case) == [1780] * len(refunds)
    assert await stage.broken() == []


@pytest.mark.parametrize(
    ("target", "paid"),
    [
        pytest.param(OURS, [], id="with the ledger it pays nothing"),
        pytest.param("tests.workflows.unledgered:builder", [1780], id="without it pays after the answer"),
    ],
)
async def test_cancelled_before_its_refund(stage: Stage, survivor: Forked, target: str, paid: list[int]) -> None:
    case, _ = await cancelled_at(stage, survivor, KEYED, "before_graph", target)
    assert stage.paid_back(case) == paid
