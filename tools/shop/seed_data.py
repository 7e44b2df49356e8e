"""The demo shop's data before it meets a clock: what lies in `data/`, as typed records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from policies.shop.addresses import Address
from policies.shop.orders import OrderStatus
from policies.shop.refunds import RefundReason
from tools.shop.tables import Channel

DATA = Path(__file__).with_name("data")
TICKET_FILES = ("tickets-1003-1022.yaml", "tickets-1023-1042.yaml")


class SeedRecord(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SeedProduct(SeedRecord):
    title: str
    unit_price_minor: int = Field(gt=0)
    """Cents."""


class SeedCustomer(SeedRecord):
    customer_id: str
    name: str
    email: str
    language: str
    street: str
    postal_code: str
    city: str
    country: str
    tier: Literal["standard", "plus"] = "standard"
    since: float = 500
    """Days ago they became a customer."""

    @property
    def address(self) -> Address:
        return Address(
            recipient=self.name,
            street=self.street,
            postal_code=self.postal_code,
            city=self.city,
            country=self.country,
        )


class SeedRefund(SeedRecord):
    amount_minor: int = Field(gt=0)
    """Cents."""
    reason: RefundReason
    days_ago: float


class SeedEvent(SeedRecord):
    days_ago: float
    place: str
    what: str


class SeedOrder(SeedRecord):
    """An order. Times are days before the moment of seeding; negative ones lie ahead; None: did not happen."""

    order_id: str
    customer_id: str
    status: OrderStatus
    placed: float
    dispatched: float | None = None
    expected: float | None = None
    delivered: float | None = None
    lines: dict[str, int]
    """sku → quantity."""
    charges: int = 1
    """How often the card was charged on dispatch."""
    refunds: tuple[SeedRefund, ...] = ()
    """All of the first charge."""
    last_seen: SeedEvent | None = None
    """The carrier's latest event; None: the usual ones."""

    def total_minor(self, products: Mapping[str, SeedProduct]) -> int:
        """Cents."""
        return sum(products[sku].unit_price_minor * quantity for sku, quantity in self.lines.items())


class SeedTicket(SeedRecord):
    ticket_id: str
    customer_id: str
    channel: Channel
    language: str
    hours: float
    """Hours before the moment of seeding at which it came in."""
    subject: str
    body: str


class SeedArticle(SeedRecord):
    article_id: str
    title: str
    body: str


def load_products() -> dict[str, SeedProduct]:
    return TypeAdapter(dict[str, SeedProduct]).validate_python(_read("products.yaml"))


def load_customers() -> list[SeedCustomer]:
    return TypeAdapter(list[SeedCustomer]).validate_python(_read("customers.yaml"))


def load_orders() -> list[SeedOrder]:
    return TypeAdapter(list[SeedOrder]).validate_python(_read("orders.yaml"))


def load_tickets() -> list[SeedTicket]:
    return [ticket for name in TICKET_FILES for ticket in TypeAdapter(list[SeedTicket]).validate_python(_read(name))]


def load_articles() -> list[SeedArticle]:
    return TypeAdapter(list[SeedArticle]).validate_python(_read("articles.yaml"))


def _read(name: str) -> Any:
    return yaml.safe_load((DATA / name).read_text(encoding="utf-8"))
