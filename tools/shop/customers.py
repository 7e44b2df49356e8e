"""Who the case's customer is."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, ConfigDict
from sqlalchemy import select

from casework.errors import ToolFailed
from policies.shop.addresses import Address
from tools.shop.tables import customers
from tools.spec import Effect, ToolContext, tool


class GetCustomerArgs(BaseModel):
    """Nothing to choose: there is one customer per case."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Customer(BaseModel):
    customer_id: str
    name: str
    email: str
    """Replies go here and nowhere else."""
    tier: str
    """standard, or plus for members."""
    language: str
    """ISO 639-1."""
    address: Address
    """Home address on file; an order may go elsewhere."""
    customer_since: date


@tool(effect=Effect.READ, permission="customer:read")
async def get_customer(args: GetCustomerArgs, ctx: ToolContext) -> Customer:
    """Read the record of the customer this case belongs to: name, e-mail, tier, language, home address.

    It is always the case's own customer, whatever name or address the ticket is signed with; another customer's
    record cannot be read. Takes no arguments.
    """
    found = await ctx.transaction.execute(select(customers).where(customers.c.customer_id == ctx.case["customer_id"]))
    row = found.mappings().one_or_none()
    if row is None:
        raise ToolFailed(f"customer {ctx.case['customer_id']} is not in the shop's records; escalate")
    return Customer.model_validate({**row, "customer_since": row["created_at"].date()})
