"""A worker told to stop in the middle of a case: it ends soon, and another one goes on at once, with nothing twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest

from casework.execution import Status
from tests.forks import Forked
from tests.processes import eventually
from tests.slow_model import THINKING
from tests.stage import KEYED, LEASE, Case, Stage
from tools.shop.payments_client import Patience

pytestmark = pytest.mark.long

GONE_WITHIN_S = 10.0


@asynccontextmanager
async def slow_provider(stage: Stage, delay_s: float) -> AsyncIterator[None]:
    """It books refunds at once, and answers late."""
    async with httpx.AsyncClient(base_url=stage.env["CASEWORK_PAYMENTS_URL"], trust_env=False) as client:
        fault = {"kind": "delay", "count": Patience().tries, "delay_s": delay_s}
        (await client.post("/sandbox/faults", json=fault)).raise_for_status()
        yield
        (await client.delete("/sandbox/faults")).raise_for_status()


async def stopped(stage: Stage, case: Case, worker: Forked) -> None:
    """Tell it to stop; it must be gone in time, and the case free, long before the lease would have run out."""
    told = time.monotonic()
    await worker.stop()
    assert time.monotonic() - told < GONE_WITHIN_S
    free = "SELECT status = 'queued' AND lease_until IS NULL FROM casework.executions WHERE execution_id = :e"
    assert await stage.scalar(free, e=case.execution_id)


async def taken_up(stage: Stage, case: Case) -> None:
    """Another worker finishes it; being stopped was no failed attempt."""
    assert await stage.over(case) is Status.SUCCEEDED
    story = await stage.service.store.events("default", case.execution_id)
    assert [event.data["attempt"] for event in story if event.type == "run.started"] == [1, 1]
    assert stage.paid_back(case) == [1780]
    assert await stage.broken() == []


@pytest.mark.parametrize("delay_s", [2.0, 40.0], ids=["it waits for a tool", "it does not wait for ever"])
async def test_stopped_in_the_middle_of_a_slow_tool(stage: Stage, survivor: Forked, delay_s: float) -> None:
    with stage.worker(f"stopped-in-tool-{delay_s:g}") as worker:
        await worker.ready()
        with survivor.frozen():
            ids = await stage.copy(KEYED)
            async with slow_provider(stage, delay_s):
                case = await stage.accept(ids)
                await eventually(lambda: stage.paid_back(case), worker.said)
                await stopped(stage, case, worker)
                state = "SELECT state FROM casework.effects WHERE execution_id = :e AND tool = 'issue_refund'"
                left = "done" if delay_s < GONE_WITHIN_S else "started"
                assert await stage.scalar(state, e=case.execution_id) == left
    await taken_up(stage, case)


async def test_stopped_in_the_middle_of_a_slow_model(stage: Stage, survivor: Forked) -> None:
    thinking = replace(stage, env={**stage.env, "CASEWORK_MODEL": "tests.slow_model:Thinker"})
    with thinking.worker("stopped-in-model") as worker:
        await worker.ready()
        with survivor.frozen():
            case = await stage.begin(KEYED)
            await eventually(lambda: THINKING in worker.said(), worker.said)
            await stopped(stage, case, worker)
    await taken_up(stage, case)


async def test_stopped_while_it_does_nothing(stage: Stage) -> None:
    with stage.worker("idle") as worker:
        await worker.ready()
        told = time.monotonic()
        os.kill(worker.pid, signal.SIGTERM)
        await eventually(lambda: worker.process.exitcode is not None, worker.said)
        assert (worker.process.exitcode, time.monotonic() - told < LEASE.total_seconds()) == (0, True)
