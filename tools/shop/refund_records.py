"""The shop's own book of refunds: what a refund is judged by, and how one is reserved and settled."""

from __future__ import annotations

from sqlalchemy import func, insert, select, update

from casework.errors import CallRefused
from policies.shop.refunds import PaidOrder, Payment, RefundArgs, RefundFacts, RefundReason, refund_policy
from policies.verdict import Deny
from tools.shop.order_view import own_order
from tools.shop.tables import RefundState, charges, orders, refunds, shipments
from tools.spec import ToolContext


def effect_key(ctx: ToolContext) -> str:
    """The call's own name. Not `ctx.key`: that changes when a person sends a lost refund again."""
    return f"{ctx.execution_id}:{ctx.call_id}"


async def refund_facts(args: RefundArgs, ctx: ToolContext) -> RefundFacts:
    """What refund_policy needs, without this call's own reservation: a second try is judged like the first.

    The order is locked until the transaction ends, so two refunds of one order are judged one after the other.
    """
    found = await ctx.transaction.execute(
        own_order(args.order_id, ctx)
        .outerjoin(shipments, shipments.c.order_id == orders.c.order_id)
        .add_columns(shipments.c.delivered_at)
        .with_for_update(of=orders)
    )
    row = found.mappings().one_or_none()
    if row is None:
        return RefundFacts(now=ctx.now, order=None)
    return RefundFacts(
        now=ctx.now,
        order=PaidOrder(
            placed_at=row["placed_at"],
            delivered_at=row["delivered_at"],
            payments=await _payments(args, ctx),
            refunded_for=await _reasons(args, ctx),
        ),
    )


async def reserve_refund(args: RefundArgs, ctx: ToolContext) -> None:
    """Set the money aside before the provider is called. Raises CallRefused when the order has not got it any more."""
    facts = await refund_facts(args, ctx)
    verdict = refund_policy(args, ctx.actor, facts)
    payment = facts.order.payment_for(args.amount_minor) if facts.order else None
    if isinstance(verdict, Deny) or payment is None:
        raise CallRefused(verdict.reason)
    await ctx.transaction.execute(
        insert(refunds).values(
            effect_key=effect_key(ctx),
            order_id=args.order_id,
            charge_id=payment.charge_id,
            amount_minor=args.amount_minor,
            reason=args.reason,
            state=RefundState.PENDING,
            created_at=ctx.now,
        )
    )


async def reserved_charge(ctx: ToolContext) -> str | None:
    """The charge this call's refund was reserved on; None when nothing was.

    Every try uses the same one: the provider refuses a key it knows with another charge.
    """
    async with ctx.engine.connect() as db:
        return await db.scalar(select(refunds.c.charge_id).where(refunds.c.effect_key == effect_key(ctx)))


async def settle(ctx: ToolContext, state: RefundState, provider_ref: str | None) -> None:
    await ctx.transaction.execute(
        update(refunds)
        .where(refunds.c.effect_key == effect_key(ctx))
        .values(state=state, provider_ref=provider_ref, settled_at=ctx.now)
    )


async def _payments(args: RefundArgs, ctx: ToolContext) -> tuple[Payment, ...]:
    refunded = (
        select(refunds.c.charge_id, func.sum(refunds.c.amount_minor).label("minor"))
        .where(refunds.c.state != RefundState.FAILED, refunds.c.effect_key != effect_key(ctx))
        .group_by(refunds.c.charge_id)
        .subquery()
    )
    found = await ctx.transaction.execute(
        select(charges.c.charge_id, charges.c.amount_minor, func.coalesce(refunded.c.minor, 0).label("refunded_minor"))
        .outerjoin(refunded, refunded.c.charge_id == charges.c.charge_id)
        .where(charges.c.order_id == args.order_id)
        .order_by(charges.c.charged_at)
    )
    return tuple(
        Payment(charge_id=row.charge_id, paid_minor=row.amount_minor, refunded_minor=row.refunded_minor)
        for row in found
    )


async def _reasons(args: RefundArgs, ctx: ToolContext) -> frozenset[RefundReason]:
    found = await ctx.transaction.scalars(
        select(refunds.c.reason).where(
            refunds.c.order_id == args.order_id,
            refunds.c.state != RefundState.FAILED,
            refunds.c.effect_key != effect_key(ctx),
        )
    )
    return frozenset(found)
