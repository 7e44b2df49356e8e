"""A worker killed with -9 in the middle of a refund: started again, it pays once. Its control pays twice."""

from __future__ import annotations

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


async def has_status(database_url: str, execution_id: UUID, status: str) -> bool:
    with connect(database_url) as db:
        row = db.execute("SELECT status FROM casework.executions WHERE execution_id = %s", (execution_id,)).fetchone()
    return row is not None and row[0] == status


async def provider_refunds(payments_url: str, charge: str) -> list[int]:
    """Amounts the provider paid back on a charge, in cents."""
    headers = {"Authorization": f"Bearer {SANDBOX_KEY}"}
    async with httpx.AsyncClient(base_url=payments_url, headers=headers, trust_env=False) as client:
        page = (await client.get("/v1/refunds", params={"charge": charge, "limit": 100})).json()
    return [refund["amount"] for refund in page["data"]]


@pytest.mark.parametrize(
    ("target", "paid"),
    [
        pytest.param("graphs.support:builder", [3490], id="with the ledger it pays once"),
        pytest.param(f"{ROOT}/tests/workflows/unledgered.py:builder", [3490, 3490], id="without it pays twice"),
    ],
)
async def test_killed_while_the_provider_answers(
    target: str, paid: list[int], database_url: str, payments_url: str, tmp_path: Path
) -> None:
    with connect(database_url) as db:
        # The control's order must have money left for the second payment.
        row = db.execute("SELECT charge_id FROM shop.charges WHERE order_id = 'O-5042'").fetchone()
    assert row is not None
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
    execution_id = queue_ticket(database_url, "T-1042")
    with casework(command, tmp_path / "first.log", env, "worker is ready") as first:
        await eventually(lambda: provider_refunds(payments_url, row[0]), first.said)
        first.kill()
    assert await has_status(database_url, execution_id, "running")
    with casework(command, tmp_path / "second.log", env, "worker is ready") as second:
        await eventually(lambda: has_status(database_url, execution_id, "succeeded"), second.said)
        assert second.stop() == 0
    assert await provider_refunds(payments_url, row[0]) == paid
