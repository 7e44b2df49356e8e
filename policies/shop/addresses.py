"""When an order may be sent somewhere else."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from casework.actor import Actor
from policies.shop.orders import OrderFacts, OrderId, OrderStatus, no_such_order
from policies.verdict import Allow, Deny, Verdict


class Address(BaseModel):
    """A postal address, written the way the destination's post writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    recipient: Annotated[
        str,
        Field(min_length=2, max_length=80, description="Who receives it.", examples=["Ada Byron"]),
    ]
    street: Annotated[
        str,
        Field(
            min_length=3,
            max_length=120,
            description="Street and house number, with flat or floor if given.",
            examples=["Lindenstraße 14, 2. OG"],
        ),
    ]
    postal_code: Annotated[
        str,
        Field(
            min_length=3,
            max_length=12,
            description="As text: leading zeros and letters count.",
            examples=["04109", "1012 AB"],
        ),
    ]
    city: Annotated[str, Field(min_length=2, max_length=80, examples=["Leipzig"])]
    country: Annotated[
        str,
        Field(
            pattern=r"^[A-Z]{2}$",
            description="Two capital letters, ISO 3166-1. The United Kingdom is GB, not UK.",
            examples=["DE"],
        ),
    ]

    def one_line(self) -> str:
        return f"{self.recipient}, {self.street}, {self.postal_code} {self.city}, {self.country}"


class ChangeAddressArgs(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    order_id: OrderId
    address: Annotated[
        Address,
        Field(
            description=(
                "The whole new address. Take what the customer did not repeat (often recipient and country) "
                "from the order's present address; never invent a part."
            )
        ),
    ]


def address_policy(args: ChangeAddressArgs, actor: Actor, facts: OrderFacts) -> Verdict:
    """Only before dispatch."""
    match facts.status:
        case None:
            return Deny(no_such_order(args.order_id))
        case OrderStatus.PENDING | OrderStatus.PACKING:
            return Allow(f"order {args.order_id} is {facts.status} and has not left the warehouse")
        case OrderStatus.CANCELLED:
            return Deny(f"order {args.order_id} is cancelled and will not be sent; a new order can go to a new address")
        case OrderStatus.SHIPPED | OrderStatus.DELIVERED:
            return Deny(
                f"order {args.order_id} is {facts.status}, and an address can only be changed before dispatch; "
                "the customer can ask the carrier to redirect the parcel with its tracking number"
            )
