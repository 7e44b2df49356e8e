"""The support workflow in LangGraph's own server, driven as the Studio drives it.

The server runs in a folder of its own, so that neither a developer's .env (which would win over what is set here) nor
threads of an earlier run reach it; the graph and its langgraph.json are the repository's.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.schema import Command, Interrupt
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from casework.actor import Actor, Role
from casework.execution import Mode
from casework.resources import open_resources
from casework.settings import Settings
from casework.store import Store
from graphs.support import builder
from tests.conftest import ROOT, Template, async_engine, in_database, run_sql
from tests.rig import NoQueue
from tools.shop.tables import tickets

BOOT_TIMEOUT_S = 60.0
CUSTOMER, TICKET, VASE_MINOR = "C-1042", "T-1042", 3490


@dataclass(frozen=True)
class Studio:
    """The running server, seen from outside, and the database it works on."""

    client: LangGraphClient
    engine: AsyncEngine
    database_url: str

    async def ticket(self) -> dict[str, Any]:
        """The graph's input for the ticket of the broken vase."""
        async with self.engine.connect() as db:
            words = select(tickets.c.subject, tickets.c.body).where(tickets.c.ticket_id == TICKET)
            row = (await db.execute(words)).one()
        return {
            "goal": f"resolve ticket {TICKET}",
            "case": {"customer_id": CUSTOMER, "ticket_id": TICKET},
            "request": f"{row.subject}\n\n{row.body}",
        }

    async def run(self, thread_id: str, **what: Any) -> list[Any]:
        """Stream one run to its next wait or its end; the errors it told of."""
        parts = self.client.runs.stream(thread_id, "support", stream_mode="updates", **what)
        return [part.data async for part in parts if part.event == "error"]

    async def answer(self, thread_id: str, interrupt: Interrupt, **decision: Any) -> None:
        command = Command(resume={interrupt["id"]: decision})
        assert await self.run(thread_id, command=command) == []

    async def asked(self, thread_id: str) -> list[Interrupt]:
        return (await self.client.threads.get_state(thread_id))["interrupts"]

    async def values(self, thread_id: str) -> dict[str, Any]:
        return dict((await self.client.threads.get_state(thread_id))["values"])

    async def rows(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        async with self.engine.connect() as db:
            return [tuple(row) for row in await db.execute(text(query), parameters)]

    async def effects(self, thread_id: str) -> list[tuple[Any, ...]]:
        query = "SELECT tool, state FROM casework.effects WHERE execution_id = :t ORDER BY started_at"
        return await self.rows(query, t=thread_id)

    async def paid_back(self) -> list[tuple[Any, ...]]:
        return await self.rows("SELECT amount_minor, state FROM shop.refunds WHERE order_id = 'O-5042'")


@pytest.fixture(scope="module")
def database(postgres_url: str, template: Template) -> Iterator[str]:
    name = f"casework_studio_{uuid4().hex[:12]}"
    run_sql(postgres_url, "CREATE DATABASE {} TEMPLATE {}", name, template.name)
    yield in_database(postgres_url, name)
    run_sql(postgres_url, "DROP DATABASE {} WITH (FORCE)", name)


@pytest.fixture(scope="module")
def server_url(database: str, template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One `langgraph dev` for this module, with a payments book of its own."""
    folder, port = tmp_path_factory.mktemp("studio"), free_port()
    (folder / "data").mkdir()
    shutil.copy(template.book, folder / "data" / "payments.jsonl")
    program = str(Path(sys.executable).with_name("langgraph"))
    where = ["--host", "127.0.0.1", "--port", str(port), "--config", str(ROOT / "langgraph.json")]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [program, "dev", "--no-browser", "--no-reload", *where],
            cwd=folder,
            env=environment(folder / "data", database),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        if not answers(f"{url}/ok", server):
            pytest.fail(f"langgraph dev did not start:\n{(folder / 'server.log').read_text()[-4000:]}")
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest_asyncio.fixture(scope="module")
async def studio(server_url: str, database: str) -> AsyncIterator[Studio]:
    engine = async_engine(database)
    async with get_client(url=server_url) as client:
        yield Studio(client, engine, database)
    await engine.dispose()


def environment(data_dir: Path, database: str) -> dict[str, str]:
    """This process's, without what would send anything anywhere."""
    mine = {k: v for k, v in os.environ.items() if not k.startswith(("LANGSMITH_", "LANGCHAIN_", "CASEWORK_"))}
    return mine | {
        "DATABASE_URL": database,
        "CASEWORK_DATA_DIR": str(data_dir),
        "CASEWORK_MODEL": "offline",
        "LANGGRAPH_NO_VERSION_CHECK": "true",
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def answers(url: str, server: subprocess.Popen[bytes]) -> bool:
    """Wait until it does; False when it died, or took too long."""
    deadline = time.monotonic() + BOOT_TIMEOUT_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            return httpx.get(url, trust_env=False).is_success
        except httpx.HTTPError:
            time.sleep(0.1)
    return False


async def test_the_studio_shows_a_form_for_the_input_and_every_edge(studio: Studio) -> None:
    (assistant,) = await studio.client.assistants.search(graph_id="support")
    schemas = await studio.client.assistants.get_schemas(assistant["assistant_id"])
    form, result = schemas["input_schema"], schemas["output_schema"]
    assert form is not None
    assert result is not None
    assert {name: field["type"] for name, field in form["properties"].items()} == {
        "goal": "string",
        "case": "object",
        "request": "string",
    }
    assert form["required"] == ["goal", "case", "request"]
    assert set(result["properties"]) == {"outcome", "answer", "spent", "messages_read"}

    shown = await studio.client.assistants.get_graph(assistant["assistant_id"])
    drawn = builder.compile().get_graph()
    assert {node["id"] for node in shown["nodes"]} == set(drawn.nodes)
    assert {(edge["source"], edge["target"]) for edge in shown["edges"]} == {(e.source, e.target) for e in drawn.edges}


async def test_a_wrong_digest_makes_nothing_happen(studio: Studio) -> None:
    thread_id = (await studio.client.threads.create())["thread_id"]
    assert await studio.run(thread_id, input=await studio.ticket()) == []
    (question,) = await studio.asked(thread_id)
    assert question["value"]["name"] == "issue_refund"
    before = await studio.paid_back()

    await studio.answer(thread_id, question, type="approve", digest="0" * 64)
    told = [m["content"] for m in (await studio.values(thread_id))["messages"] if m.get("name") == "issue_refund"]
    assert told == ["Refused: the digest is not the one of this call"]
    assert await studio.paid_back() == before == []
    assert "issue_refund" not in [tool for tool, _ in await studio.effects(thread_id)]


async def test_an_answer_that_is_no_decision_leaves_the_question_open(studio: Studio) -> None:
    thread_id = (await studio.client.threads.create())["thread_id"]
    assert await studio.run(thread_id, input=await studio.ticket()) == []
    (question,) = await studio.asked(thread_id)
    errors = await studio.run(thread_id, command=Command(resume={question["id"]: {"type": "yes"}}))
    assert [error["error"] for error in errors] == ["ValidationError"]
    assert await studio.asked(thread_id) == [question]
    assert await studio.effects(thread_id) == []


async def test_a_ticket_is_worked_to_its_end_and_the_refund_paid_once(studio: Studio) -> None:
    thread_id = (await studio.client.threads.create())["thread_id"]
    assert await studio.run(thread_id, input=await studio.ticket()) == []
    approved: list[tuple[str, int | None]] = []
    while questions := await studio.asked(thread_id):
        for question in questions:
            request = question["value"]
            approved.append((request["name"], request["args"].get("amount_minor")))
            assert "this workflow runs in copilot mode: every write asks" in request["reasons"]
            for _ in range(2):  # a doubled click
                await studio.answer(thread_id, question, type="approve", digest=request["digest"])

    assert approved[0] == ("issue_refund", VASE_MINOR)
    assert await studio.paid_back() == [(VASE_MINOR, "succeeded")]
    assert await studio.effects(thread_id) == [(tool, "done") for tool, _ in approved]
    assert (await studio.values(thread_id))["outcome"]["status"] == "succeeded"
    marked = "SELECT source, requester, mode, fence, lease_owner FROM casework.executions WHERE execution_id = :t"
    assert await studio.rows(marked, t=thread_id) == [("studio", "studio", "copilot", 0, None)]


async def test_a_thread_that_is_an_execution_of_the_service_is_left_to_its_worker(studio: Studio) -> None:
    olga = Actor(actor_id="olga", roles=frozenset({Role.OPERATOR}))
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    async with open_resources(settings, studio.database_url) as resources:
        store = Store(resources.engine, resources.pool, NoQueue())
        execution, _ = await store.create(olga, "support", "v1", Mode.AUTONOMOUS, await studio.ticket())
        before, thread_id = await store.get("default", execution.execution_id), str(execution.execution_id)
        await studio.client.threads.create(thread_id=thread_id)
        errors = await studio.run(thread_id, input=await studio.ticket())
        assert [error["error"] for error in errors] == ["NotAllowed"]
        assert await studio.effects(thread_id) == []
        assert await store.get("default", execution.execution_id) == before
