"""The demo shop's own database, schema `shop`. Only the shop's tools touch it."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    Enum,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB, TSVECTOR

from policies.shop.money import CURRENCY
from policies.shop.orders import OrderStatus
from policies.shop.refunds import RefundReason

metadata = MetaData(schema="shop")


class RefundState(StrEnum):
    """How far a refund got. Pending ones count as paid out: nobody knows yet that they are not."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class TicketStatus(StrEnum):
    OPEN = "open"
    """Somebody of ours must act."""
    PENDING = "pending"
    """The customer must answer."""
    SOLVED = "solved"
    ESCALATED = "escalated"
    """A person of ours has it."""


class Channel(StrEnum):
    """How a ticket reached us."""

    EMAIL = "email"
    CHAT = "chat"
    WEB_FORM = "web_form"


class Direction(StrEnum):
    """Who a ticket's message is for."""

    INBOUND = "inbound"
    """From the customer."""
    OUTBOUND = "outbound"
    """To the customer."""
    NOTE = "note"
    """Between ourselves; the customer never sees it."""


def _one_of(kind: type[StrEnum]) -> Enum:
    """Text that only takes the enum's values, checked by the database too."""
    return Enum(
        kind, native_enum=False, create_constraint=True, length=16, values_callable=lambda k: [m.value for m in k]
    )


def _at(name: str, *, nullable: bool = False) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _currency() -> Column[str]:
    return Column("currency", Text, CheckConstraint(f"currency = '{CURRENCY}'"), nullable=False, default=CURRENCY)


customers = Table(
    "customers",
    metadata,
    Column("customer_id", Text, primary_key=True, doc="C-1001 upwards."),
    Column("name", Text, nullable=False),
    Column("email", Text, nullable=False, unique=True, doc="The only address replies go to."),
    Column("tier", Text, CheckConstraint("tier IN ('standard', 'plus')"), nullable=False),
    Column("language", Text, nullable=False, doc="ISO 639-1; what they write to us in."),
    Column("address", JSONB, nullable=False, doc="policies.shop.addresses.Address."),
    _at("created_at"),
)

orders = Table(
    "orders",
    metadata,
    Column("order_id", Text, primary_key=True, doc="O-5001 upwards."),
    Column("customer_id", ForeignKey(customers.c.customer_id), nullable=False, index=True),
    Column("status", _one_of(OrderStatus), nullable=False),
    Column("total_minor", Integer, CheckConstraint("total_minor > 0"), nullable=False, doc="Cents; sum of the lines."),
    _currency(),
    Column("address", JSONB, nullable=False, doc="policies.shop.addresses.Address it is sent to."),
    _at("placed_at"),
    Column("cancel_reason", Text, doc="NULL unless cancelled."),
)

order_lines = Table(
    "order_lines",
    metadata,
    Column("order_id", ForeignKey(orders.c.order_id), primary_key=True),
    Column("line", Integer, primary_key=True, doc="From 1."),
    Column("sku", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("quantity", Integer, CheckConstraint("quantity > 0"), nullable=False),
    Column("unit_price_minor", Integer, CheckConstraint("unit_price_minor > 0"), nullable=False, doc="Cents."),
)

shipments = Table(
    "shipments",
    metadata,
    Column("order_id", ForeignKey(orders.c.order_id), primary_key=True, doc="An order is sent as one parcel."),
    Column("carrier", Text, nullable=False),
    Column("tracking_number", Text, nullable=False, unique=True),
    _at("dispatched_at"),
    _at("expected_at"),
    _at("delivered_at", nullable=True),
)

tracking_events = Table(
    "tracking_events",
    metadata,
    Column("order_id", ForeignKey(shipments.c.order_id), primary_key=True),
    Column("at", DateTime(timezone=True), primary_key=True),
    Column("place", Text, nullable=False),
    Column("what", Text, nullable=False, doc="In the carrier's words."),
)

charges = Table(
    "charges",
    metadata,
    Column("charge_id", Text, primary_key=True, doc="The payment provider's id."),
    Column("order_id", ForeignKey(orders.c.order_id), nullable=False, index=True),
    Column("amount_minor", Integer, CheckConstraint("amount_minor > 0"), nullable=False, doc="Cents paid."),
    _currency(),
    _at("charged_at"),
)

refunds = Table(
    "refunds",
    metadata,
    Column("refund_id", BigInteger, Identity(always=True), primary_key=True),
    Column("effect_key", Text, nullable=False, unique=True, doc="The call it belongs to, the same on every try."),
    Column("order_id", ForeignKey(orders.c.order_id), nullable=False, index=True),
    Column("charge_id", ForeignKey(charges.c.charge_id), nullable=False),
    Column("amount_minor", Integer, CheckConstraint("amount_minor > 0"), nullable=False, doc="Cents."),
    _currency(),
    Column("reason", _one_of(RefundReason), nullable=False),
    Column("state", _one_of(RefundState), nullable=False),
    Column("provider_ref", Text, unique=True, doc="The provider's refund id; NULL until it succeeded."),
    _at("created_at"),
    _at("settled_at", nullable=True),
)
Index(
    "refunds_once_per_reason",
    refunds.c.order_id,
    refunds.c.reason,
    unique=True,
    postgresql_where=refunds.c.state != RefundState.FAILED,
)

tickets = Table(
    "tickets",
    metadata,
    Column("ticket_id", Text, primary_key=True, doc="T-1003 upwards."),
    Column("customer_id", ForeignKey(customers.c.customer_id), nullable=False, index=True),
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False, doc="Exactly as it came in, hidden characters included."),
    Column("channel", _one_of(Channel), nullable=False),
    Column("language", Text, nullable=False, doc="ISO 639-1, as detected on arrival."),
    Column("status", _one_of(TicketStatus), nullable=False),
    Column("team", Text, doc="Who has it; NULL until escalated."),
    _at("created_at"),
    _at("updated_at"),
)

ticket_messages = Table(
    "ticket_messages",
    metadata,
    Column("message_id", BigInteger, Identity(always=True), primary_key=True),
    Column("ticket_id", ForeignKey(tickets.c.ticket_id), nullable=False, index=True),
    Column("direction", _one_of(Direction), nullable=False),
    Column("author", Text, nullable=False, doc="Who wrote it: an actor id of ours, or the customer's name."),
    Column("recipient", Text, doc="E-mail address an outbound message goes to; NULL otherwise."),
    Column("body", Text, nullable=False),
    _at("at"),
    CheckConstraint("(direction = 'outbound') = (recipient IS NOT NULL)", name="outbound_has_recipient"),
)

articles = Table(
    "articles",
    metadata,
    Column("article_id", Text, primary_key=True, doc="A-01 upwards."),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column(
        "search",
        TSVECTOR,
        Computed(
            "setweight(to_tsvector('english', title), 'A') || setweight(to_tsvector('english', body), 'B')",
            persisted=True,
        ),
    ),
    UniqueConstraint("title"),
)
Index("articles_search", articles.c.search, postgresql_using="gin")
