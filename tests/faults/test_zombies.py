"""A worker frozen past its lease: another one finishes its case, and when it wakes up it writes nothing."""

from __future__ import annotations

from itertools import count
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from casework.execution import Status
from tests.forks import Forked
from tests.processes import eventually
from tests.stage import KEYED, OUTSIDE, TRANSACTIONAL, Case, Stage, at

pytestmark = pytest.mark.long

POINTS = (
    "after_claim",
    "before_checkpoint@4",
    "before_writes@6",
    "before_effect",
    "before_done",  # in an open transaction, which the database ends
    "after_effect",
    "before_finish",
)

BLOCKED_S = 10
"""Longer than the lease, and than another worker needs to take over and finish."""

NUMBERS = count(1)


@pytest.mark.parametrize(
    ("like", "point"),
    [
        *(pytest.param(KEYED, point, id=f"keyed-{point}") for point in (*POINTS, *OUTSIDE)),
        *(pytest.param(TRANSACTIONAL, point, id=f"transactional-{point}") for point in POINTS),
    ],
)
async def test_a_worker_that_wakes_up_after_its_lease_writes_nothing(
    stage: Stage, survivor: Forked, like: str, point: str
) -> None:
    with stage.worker(f"zombie-{next(NUMBERS)}", faults=at(point, "pause")) as zombie:
        await zombie.ready()
        with survivor.frozen():
            case = await stage.begin(like)
            await zombie.meets(point.partition("@")[0])
        assert await stage.over(case) is Status.SUCCEEDED
        finished = await everything(stage, case)
        zombie.thaw()
        await eventually(lambda: gave_up(zombie), zombie.said)
        await zombie.stop()
    assert await everything(stage, case) == finished
    assert stage.paid_back(case) == ([1780] if like == KEYED else [])
    assert await stage.broken() == []


async def test_an_event_loop_that_was_blocked_past_the_lease_writes_nothing(stage: Stage, survivor: Forked) -> None:
    with stage.worker("blocked", faults=f"before_writes=pause:{BLOCKED_S}@6") as zombie:
        await zombie.ready()
        with survivor.frozen():
            case = await stage.begin(KEYED)
            await zombie.meets("before_writes")
        assert await stage.over(case) is Status.SUCCEEDED
        finished = await everything(stage, case)
        assert not gave_up(zombie)  # it is still blocked
        await eventually(lambda: gave_up(zombie), zombie.said)
        await zombie.stop()
    assert await everything(stage, case) == finished
    assert await stage.broken() == []


GAVE_UP = ("run.lost_lease", "lease.lost", "run.failed")
"""What a worker that woke up logs: refused by the fence, stopped by its heartbeat, or its connection was cut."""


def gave_up(zombie: Forked) -> bool:
    return any(sign in zombie.said() for sign in GAVE_UP)


ROWS = (
    "SELECT * FROM casework.executions WHERE execution_id = :e",
    "SELECT * FROM casework.runs WHERE execution_id = :e",
    "SELECT * FROM casework.effects WHERE execution_id = :e ORDER BY key",
    "SELECT * FROM casework.events WHERE execution_id = :e ORDER BY seq",
    "SELECT * FROM casework.audit ORDER BY tenant, seq",
    "SELECT * FROM checkpoints WHERE thread_id = :t ORDER BY checkpoint_ns, checkpoint_id",
    "SELECT * FROM checkpoint_writes WHERE thread_id = :t ORDER BY checkpoint_id, task_id, idx",
    "SELECT * FROM checkpoint_blobs WHERE thread_id = :t ORDER BY channel, version",
    "SELECT * FROM shop.ticket_messages ORDER BY message_id",
    "SELECT * FROM shop.refunds ORDER BY refund_id",
)


async def everything(stage: Stage, case: Case) -> list[list[Any]]:
    """All rows that the case's runs may have written."""
    async with stage.engine.connect() as db:
        found = []
        for query in ROWS:
            known: dict[str, UUID | str] = {"e": case.execution_id, "t": str(case.execution_id)}
            statement = text(query)
            bound = {name: known[name] for name in statement.compile().params}
            found.append([tuple(row) for row in await db.execute(statement, bound)])
    return found
