"""Each rule that keeps a case right, met where it matters; beside it a control without the rule, which must break."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count

import pytest

from casework.execution import Status
from tests.forks import Forked
from tests.processes import eventually
from tests.stage import KEYED, TAKEN_OVER_S, TRANSACTIONAL, Stage

pytestmark = pytest.mark.long

OURS = "graphs.support:builder"
NEVER = "PT1H"
FORK = "a fork in the checkpoints"

NUMBERS = count(1)


@pytest.mark.parametrize(
    ("target", "forks"),
    [
        pytest.param(OURS, 0, id="with the fence there is one story"),
        pytest.param("tests.workflows.unfenced:builder", 1, id="with the stock saver it forks"),
    ],
)
async def test_a_worker_that_wakes_up_and_runs_on(stage: Stage, survivor: Forked, target: str, forks: int) -> None:
    silent = "before_beat=delay:60"  # or its heartbeat, the other guard, would mostly stop the run first
    with stage.worker(f"fence-{next(NUMBERS)}", target, f"{silent},after_effect=pause@1") as zombie:
        await zombie.ready()
        with survivor.frozen():
            case = await stage.begin(KEYED)
            await zombie.meets("after_effect")
        assert await stage.over(case) is Status.SUCCEEDED
        zombie.thaw()
        await eventually(lambda: "lost" in zombie.said(), zombie.said)
        await zombie.stop()
    broken = [found for found in await stage.broken() if str(case.execution_id) in found]
    assert [found.partition(":")[0] for found in broken] == [FORK] * forks
    assert stage.paid_back(case) == [1780]


@pytest.mark.parametrize(
    ("target", "twice"),
    [
        pytest.param(OURS, False, id="saved in step it acts once"),
        pytest.param("tests.workflows.unsynced:builder", True, id="saved behind the run it acts twice"),
    ],
)
async def test_killed_after_an_effect_on_a_slow_database(
    stage: Stage, survivor: Forked, target: str, twice: bool
) -> None:
    slow = "before_checkpoint=delay:0.3,after_effect=kill"
    with stage.worker(f"sync-{next(NUMBERS)}", target, slow) as doomed:
        await doomed.ready()
        with survivor.frozen():
            case = await stage.begin(TRANSACTIONAL)
            await doomed.killed()
        assert await stage.over(case) is Status.SUCCEEDED
    assert (await stage.messages(case) > 2) is twice


@pytest.mark.parametrize(
    ("target", "paid"),
    [
        pytest.param(OURS, [1780], id="with the ledger it pays once"),
        pytest.param("tests.workflows.unledgered:builder", [1780, 1780], id="without it pays twice"),
    ],
)
async def test_killed_when_the_provider_has_answered(
    stage: Stage, survivor: Forked, target: str, paid: list[int]
) -> None:
    with stage.worker(f"ledger-{next(NUMBERS)}", target, "after_answer=kill") as doomed:
        await doomed.ready()
        with survivor.frozen():
            case = await stage.begin(KEYED)
            await doomed.killed()
        assert await stage.over(case) is Status.SUCCEEDED
    assert stage.paid_back(case) == paid


@pytest.mark.parametrize(
    ("every", "status"),
    [
        pytest.param("PT0.5S", Status.SUCCEEDED, id="the reconciler has it taken over"),
        pytest.param(NEVER, Status.RUNNING, id="without it nobody ever comes"),
    ],
)
async def test_a_case_whose_worker_is_dead(stage: Stage, survivor: Forked, every: str, status: Status) -> None:
    wrecks = await stage.broken()  # of the controls above
    reconciling = replace(stage, env={**stage.env, "CASEWORK_RECONCILE_EVERY": every})
    with stage.worker(f"dying-{next(NUMBERS)}", faults="after_effect=kill") as doomed:
        await doomed.ready()
        with survivor.frozen():
            case = await stage.begin(KEYED)
            await doomed.killed()
            with reconciling.worker(f"heir-{next(NUMBERS)}") as heir:
                await heir.ready()
                await asyncio.sleep(TAKEN_OVER_S)  # nothing to wait for: the control is that nothing comes
                assert (await stage.service.store.get("default", case.execution_id)).status is status
                await heir.stop()
    assert await stage.over(case) is Status.SUCCEEDED
    assert stage.paid_back(case) == [1780]
    assert await stage.broken() == wrecks
