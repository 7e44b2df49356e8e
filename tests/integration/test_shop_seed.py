"""The demo shop as it is filled, and whether its data and its right outcomes fit each other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.schema import DropSchema

from casework.actor import Actor
from casework.errors import NotFound, ToolFailed
from evals.shop.outcomes import Outcome, load_outcomes
from policies.shop.orders import OrderStatus
from policies.verdict import Deny, NeedsApproval
from tools.shop.intake import SupportIntake, open_ticket
from tools.shop.orders import cancel_order
from tools.shop.payments import issue_refund
from tools.shop.payments_client import Patience, PaymentsClient
from tools.shop.sandbox_provider import SANDBOX_KEY, running_sandbox
from tools.shop.seed import create_tables, seed, whole_shop
from tools.shop.shipments import change_shipping_address
from tools.shop.tables import charges, customers, metadata, orders, refunds, tickets
from tools.spec import Tool, ToolContext

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SEED_LIMIT_S = 3.0
ADA = Actor(actor_id="ada")
EFFECT_TOOLS: dict[str, tuple[Tool, dict[str, object]]] = {
    "issue_refund": (issue_refund, {"reason": "damaged"}),
    "cancel_order": (cancel_order, {"reason": "as asked"}),
    "change_shipping_address": (change_shipping_address, {}),
}
"""The tools that outcomes speak of, and arguments that no outcome states."""


@pytest.fixture
async def payments(payments_url: str) -> AsyncIterator[PaymentsClient]:
    async with PaymentsClient(payments_url, SANDBOX_KEY) as client:
        yield client


@pytest.fixture
async def no_shop(engine: AsyncEngine) -> AsyncEngine:
    """A database from which the filled shop was taken out."""
    async with engine.begin() as db:
        await db.execute(DropSchema("shop", cascade=True))
    return engine


@pytest.fixture
async def new_payments(tmp_path: Path) -> AsyncIterator[PaymentsClient]:
    """A provider that nobody ever paid through."""
    async with running_sandbox(tmp_path / "new.jsonl") as url, PaymentsClient(url, SANDBOX_KEY) as client:
        yield client


async def count(db: AsyncConnection, table: Table) -> int:
    return await db.scalar(select(func.count()).select_from(table)) or 0


async def snapshot(engine: AsyncEngine) -> dict[str, list[tuple[object, ...]]]:
    async with engine.connect() as db:
        return {
            table.name: [tuple(row) for row in await db.execute(select(table).order_by(*table.primary_key))]
            for table in metadata.sorted_tables
        }


async def test_the_shop_is_filled_fast_and_once(no_shop: AsyncEngine, new_payments: PaymentsClient) -> None:
    await create_tables(no_shop)
    await create_tables(no_shop)
    began = time.perf_counter()
    await seed(no_shop, new_payments, NOW)
    assert time.perf_counter() - began < SEED_LIMIT_S
    filled = await snapshot(no_shop)
    await seed(no_shop, new_payments, NOW + timedelta(days=3))
    assert await snapshot(no_shop) == filled
    assert {name: len(filled[name]) for name in ("customers", "orders", "tickets", "articles")} == {
        "customers": 60,
        "orders": 200,
        "tickets": 40,
        "articles": 15,
    }


async def test_filling_it_anew_takes_no_payment_twice(
    no_shop: AsyncEngine, payments: PaymentsClient, payments_book: Path
) -> None:
    before = await asyncio.to_thread(payments_book.read_bytes)
    await create_tables(no_shop)
    await seed(no_shop, payments, NOW)
    assert await asyncio.to_thread(payments_book.read_bytes) == before


async def test_two_processes_filling_at_once_fill_it_once(no_shop: AsyncEngine, payments: PaymentsClient) -> None:
    await asyncio.gather(create_tables(no_shop), create_tables(no_shop))
    await asyncio.gather(seed(no_shop, payments, NOW), seed(no_shop, payments, NOW))
    async with no_shop.connect() as db:
        assert await count(db, customers) == 60


async def test_what_the_shop_was_paid_is_what_the_provider_holds(engine: AsyncEngine, payments: PaymentsClient) -> None:
    async with engine.connect() as db:
        ours = (await db.execute(select(charges.c.charge_id, charges.c.amount_minor))).all()
        paid_back = {row.charge_id: row.amount_minor for row in await db.execute(select(refunds))}
        dispatched = await db.scalar(
            select(func.count())
            .select_from(orders)
            .where(orders.c.status.in_([OrderStatus.SHIPPED, OrderStatus.DELIVERED]))
        )
    assert len(ours) == (dispatched or 0) + 1, "every dispatched order once, and one of them twice by mistake"
    theirs = await asyncio.gather(*(payments.get_charge(charge_id) for charge_id, _ in ours))
    assert [(charge.id, charge.amount, charge.amount_refunded) for charge in theirs] == [
        (charge_id, amount_minor, paid_back.get(charge_id, 0)) for charge_id, amount_minor in ours
    ]


async def test_a_provider_that_cannot_be_reached_leaves_the_shop_empty(no_shop: AsyncEngine) -> None:
    await create_tables(no_shop)
    async with PaymentsClient("http://127.0.0.1:1", SANDBOX_KEY, patience=Patience(tries=1)) as nobody:
        with pytest.raises(ToolFailed, match="nothing was sent"):
            await seed(no_shop, nobody, NOW)
    async with no_shop.connect() as db:
        assert await count(db, customers) == 0


async def test_a_case_is_opened_for_the_tickets_own_customer_only(
    engine: AsyncEngine, payments: PaymentsClient
) -> None:
    async with engine.connect() as db:
        opened = await open_ticket(SupportIntake(ticket_id="T-1042", user_id="C-1042"), db)
        assert opened["goal"] == "resolve ticket T-1042"
        assert opened["case"] == {"customer_id": "C-1042", "ticket_id": "T-1042"}
        assert opened["request"].startswith("Vase arrived broken (order O-5042)\n\nHello Larkspur team,")
        with pytest.raises(NotFound) as not_hers:
            await open_ticket(SupportIntake(ticket_id="T-1042", user_id="C-1041"), db)
        with pytest.raises(NotFound) as missing:
            await open_ticket(SupportIntake(ticket_id="T-9042", user_id="C-1041"), db)
    assert not_hers.value.message.replace("T-1042", "T-9042") == missing.value.message


def test_every_ticket_has_a_right_outcome_about_orders_of_its_own_customer() -> None:
    shop, outcomes = whole_shop(), load_outcomes()
    owner = {order.order_id: order.customer_id for order in shop.orders}
    assert list(outcomes) == [ticket.ticket_id for ticket in shop.tickets] == [f"T-{n}" for n in range(1003, 1043)]
    for ticket in shop.tickets:
        for effect in outcomes[ticket.ticket_id].effects:
            assert owner[effect.args["order_id"]] == ticket.customer_id


async def test_every_expected_effect_passes_the_shops_policies_with_the_expected_votes(
    engine: AsyncEngine,
) -> None:
    async with engine.connect() as db:
        for outcome in load_outcomes().values():
            assert await asked_votes(outcome, engine, db) == outcome.approvals, outcome.ticket


async def asked_votes(outcome: Outcome, engine: AsyncEngine, db: AsyncConnection) -> dict[str, int]:
    """Votes the tools' own policies ask for, per tool, on this outcome's effects."""
    votes: dict[str, int] = {}
    customer_id = await db.scalar(select(tickets.c.customer_id).where(tickets.c.ticket_id == outcome.ticket))
    ctx = ToolContext(
        execution_id=uuid4(),
        call_id="call",
        key="key",
        case={"customer_id": str(customer_id), "ticket_id": outcome.ticket},
        actor=ADA,
        now=datetime.now(UTC),
        engine=engine,
        db=db,
    )
    for effect in outcome.effects:
        tool, further = EFFECT_TOOLS[effect.tool]
        args = tool.args.model_validate(further | effect.args)
        assert tool.policy is not None
        assert tool.facts is not None
        verdict = tool.policy(args, ADA, await tool.facts(args, ctx))
        assert not isinstance(verdict, Deny), f"{outcome.ticket}: {verdict}"
        if isinstance(verdict, NeedsApproval):
            votes[tool.name] = verdict.votes
    return votes
