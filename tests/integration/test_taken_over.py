"""Taking a case from agents that are at work on it: their run is over, and what they had allowed is not done later."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from casework.errors import CallUnderWay, LostLease
from casework.execution import Mode, Status
from casework.faults import arm
from casework.handing import Handing
from casework.legs import Ending
from casework.settings import Settings
from tests.rig import BEN, Rig, call, rig, scripted

REFUND = call("issue_refund", order_id="O-5042", amount_minor=3490, reason="damaged")
"""Within what the policy lets an agent pay alone."""


@pytest.fixture(autouse=True)
def nothing_armed() -> Iterator[None]:
    yield
    arm({})


def handing(case: Rig) -> Handing:
    return Handing(case.resources.engine, case.queue)


async def stopped_before_its_call(case: Rig) -> UUID:
    """A case whose run broke when its refund was allowed and not begun; it waits to be tried again."""
    for nth in range(2, 12):
        arm({"CASEWORK_FAULTS": f"after_checkpoint=raise@{nth}", "CASEWORK_ALLOW_FAULTS": "1"})
        execution_id = await case.start("T-1042", Mode.AUTONOMOUS)
        assert await case.advance(execution_id) is Status.QUEUED
        arm({})
        if await case.events(execution_id, "call.checked"):
            assert await case.scalar("SELECT count(*) FROM casework.effects") == 0
            await case.execute("UPDATE casework.executions SET wake_at = now()")
            return execution_id
    raise AssertionError("no run broke there")


async def paid(case: Rig) -> int:
    return int(
        await case.scalar("SELECT count(*) FROM casework.effects WHERE tool = 'issue_refund' AND state = 'done'")
    )


async def test_a_call_that_was_allowed_is_not_made_after_a_person_had_the_case(
    settings: Settings, database_url: str
) -> None:
    async with rig(settings, database_url, scripted([REFUND], "Told them.")) as case:
        execution_id = await stopped_before_its_call(case)
        await handing(case).take_over(BEN, execution_id, "I pay it myself.")
        await handing(case).hand_back(BEN, execution_id, "It is paid; close the case.")
        await case.advance(execution_id)
        assert await paid(case) == 0
        (failed,) = await case.events(execution_id, "call.failed")
        assert failed.data["error"] == "not made: a person took the case over"


async def test_without_that_the_same_case_makes_its_call(settings: Settings, database_url: str) -> None:
    """The control: what stands in the checkpoint is made when the run is tried again."""
    async with rig(settings, database_url, scripted([REFUND], "Told them.")) as case:
        execution_id = await stopped_before_its_call(case)
        await case.advance(execution_id)
        assert await paid(case) == 1


async def test_a_run_that_lost_its_case_writes_nothing_more(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted("Done.")) as case:
        execution_id = await case.start("T-1042")
        leg = await case.legs.claim(execution_id, "tester", timedelta(seconds=60))
        assert leg is not None
        taken = await handing(case).take_over(BEN, execution_id, "Mine now.")
        assert (taken.status, taken.owner, taken.fence) == (Status.ESCALATED, "ben", 2)
        # Over for a leg that succeeded, too: the one statement that ends it finds another fence.
        for status in (Status.SUCCEEDED, Status.WAITING):
            with pytest.raises(LostLease):
                await case.legs.finish(leg, Ending(status), ())
        assert (await case.get(execution_id)).status is Status.ESCALATED
        assert await case.scalar("SELECT count(*) FROM casework.runs WHERE status = 'running'") == 0
        await handing(case).hand_back(BEN, execution_id, "Go on, please.")
        assert await case.advance(execution_id) in (Status.SUCCEEDED, Status.ESCALATED)


async def test_a_call_that_is_under_way_is_waited_for(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted([REFUND], "Told them.")) as case:
        execution_id = await case.start("T-1042")
        await case.execute(
            "INSERT INTO casework.effects (key, execution_id, tool, args, digest, effect, state, fence) "
            "VALUES ('the call', :e, 'issue_refund', '{}', 'x', 'keyed', 'started', 1)",
            e=execution_id,
        )
        with pytest.raises(CallUnderWay):
            await handing(case).take_over(BEN, execution_id, "Mine now.")
        assert (await case.get(execution_id)).status is Status.QUEUED
        await case.execute("UPDATE casework.effects SET state = 'done'")
        assert (await handing(case).take_over(BEN, execution_id, "Mine now.")).owner == "ben"
