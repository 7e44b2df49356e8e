"""Filling the demo shop: Larkspur Home, home goods, EUR. Repeatable, and the same every time but for its dates."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from random import Random

from sqlalchemy import Table, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tools.shop.bulk import bulk_customers, bulk_orders
from tools.shop.payments_client import Charge, PaymentsClient, ProviderRefund
from tools.shop.seed_data import (
    SeedArticle,
    SeedCustomer,
    SeedOrder,
    SeedProduct,
    SeedTicket,
    load_articles,
    load_customers,
    load_orders,
    load_products,
    load_tickets,
)
from tools.shop.seed_rows import (
    Row,
    charge_rows,
    customer_row,
    event_rows,
    line_rows,
    order_row,
    refund_rows,
    shipment_row,
    ticket_row,
)
from tools.shop.tables import (
    articles,
    charges,
    customers,
    metadata,
    order_lines,
    orders,
    refunds,
    shipments,
    tickets,
    tracking_events,
)

LOCK = text("SELECT pg_advisory_xact_lock(hashtext('casework shop seed'))")
"""One process makes or fills the shop at a time."""
BULK_SEED = 5001
PAYMENTS_AT_ONCE = 16
CARD = "tok_visa"
"""Stripe's test card that always pays."""


@dataclass(frozen=True)
class Shop:
    """Everything to be written, before it meets a clock."""

    products: dict[str, SeedProduct]
    customers: list[SeedCustomer]
    orders: list[SeedOrder]
    tickets: list[SeedTicket]
    articles: list[SeedArticle]


@dataclass(frozen=True)
class Paid:
    """What the payment provider made for one order."""

    charges: list[Charge]
    refunds: list[ProviderRefund]


def whole_shop() -> Shop:
    """The written customers and orders, and the bulk around them."""
    random = Random(BULK_SEED)
    products, written = load_products(), load_orders()
    more_customers = bulk_customers(random)
    more_orders = bulk_orders(more_customers, products, {order.order_id for order in written}, random)
    return Shop(
        products=products,
        customers=load_customers() + more_customers,
        orders=written + more_orders,
        tickets=load_tickets(),
        articles=load_articles(),
    )


async def create_tables(engine: AsyncEngine) -> None:
    """Make schema `shop` and its tables where they are missing."""
    async with engine.begin() as db:
        await db.execute(LOCK)
        await db.execute(text("CREATE SCHEMA IF NOT EXISTS shop"))
        await db.run_sync(metadata.create_all)


async def seed(engine: AsyncEngine, payments: PaymentsClient, now: datetime) -> None:
    """Fill an empty shop; leave a filled one alone.

    Raises what the payments client raises, with nothing written. Repeating it takes no payment twice.
    """
    async with engine.connect() as db:
        if await _is_filled(db):
            return
    shop = whole_shop()
    paid = await _take_payments(shop, payments)
    async with engine.begin() as db:
        await db.execute(LOCK)
        if not await _is_filled(db):
            await _write(db, shop, paid, now)


async def _is_filled(db: AsyncConnection) -> bool:
    return await db.scalar(select(customers.c.customer_id).limit(1)) is not None


async def _take_payments(shop: Shop, payments: PaymentsClient) -> dict[str, Paid]:
    turnstile = asyncio.Semaphore(PAYMENTS_AT_ONCE)

    async def take(order: SeedOrder) -> Paid:
        async with turnstile:
            return await _take_payment(order, shop.products, payments)

    dispatched = [order for order in shop.orders if order.dispatched is not None]
    taken = await asyncio.gather(*(take(order) for order in dispatched))
    return {order.order_id: paid for order, paid in zip(dispatched, taken, strict=True)}


async def _take_payment(order: SeedOrder, products: dict[str, SeedProduct], payments: PaymentsClient) -> Paid:
    # The keys make this repeatable: a provider that has been asked before answers with the same charges.
    made = [
        await payments.create_charge(
            amount_minor=order.total_minor(products),
            source=CARD,
            description=f"Larkspur Home, order {order.order_id}",
            metadata={"order_id": order.order_id},
            idempotency_key=f"seed:{order.order_id}:{number}",
        )
        for number in range(1, order.charges + 1)
    ]
    paid_back = [
        await payments.create_refund(
            charge_id=made[0].id,
            amount_minor=refund.amount_minor,
            metadata={"order_id": order.order_id, "reason": refund.reason.value},
            idempotency_key=f"seed:{order.order_id}:{refund.reason}",
        )
        for refund in order.refunds
    ]
    return Paid(made, paid_back)


async def _write(db: AsyncConnection, shop: Shop, paid: Mapping[str, Paid], now: datetime) -> None:
    home = {customer.customer_id: customer for customer in shop.customers}
    sent = [order for order in shop.orders if order.dispatched is not None]
    rows: dict[Table, list[Row]] = {
        customers: [customer_row(c, now) for c in shop.customers],
        orders: [order_row(o, home[o.customer_id], shop.products, now) for o in shop.orders],
        order_lines: [row for o in shop.orders for row in line_rows(o, shop.products)],
        shipments: [shipment_row(o, now) for o in sent],
        tracking_events: [row for o in sent for row in event_rows(o, home[o.customer_id].city, now)],
        charges: [row for o in sent for row in charge_rows(o, paid[o.order_id].charges, now)],
        refunds: [row for o in sent for row in refund_rows(o, paid[o.order_id].refunds, now)],
        tickets: [ticket_row(t, now) for t in shop.tickets],
        articles: [article.model_dump() for article in shop.articles],
    }
    for table, of_table in rows.items():
        await db.execute(insert(table), of_table)
