"""The support workflow with a refund that goes round the ledger: the control that must pay twice."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from sqlalchemy import select

from graphs.assembly import assemble
from graphs.support import support
from policies.shop.money import Money
from policies.shop.refunds import RefundArgs
from tools.shop.payments import Refund, issue_refund
from tools.shop.payments_client import PaymentsClient
from tools.shop.tables import charges
from tools.spec import Effect, ToolContext


async def pay_without_a_trace(args: RefundArgs, ctx: ToolContext) -> Refund:
    """A new key each time, and no row that says it was begun."""
    async with ctx.engine.connect() as db:
        charge_id = await db.scalar(select(charges.c.charge_id).where(charges.c.order_id == args.order_id).limit(1))
    paid = await ctx.service(PaymentsClient).create_refund(
        charge_id=str(charge_id),
        amount_minor=args.amount_minor,
        idempotency_key=uuid4().hex,
        metadata={"order_id": args.order_id},
    )
    amount = Money.of(paid.amount)
    return Refund(order_id=args.order_id, amount=amount, reason=args.reason, provider_ref=paid.id)


unledgered = replace(issue_refund, effect=Effect.READ, run=pay_without_a_trace, reserve=None, settle=None)
specialists = tuple(
    replace(s, tools=tuple(unledgered if t is issue_refund else t for t in s.tools)) for s in support.specialists
)
builder = assemble(replace(support, specialists=specialists))
