"""A database and a provider that many tests use one after the other, each with a fresh case of its own."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from casework.actor import Actor
from casework.approval import Approval, ApprovalState, Decision
from casework.execution import OVER, Mode, Status
from casework.settings import Settings
from graphs.intake import open_case
from server.service import Service, open_service
from tests.conftest import ROOT
from tests.forks import Forked, forked
from tests.processes import PATIENCE_S, config
from tests.rig import OLGA
from tests.soundness import broken
from tools.shop.payments_client import PaymentsClient
from tools.shop.sandbox_book import Entry
from tools.shop.sandbox_provider import SANDBOX_KEY, running_sandbox

PEPPER = "pepper-of-the-tests"
LEASE = timedelta(seconds=2)
TAKEN_OVER_S = 3 * LEASE.total_seconds()
"""How soon after its worker's death a case must be done by another one."""

ANYWHERE = (
    "after_claim",
    "before_graph",
    "before_checkpoint",
    "before_checkpoint@6",
    "after_checkpoint",
    "after_checkpoint@6",
    "before_writes",
    "before_writes@6",
    "after_writes",
    "after_writes@6",
    "before_effect",
    "before_done",
    "after_effect",
    "before_finish",
    "after_finish",
)
"""Where a worker may be struck in a case; `@6` is in the middle of it."""
OUTSIDE = ("after_started", "before_send", "after_answer")
"""And in one with an effect outside the database."""

KEYED, TRANSACTIONAL = "T-1033", "T-1006"
"""Two of six tumblers broken: a refund of less than half of what was paid. A question: an answer, and no money."""
ASKING = "T-1020"
"""A refund of 240.00 EUR, to which one person must agree; the rest goes by itself."""

COPIES = (
    """INSERT INTO shop.customers SELECT :customer, name, :new || email, tier, language, address, created_at
       FROM shop.customers WHERE customer_id = :old_customer""",
    """INSERT INTO shop.orders
       SELECT :order, :customer, status, total_minor, currency, address, placed_at, cancel_reason
       FROM shop.orders WHERE order_id = :old_order""",
    """INSERT INTO shop.order_lines SELECT :order, line, sku, title, quantity, unit_price_minor
       FROM shop.order_lines WHERE order_id = :old_order""",
    """INSERT INTO shop.shipments
       SELECT :order, carrier, tracking_number || :new, dispatched_at, expected_at, delivered_at
       FROM shop.shipments WHERE order_id = :old_order""",
    """INSERT INTO shop.tracking_events SELECT :order, at, place, what
       FROM shop.tracking_events WHERE order_id = :old_order""",
    """INSERT INTO shop.charges SELECT :charge, :order, amount_minor, currency, charged_at
       FROM shop.charges WHERE order_id = :old_order""",
    """INSERT INTO shop.tickets SELECT :ticket, :customer, replace(subject, :old_order, :order),
       replace(body, :old_order, :order), channel, language, 'open', team, created_at, updated_at
       FROM shop.tickets WHERE ticket_id = :old_ticket""",
)
"""What makes one demo case once more, under new ids."""


@dataclass(frozen=True)
class Case:
    """One execution under test, and what it is about."""

    execution_id: UUID
    ticket: str
    order: str


@dataclass
class Stage:
    """Everything but the workers."""

    service: Service
    env: Mapping[str, str]
    """What a worker needs to work here."""
    book: Path
    """The payment provider's own."""
    folder: Path
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def engine(self) -> AsyncEngine:
        return self.service.resources.engine

    async def begin(self, like: str, mode: Mode = Mode.AUTONOMOUS) -> Case:
        """A new case like this demo ticket's, accepted as the API accepts one."""
        return await self.accept(await self.copy(like), mode)

    async def accept(self, case: dict[str, str], mode: Mode = Mode.AUTONOMOUS) -> Case:
        """The execution of what `copy` made."""
        entry = self.service.catalog.get("support")
        body = {"ticket_id": case["ticket"], "user_id": case["customer"]}
        opened = await open_case(entry, self.service.resources, body)
        execution, _ = await self.service.store.create(OLGA, "support", entry.version, mode, opened)
        return Case(execution.execution_id, case["ticket"], case["order"])

    async def copy(self, like: str) -> dict[str, str]:
        """What a case like this demo ticket's is about: a ticket, a customer and an order of its own."""
        new, old = 7000 + next(self.numbers), like.removeprefix("T-")
        ids = {"ticket": f"T-{new}", "customer": f"C-{new}", "order": f"O-{new}", "new": str(new)}
        olds = {"old_ticket": like, "old_customer": f"C-{old}", "old_order": f"O-{int(old) + 4000}"}
        paid = await self.scalar("SELECT sum(amount_minor) FROM shop.charges WHERE order_id = :o", o=olds["old_order"])
        payments: PaymentsClient = self.service.services["support"][PaymentsClient]
        charge = await payments.create_charge(
            amount_minor=paid,
            source="tok_visa",
            description=ids["order"],
            metadata={"order_id": ids["order"]},
            idempotency_key=ids["order"],
        )
        async with self.engine.begin() as db:
            for copy in COPIES:
                statement = text(copy)
                known = {**ids, **olds, "charge": charge.id}
                await db.execute(statement, {name: known[name] for name in statement.compile().params})
        return ids

    @contextmanager
    def worker(self, name: str, target: str = "graphs.support:builder", faults: str = "") -> Iterator[Forked]:
        """A worker process; `faults` as CASEWORK_FAULTS takes them."""
        folder = self.folder / name
        folder.mkdir()
        with forked(
            f"worker --config {config(folder, target)}", folder / "log", {**self.env, **armed(faults)}
        ) as worker:
            yield worker

    @asynccontextmanager
    async def api(self, name: str, faults: str = "") -> AsyncIterator[tuple[Forked, str]]:
        """An API process that listens, and its address."""
        with forked("api", self.folder / f"{name}.log", {**self.env, "CASEWORK_PORT": "0", **armed(faults)}) as api:
            await api.ready("listens on")
            (url,) = re.findall(r"listens on (\S+)", api.said())
            yield api, url

    async def scalar(self, statement: str, **parameters: Any) -> Any:
        async with self.engine.connect() as db:
            return await db.scalar(text(statement), parameters)

    async def rows(self, statement: str, **parameters: Any) -> list[tuple[Any, ...]]:
        async with self.engine.connect() as db:
            return [tuple(row) for row in await db.execute(text(statement), parameters)]

    async def over(self, case: Case) -> Status:
        """Until the execution has ended. Returns its status."""
        async with asyncio.timeout(PATIENCE_S):
            while (status := await self._status(case)) not in OVER:  # noqa: ASYNC110 - it lies in the database
                await asyncio.sleep(0.05)
        return status

    async def _status(self, case: Case) -> Status:
        return (await self.service.store.get("default", case.execution_id)).status

    async def asked(self, case: Case) -> Approval:
        """Until the execution asks something: one of its open questions."""
        pending: list[Approval] = []
        async with asyncio.timeout(PATIENCE_S):
            while not pending:
                await asyncio.sleep(0.05)
                state = ApprovalState.PENDING
                decisions = self.service.decisions
                pending = await decisions.page("default", limit=1, state=state, execution_id=case.execution_id)
        return pending[0]

    async def approve(self, approval: Approval, by: Actor) -> Approval:
        answer = Decision.model_validate({"type": "approve", "digest": approval.digest})
        return await self.service.deciding.decide(by, approval.approval_id, answer)

    async def messages(self, case: Case) -> int:
        """Letters and notes on the case's ticket."""
        return int(await self.scalar("SELECT count(*) FROM shop.ticket_messages WHERE ticket_id = :t", t=case.ticket))

    def paid_back(self, case: Case) -> list[int]:
        """Amounts the provider paid back on the case's order, in cents, from its own book."""
        bodies = [json.loads(line)["reply"]["body"] for line in self.book.read_text().splitlines()]
        mine = [b for b in bodies if b.get("object") == "refund" and b["metadata"].get("order_id") == case.order]
        return [b["amount"] for b in mine]

    def booked(self, key: str) -> str | None:
        """What the provider did for a request with this key: its reference; None: nothing."""
        entries = [Entry.model_validate_json(line) for line in self.book.read_text().splitlines()]
        return next((entry.reply.body["id"] for entry in entries if entry.key == key), None)

    async def broken(self) -> list[str]:
        return await broken(self.engine, self.book)


@asynccontextmanager
async def open_stage(database_url: str, book: Path, folder: Path) -> AsyncIterator[Stage]:
    """A stage on a migrated database with a filled shop; `book`: the provider's, as the shop was filled from it."""
    own_book = Path(shutil.copy(book, folder / "payments.jsonl"))
    async with running_sandbox(own_book) as payments_url:
        settings = Settings.model_validate(
            {
                "database_url": database_url,
                "key_pepper": PEPPER,
                "data_dir": folder,
                "config": ROOT / "langgraph.json",
                "model": "offline",
                "payments_url": payments_url,
                "payments_key": SANDBOX_KEY,
                "modes": {"support": "autonomous"},
            }
        )
        env = {
            "DATABASE_URL": database_url,
            "CASEWORK_KEY_PEPPER": PEPPER,
            "CASEWORK_DATA_DIR": str(folder),
            "CASEWORK_MODEL": "offline",
            "CASEWORK_MODES__SUPPORT": "autonomous",
            "CASEWORK_PAYMENTS_URL": payments_url,
            "CASEWORK_PAYMENTS_KEY": SANDBOX_KEY,
            "CASEWORK_LEASE": f"PT{LEASE.total_seconds():g}S",
            "CASEWORK_RECONCILE_EVERY": "PT0.5S",
            "CASEWORK_WEBHOOK_PRIVATE_RECEIVERS": "true",
            "CASEWORK_WEBHOOK_TIMEOUT": "PT1S",
        }
        async with open_service(settings, database_url) as service:
            yield Stage(service, env, own_book, folder)


def armed(faults: str) -> dict[str, str]:
    return {"CASEWORK_FAULTS": faults, "CASEWORK_ALLOW_FAULTS": "1"} if faults else {}


def at(point: str, action: str) -> str:
    """The fault `action` at a point written as above: its first passing unless it says which."""
    name, _, nth = point.partition("@")
    return f"{name}={action}@{nth or 1}"
