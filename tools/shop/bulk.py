"""Customers and orders nobody writes about: they fill the shop to a believable size, the same ones every time."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from policies.shop.orders import OrderStatus
from policies.shop.refunds import RefundReason
from tools.shop.seed_data import SeedCustomer, SeedOrder, SeedProduct, SeedRefund

CUSTOMER_NUMBERS = range(1043, 1061)
ORDER_NUMBERS = range(5001, 5201)
"""All of the shop's orders; the bulk takes what the written ones leave free."""
OLDEST_ORDER_DAYS = 300
PENDING_DAYS = 0.5
"""How long an order waits before it is packed; then as long again until it is dispatched."""

FIRST_NAMES = ("Alma", "Bruno", "Carla", "Dario", "Esther", "Frank", "Gina", "Hugo", "Ines", "Jakob")
LAST_NAMES = ("Arnold", "Becker", "Costa", "Dahl", "Eriksen", "Ferrari", "Gruber", "Huber", "Iversen", "Jung")
PLACES = (
    ("Bahnhofstraße", "80335", "München", "DE"),
    ("Goethestraße", "60313", "Frankfurt", "DE"),
    ("Kerkstraat", "9000", "Gent", "BE"),
    ("Via Garibaldi", "10122", "Torino", "IT"),
    ("Rue de la Paix", "44000", "Nantes", "FR"),
    ("Hauptplatz", "8010", "Graz", "AT"),
)


def bulk_customers(random: Random) -> list[SeedCustomer]:
    return [_customer(number, random) for number in CUSTOMER_NUMBERS]


def bulk_orders(
    customers: Sequence[SeedCustomer], products: dict[str, SeedProduct], taken: set[str], random: Random
) -> list[SeedOrder]:
    """Orders of these customers under every id that is not taken."""
    free = [f"O-{number}" for number in ORDER_NUMBERS if f"O-{number}" not in taken]
    return [_order(order_id, random.choice(customers).customer_id, products, random) for order_id in free]


def _customer(number: int, random: Random) -> SeedCustomer:
    first, last = random.choice(FIRST_NAMES), random.choice(LAST_NAMES)
    street, postal_code, city, country = random.choice(PLACES)
    return SeedCustomer(
        customer_id=f"C-{number}",
        name=f"{first} {last}",
        email=f"{first}.{last}.{number}@example.com".lower(),
        language="en",
        street=f"{street} {random.randint(1, 120)}",
        postal_code=postal_code,
        city=city,
        country=country,
        tier="plus" if random.random() < 0.2 else "standard",
        since=OLDEST_ORDER_DAYS + random.randint(1, 900),
    )


def _order(order_id: str, customer_id: str, products: dict[str, SeedProduct], random: Random) -> SeedOrder:
    lines = {sku: random.randint(1, 2) for sku in random.sample(sorted(products), random.randint(1, 3))}
    placed = round(random.triangular(0.1, OLDEST_ORDER_DAYS, 0.1), 2)
    travels, was_cancelled, was_refunded = random.uniform(2, 6), random.random() < 0.05, random.random() < 0.06
    order = SeedOrder(
        order_id=order_id, customer_id=customer_id, status=OrderStatus.PENDING, placed=placed, lines=lines
    )
    if was_cancelled:
        return order.model_copy(update={"status": OrderStatus.CANCELLED})
    if placed < PENDING_DAYS:
        return order
    dispatched = placed - 2 * PENDING_DAYS
    if dispatched < 0:
        return order.model_copy(update={"status": OrderStatus.PACKING})
    arrives = round(dispatched - travels, 2)
    sent = {"status": OrderStatus.SHIPPED, "dispatched": dispatched, "expected": arrives}
    if arrives < 0:
        return order.model_copy(update=sent)
    sent |= {"status": OrderStatus.DELIVERED, "delivered": arrives}
    if was_refunded:
        price = products[next(iter(lines))].unit_price_minor
        sent["refunds"] = (SeedRefund(amount_minor=price, reason=RefundReason.RETURNED, days_ago=arrives / 2),)
    return order.model_copy(update=sent)
