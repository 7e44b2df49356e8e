"""A worker killed with -9 at every point of a case: another one finishes it soon, and nothing happened twice."""

from __future__ import annotations

import time
from itertools import count

import pytest

from casework.execution import Status
from tests.forks import Forked
from tests.stage import ANYWHERE, KEYED, OUTSIDE, TAKEN_OVER_S, TRANSACTIONAL, Stage, at

pytestmark = pytest.mark.long

NUMBERS = count(1)


@pytest.mark.parametrize(
    ("like", "point"),
    [
        *(pytest.param(KEYED, point, id=f"keyed-{point}") for point in (*ANYWHERE, *OUTSIDE)),
        *(pytest.param(TRANSACTIONAL, point, id=f"transactional-{point}") for point in ANYWHERE),
    ],
)
async def test_a_case_whose_worker_is_killed_is_finished_by_another_with_one_effect(
    stage: Stage, survivor: Forked, like: str, point: str
) -> None:
    with stage.worker(f"killed-{next(NUMBERS)}", faults=at(point, "kill")) as doomed:
        await doomed.ready()
        with survivor.frozen():
            case = await stage.begin(like)
            await doomed.killed()
        died = time.monotonic()
        assert await stage.over(case) is Status.SUCCEEDED
        assert time.monotonic() - died < TAKEN_OVER_S
    assert stage.paid_back(case) == ([1780] if like == KEYED else [])
    assert await stage.messages(case) == 2
    assert await stage.broken() == []
