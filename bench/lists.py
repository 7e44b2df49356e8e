"""What every list costs at a million executions: the plans of the product's own statements.

    python -m bench.lists [--executions 1000000]

Each method that lists or finds something is called on a filled database; the statements that it sends are caught,
whatever sends them, and explained with the same parameters.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import psycopg

import casework  # noqa: F401  # first: it sets what LangGraph reads while it is imported
from bench.filling import SMALL_TENANT, TENANT, fill
from bench.service import CONFIG
from casework.actor import Actor, Role
from casework.approval import ApprovalState
from casework.embedded import embedded_postgres
from casework.execution import Outcome, Status
from casework.inbox import Wanted
from casework.migrate import migrate
from casework.settings import Settings
from server.jobs import Worker
from server.service import Service, open_service

LIMIT = 51
"""A page of 50, and one to know whether there are more."""
LOOKS = 3
"""Times a plan is run; the median counts, so the pages it needs are in memory."""
EXPLAIN = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
LEASE = timedelta(seconds=30)
ANA = Actor(actor_id="ana", tenant=TENANT, roles=frozenset({Role.APPROVER}))
SMALL = {"audit_head"}
"""Tables with a row per tenant: read from end to end, as they should be."""

Position = tuple[datetime, UUID]
Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Plan:
    """How the database answered one statement."""

    name: str
    statement: str
    ms: float
    pages: int
    """Of 8 KiB, read from memory or disk."""
    root: Mapping[str, Any]

    def nodes(self) -> Iterator[Mapping[str, Any]]:
        """Every step, outermost first."""
        found = [self.root]
        while found:
            node = found.pop(0)
            found += node.get("Plans", [])
            yield node

    def sequential(self) -> set[str]:
        """Tables that grow with the executions and are read from end to end."""
        return {node["Relation Name"] for node in self.nodes() if node["Node Type"] == "Seq Scan"} - SMALL

    def examined(self) -> int:
        """Rows that scans looked at, kept or not: what an index should keep near what is asked for."""
        return sum(map(_examined, self.nodes()))

    def outline(self) -> str:
        """Its scans in one line."""
        scans = [node for node in self.nodes() if "Scan" in node["Node Type"]]
        return "; ".join(f"{node['Node Type']} {node.get('Index Name', node.get('Alias', ''))}" for node in scans)


def _examined(node: Mapping[str, Any]) -> int:
    if "Scan" not in node["Node Type"]:
        return 0
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return int((node["Actual Rows"] + removed) * node["Actual Loops"])


@dataclass(frozen=True)
class Landmarks:
    """Places in the filled database that the lists are asked from."""

    deep: Position
    """Of an execution older than 9 in 10."""
    deep_approval: Position
    """Of a pending approval behind 9 in 10."""
    waiting: UUID
    queued: UUID
    running: UUID


async def plans(service: Service, worker: Worker) -> list[Plan]:
    """The plan of every statement of every list, on a filled database. The worker is not running."""
    found = []
    at = _landmarks(service.resources.database_url)
    for name, call in _calls(service, worker, at).items():
        with _caught() as statements:
            await call()
        found += [_explained(service.resources.database_url, name, *each) for each in statements]
    return found


def _calls(service: Service, worker: Worker, at: Landmarks) -> dict[str, Call]:
    """Every list and every search of the product, as its endpoints and workers call it."""
    store, decisions, legs = service.store, service.decisions, worker.legs

    def page(**how: Any) -> Call:
        return lambda: store.page(**{"tenant": TENANT, "limit": LIMIT, **how})

    def inbox(**how: Any) -> Call:
        return lambda: decisions.page(**{"tenant": TENANT, "limit": LIMIT, "state": ApprovalState.PENDING, **how})

    return {
        "executions: newest": page(),
        "executions: deep cursor": page(before=at.deep),
        "executions: of a small tenant": page(tenant=SMALL_TENANT),
        "executions: status=succeeded": page(status=Status.SUCCEEDED),
        "executions: status=waiting": page(status=Status.WAITING),
        "executions: status=running": page(status=Status.RUNNING),
        "executions: status=failed, all long ago": page(status=Status.FAILED),
        "executions: status=failed, deep cursor": page(status=Status.FAILED, before=at.deep),
        "executions: workflow=support": page(workflow="support"),
        "executions: workflow=retired, all long ago": page(workflow="retired"),
        "executions: workflow=retired, status=failed": page(workflow="retired", status=Status.FAILED),
        "executions: workflow, of nobody": page(workflow="never"),
        "executions: requester=helpdesk": page(requester="helpdesk"),
        "executions: requester=former, a few long ago": page(requester="former"),
        "executions: requester=old-system, many long ago": page(requester="old-system"),
        "executions: requester, of nobody": page(requester="never"),
        "execution: by id": lambda: store.get(TENANT, at.waiting),
        "events: first page": lambda: store.events(TENANT, at.waiting),
        "events: from the third on": lambda: store.news(TENANT, at.waiting, after=2, limit=100),
        "approvals: inbox": inbox(),
        "approvals: inbox, deep cursor": inbox(after=at.deep_approval),
        "approvals: inbox of a small tenant": inbox(tenant=SMALL_TENANT),
        "approvals: of one execution": inbox(execution_id=at.waiting),
        "approvals: state=approved": inbox(state=ApprovalState.APPROVED),
        "approvals: state=expired, of nobody": inbox(state=ApprovalState.EXPIRED),
        "executions: specialist=billing": page(specialist="billing"),
        "executions: specialist, of nobody": page(specialist="never"),
        "executions: customer=C-1": page(customer="C-1"),
        "executions: outcome=by_a_person": page(outcome=Outcome.BY_A_PERSON),
        "handed: all": lambda: service.handing.page(ANA, limit=LIMIT),
        "inbox: mine": lambda: service.inbox.page(ANA, Wanted(mine=True), LIMIT),
        "inbox: what waits": lambda: service.inbox.waiting(ANA),
        "worker: forgotten": lambda: legs.forgotten(timedelta(seconds=10)),
        "worker: reopen": lambda: legs.reopen({"v1"}),
        "worker: expire_due": decisions.expire_due,
        "worker: claim": lambda: legs.claim(at.queued, "bench", LEASE),
        "worker: beat": lambda: legs.beat("worker:1:abc", LEASE, {at.running: 1}),
        "worker: answered": lambda: legs.answered(at.waiting),
        "worker: has_open_effects": lambda: legs.has_open_effects(at.waiting),
    }


@contextmanager
def _caught() -> Iterator[list[tuple[str, Any]]]:
    """The statements on our tables that this process sends meanwhile, with their parameters.

    Plain inserts are left out: they search nothing.
    """
    caught: list[tuple[str, Any]] = []
    execute = psycopg.AsyncCursor.execute

    async def catching(self: Any, query: Any, params: Any = None, **how: Any) -> Any:
        statement = query.decode() if isinstance(query, bytes) else str(query)
        if "casework." in statement and not (statement.startswith("INSERT") and "ON CONFLICT" not in statement):
            caught.append((statement, params))
        return await execute(self, query, params, **how)

    # SQLAlchemy and the pool for plain SQL have nothing else in common.
    psycopg.AsyncCursor.execute = catching  # type: ignore[method-assign]
    try:
        yield caught
    finally:
        psycopg.AsyncCursor.execute = execute  # type: ignore[method-assign]


def _explained(database_url: str, name: str, statement: str, parameters: Any) -> Plan:
    """Run it a few times, and undo what it does."""
    looks = []
    with psycopg.connect(database_url) as connection:
        for _ in range(LOOKS):
            row = connection.execute((EXPLAIN + statement).encode(), parameters).fetchone()
            looks.append(row[0][0] if row else {})
            connection.rollback()
    root = looks[-1]["Plan"]
    pages = root.get("Shared Hit Blocks", 0) + root.get("Shared Read Blocks", 0)
    return Plan(name, statement, median(look["Execution Time"] for look in looks), pages, root)


STANDING = """
SELECT DISTINCT ON (status) status, execution_id FROM casework.executions
WHERE tenant = %s AND status IN ('waiting', 'queued', 'running') ORDER BY status, created_at"""
DEEP = """
SELECT created_at, execution_id FROM casework.executions WHERE tenant = %(tenant)s ORDER BY created_at DESC
OFFSET (SELECT count(*) * 9 / 10 FROM casework.executions WHERE tenant = %(tenant)s) LIMIT 1"""
DEEP_APPROVAL = """
SELECT expires_at, approval_id FROM casework.approvals WHERE state = 'pending' ORDER BY expires_at
OFFSET (SELECT count(*) * 9 / 10 FROM casework.approvals WHERE state = 'pending') LIMIT 1"""


def _landmarks(database_url: str) -> Landmarks:
    with psycopg.connect(database_url) as connection:
        (deep,) = connection.execute(DEEP, {"tenant": TENANT})
        (deep_approval,) = connection.execute(DEEP_APPROVAL)
        standing: dict[str, UUID] = dict(connection.execute(STANDING, (TENANT,)).fetchall())
    return Landmarks(deep, deep_approval, **standing)


def table(found: list[Plan]) -> str:
    """As Markdown."""
    lines = ["| list | ms | pages | rows examined | scans |", "|---|---|---|---|---|"]
    lines += [f"| {p.name} | {p.ms:.2f} | {p.pages} | {p.examined()} | {p.outline()} |" for p in found]
    return "\n".join(lines) + "\n"


async def _measure(data_dir: Path, database_url: str, executions: int) -> list[Plan]:
    await migrate(database_url)
    began = time.monotonic()
    await asyncio.to_thread(fill, database_url, executions)
    sys.stderr.write(f"filled in {time.monotonic() - began:.0f} s\n")
    settings = Settings.model_validate({"data_dir": data_dir, "config": CONFIG})
    async with open_service(settings, database_url) as service:
        return await plans(service, service.worker())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executions", type=int, default=1_000_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="casework-lists-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # Postgres runs as another user when we are root
        with embedded_postgres(folder) as url:
            sys.stdout.write(table(asyncio.run(_measure(folder, url, asked.executions))))


if __name__ == "__main__":
    main()
