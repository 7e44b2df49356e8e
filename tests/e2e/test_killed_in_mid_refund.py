"""A worker killed with -9 in the middle of a refund: started again, it pays once. Its control pays twice."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from psycopg import connect
from psycopg.rows import dict_row

from casework.approval import canonical
from tests.conftest import ROOT
from tests.processes import casework, config, eventually
from tools.shop.sandbox_provider import SANDBOX_KEY

TICKET, ORDER = "T-1033", "O-5033"
"""Two of six tumblers broken: what is owed is less than half of what was paid, so that paying twice is possible."""

ANSWER_DELAY_S = 30
"""How long the provider sits on its first answer, having booked the refund: long enough to be killed in."""


def queue_ticket(database_url: str, ticket: str) -> UUID:
    """An execution as the API leaves it; the reconciler wakes it."""
    execution_id = uuid4()
    with connect(database_url, autocommit=True, row_factory=dict_row) as db:
        row = db.execute("SELECT * FROM shop.tickets WHERE ticket_id = %s", (ticket,)).fetchone()
        assert row is not None
        case = {"customer_id": row["customer_id"], "ticket_id": ticket}
        opened = {"goal": f"resolve ticket {ticket}", "case": case, "request": row["body"]}
        db.execute(
            "INSERT INTO casework.executions (execution_id, workflow, graph_version, tenant, requester, status, mode,"
            " input) VALUES (%s, 'support', 'test', 'default', 'olga', 'queued', 'autonomous', %s)",
            (execution_id, canonical(opened)),
        )
    return execution_id


def has_status(database_url: str, execution_id: UUID, status: str) -> bool:
    with connect(database_url) as db:
        row = db.execute("SELECT status FROM casework.executions WHERE execution_id = %s", (execution_id,)).fetchone()
    return row is not None and row[0] == status


def paid_back(book: Path, order: str) -> list[int]:
    """Amounts the provider paid back on an order, in cents, from its own book: asking it would meet its fault."""
    answers = [json.loads(line)["reply"]["body"] for line in book.read_text().splitlines()]
    return [b["amount"] for b in answers if b.get("object") == "refund" and b["metadata"].get("order_id") == order]


@pytest.mark.parametrize(
    ("target", "paid"),
    [
        pytest.param("graphs.support:builder", [1780], id="with the ledger it pays once"),
        pytest.param(f"{ROOT}/tests/workflows/unledgered.py:builder", [1780, 1780], id="without it pays twice"),
    ],
)
async def test_killed_while_the_provider_answers(
    target: str, paid: list[int], database_url: str, payments_url: str, payments_book: Path, tmp_path: Path
) -> None:
    env = {
        "DATABASE_URL": database_url,
        "CASEWORK_KEY_PEPPER": "pepper",
        "CASEWORK_DATA_DIR": str(tmp_path),
        "CASEWORK_MODEL": "offline",
        "CASEWORK_PAYMENTS_URL": payments_url,
        "CASEWORK_PAYMENTS_KEY": SANDBOX_KEY,
        "CASEWORK_LEASE": "PT2S",
        "CASEWORK_RECONCILE_EVERY": "PT0.5S",
    }
    command = f"worker --config {config(tmp_path, target)}"
    async with httpx.AsyncClient(base_url=payments_url, trust_env=False) as client:
        fault = {"kind": "delay", "count": 1, "delay_s": ANSWER_DELAY_S}
        (await client.post("/sandbox/faults", json=fault)).raise_for_status()
    execution_id = queue_ticket(database_url, TICKET)
    with casework(command, tmp_path / "first.log", env, "worker is ready") as first:
        await eventually(lambda: paid_back(payments_book, ORDER) == [1780], first.said)
        first.kill()
    assert has_status(database_url, execution_id, "running")
    with casework(command, tmp_path / "second.log", env, "worker is ready") as second:
        await eventually(lambda: has_status(database_url, execution_id, "succeeded"), second.said)
        assert second.stop() == 0
    assert paid_back(payments_book, ORDER) == paid
