"""When an order may be cancelled."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from casework.actor import Actor
from policies.verdict import Allow, Deny, Verdict


class OrderStatus(StrEnum):
    """Where an order stands, in the order it happens. The card is charged on dispatch, never before."""

    PENDING = "pending"
    """Placed; the warehouse has not touched it."""
    PACKING = "packing"
    """In the warehouse's hands; not yet with the carrier."""
    SHIPPED = "shipped"
    """Dispatched and charged; with the carrier."""
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


OrderId = Annotated[
    str,
    Field(
        pattern=r"^O-\d{4,9}$",
        description=(
            "The order's id: capital letter O, dash, digits. Customers often mistype it or quote somebody else's: "
            "only this customer's own orders exist here, and list_orders names them all."
        ),
        examples=["O-5042"],
    ),
]


class CancelOrderArgs(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    order_id: OrderId
    reason: Annotated[
        str,
        Field(
            min_length=3,
            max_length=200,
            description="Why, in a few English words for the order's record. Not shown to the customer.",
            examples=["ordered twice by mistake"],
        ),
    ]


class OrderFacts(BaseModel):
    """How the order stands now."""

    model_config = ConfigDict(frozen=True)

    status: OrderStatus | None
    """None: the case's customer has no such order (somebody else's looks the same)."""


def no_such_order(order_id: str) -> str:
    """Said alike for an order that does not exist and for somebody else's, so that neither can be probed."""
    return f"this customer has no order {order_id}; list_orders shows the ones that exist"


def cancellation_policy(args: CancelOrderArgs, actor: Actor, facts: OrderFacts) -> Verdict:
    """Only while nobody has started to pack it."""
    match facts.status:
        case None:
            return Deny(no_such_order(args.order_id))
        case OrderStatus.PENDING:
            return Allow(f"order {args.order_id} is still pending and nothing has been charged")
        case OrderStatus.CANCELLED:
            return Deny(f"order {args.order_id} is already cancelled; nothing is left to do")
        case OrderStatus.PACKING:
            return Deny(
                f"order {args.order_id} is being packed, and only a pending order can be cancelled; "
                "its address can still be changed, or it can be returned after delivery"
            )
        case OrderStatus.SHIPPED | OrderStatus.DELIVERED:
            return Deny(
                f"order {args.order_id} is {facts.status}, and only a pending order can be cancelled; "
                "it can be returned within 30 days after delivery"
            )
