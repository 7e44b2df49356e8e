"""Hundreds of waiting cases approved at once over HTTP, each twice, for two workers: one effect each."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx
import pytest

from casework.actor import SYSTEM, Actor, Role
from casework.approval import Approval, ApprovalState
from tests.forks import Forked
from tests.rig import ADA, BEN
from tests.stage import ASKING, Case, Stage

pytestmark = pytest.mark.long

CASES = 300
AT_ONCE = 50
"""Requests under way."""
PATIENCE_S = 120.0
STATUSES = "SELECT status FROM casework.executions WHERE execution_id = ANY(:them) GROUP BY status"


async def all_are(stage: Stage, cases: list[Case], status: str) -> None:
    them = [case.execution_id for case in cases]
    async with asyncio.timeout(PATIENCE_S):
        while await stage.rows(STATUSES, them=them) != [(status,)]:  # noqa: ASYNC110 - it lies in the database
            await asyncio.sleep(0.2)


async def test_all_are_done_once(stage: Stage, survivor: Forked) -> None:
    add_key = stage.service.identity.add_key
    keys = {
        who.actor_id: await add_key("default", who.actor_id, frozenset({Role.APPROVER}), by=SYSTEM)
        for who in (ADA, BEN)
    }
    with stage.worker("second") as second:
        await second.ready()
        cases = [await stage.begin(ASKING) for _ in range(CASES)]
        await all_are(stage, cases, "waiting")
        pending = await stage.service.decisions.page("default", limit=CASES + 1, state=ApprovalState.PENDING)
        assert len(pending) == CASES
        async with stage.api("api") as (_, url):
            met = await approved_twice(url, keys, pending)
        await all_are(stage, cases, "succeeded")
        assert second.process.exitcode is None
        await second.stop()
    half = CASES // 2
    assert met == {("the same again", 200): 2 * half, ("somebody else", 200): half, ("somebody else", 409): half}
    assert [stage.paid_back(case) for case in cases] == [[24000]] * CASES
    assert await stage.broken() == []


async def approved_twice(url: str, keys: dict[str, str], pending: list[Approval]) -> Counter[tuple[str, int]]:
    """Half of them by one person who clicks twice, half by two people; all at once. Returns the answers' statuses."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def approve(client: httpx.AsyncClient, way: str, who: Actor, asked: Approval) -> tuple[str, int]:
        async with gate:
            answer = await client.post(
                f"/approvals/{asked.approval_id}/decision",
                json={"type": "approve", "digest": asked.digest},
                headers={"Authorization": f"Bearer {keys[who.actor_id]}"},
            )
        return way, answer.status_code

    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=PATIENCE_S) as client:
        clicks = []
        for number, asked in enumerate(pending):
            way, second = ("somebody else", BEN) if number % 2 else ("the same again", ADA)
            clicks += [approve(client, way, ADA, asked), approve(client, way, second, asked)]
        return Counter(await asyncio.gather(*clicks))
