"""A stream across processes: the API that serves it runs nothing, is killed in the middle, and another one goes on."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psycopg
from sqlalchemy.ext.asyncio import AsyncEngine

from casework.actor import SYSTEM, Role
from casework.identity import Identity
from casework.resources import Pool
from tests.processes import Process, casework, until
from tests.streams import Told, opened, told
from tests.web import DAMAGED
from tools.shop.sandbox_provider import SANDBOX_KEY

PATIENCE_S = 60.0
READY = "API listens on"


def address(api: Process) -> str:
    found = re.search(rf"{READY} (\S+)", api.said())
    assert found is not None
    return found[1]


def announced(database_url: str, execution_id: str) -> bool:
    """Whether the workers know that somebody follows the execution."""
    with psycopg.connect(database_url) as db:
        query = "SELECT 1 FROM casework.listeners WHERE until > now() AND %s = ANY(executions)"
        return db.execute(query, (execution_id,)).fetchone() is not None


@asynccontextmanager
async def following(api: Process, key: str, execution_id: str, after: int) -> AsyncIterator[AsyncIterator[Told]]:
    async with (
        asyncio.timeout(PATIENCE_S),
        opened(address(api), key, execution_id, {"Last-Event-ID": str(after)}) as response,
    ):
        yield told(response.aiter_lines())


async def request(api: Process, key: str, method: str, path: str, **how: Mapping[str, object]) -> httpx.Response:
    async with httpx.AsyncClient(base_url=address(api), trust_env=False, timeout=30) as client:
        answer = await client.request(method, path, headers={"Authorization": f"Bearer {key}"}, **how)  # type: ignore[arg-type]
    answer.raise_for_status()
    return answer


async def test_a_story_is_followed_live_through_two_apis_while_a_worker_elsewhere_runs_it(
    database_url: str, engine: AsyncEngine, pool: Pool, payments_url: str, tmp_path: Path
) -> None:
    identity = Identity(engine, pool, "pepper")
    olga = await identity.add_key("default", "olga", frozenset({Role.OPERATOR}), by=SYSTEM)
    ada = await identity.add_key("default", "ada", frozenset({Role.APPROVER}), by=SYSTEM)
    env = {
        "DATABASE_URL": database_url,
        "CASEWORK_KEY_PEPPER": "pepper",
        "CASEWORK_DATA_DIR": str(tmp_path),
        "CASEWORK_MODEL": "offline",
        "CASEWORK_MODES__SUPPORT": "autonomous",
        "CASEWORK_PAYMENTS_URL": payments_url,
        "CASEWORK_PAYMENTS_KEY": SANDBOX_KEY,
        "CASEWORK_PORT": "0",
    }
    seen: list[Told] = []
    with casework("worker", tmp_path / "worker.log", env, "worker is ready") as worker:
        with casework("api", tmp_path / "first.log", env, READY) as first:
            started = await request(first, olga, "POST", "/workflows/support/executions", json={"input": DAMAGED})
            execution_id = started.json()["execution_id"]
            async with following(first, olga, execution_id, 0) as story:
                async for event in story:
                    seen.append(event)
                    if event.type == "approval.requested":
                        break
                first.kill()
        with casework("api", tmp_path / "second.log", env, READY) as second:
            waiting = await request(second, ada, "GET", "/approvals", params={"execution_id": execution_id})
            (approval,) = waiting.json()["approvals"]
            async with following(second, olga, execution_id, seen[-1].seq or 0) as story:
                await asyncio.to_thread(until, lambda: announced(database_url, execution_id), PATIENCE_S, second.said)
                decision = {"type": "approve", "digest": approval["digest"]}
                await request(second, ada, "POST", f"/approvals/{approval['approval_id']}/decision", json=decision)
                seen += [event async for event in story]
            page = await request(second, olga, "GET", f"/executions/{execution_id}/events", params={"limit": 1000})
            assert second.stop() == 0
        assert worker.stop() == 0
    kept = [Told(event["type"], event, event["seq"]) for event in page.json()["events"]]
    assert [event for event in seen if event.seq is not None] == kept
    assert seen[-1] == Told("end", {"status": "succeeded"}, None)
    tokens = [event for event in seen if event.type == "token"]
    (answered,) = [e.data["data"] for e in kept if e.type == "model.answered" and e.data["data"]["text"]]
    assert "".join(token.data["text"] for token in tokens) == answered["text"], json.dumps([t.data for t in tokens])
