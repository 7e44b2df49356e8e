"""The tool that pays money back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from casework.errors import ToolFailed
from policies.shop.money import CURRENCY, Money, display
from policies.shop.refunds import RefundArgs, RefundReason, refund_policy
from tools.preview import Change, MoneyMoved, Preview
from tools.shop.order_view import load_order
from tools.shop.payments_client import PaymentsClient, ProviderRefund
from tools.shop.people import customer_line, goods_line
from tools.shop.refund_records import effect_key, refund_facts, reserve_refund, reserved_charge, settle
from tools.shop.tables import RefundState
from tools.spec import Effect, ToolContext, tool


class Refund(BaseModel):
    """A refund the payment provider accepted."""

    order_id: str
    amount: Money
    reason: RefundReason
    provider_ref: str
    """The provider's id of the refund."""


async def settle_refund(args: RefundArgs, result: Mapping[str, Any] | None, ctx: ToolContext) -> None:
    """Write down how it ended; None frees the money that was set aside. `result` is a Refund as the ledger keeps it."""
    if result is None:
        await settle(ctx, RefundState.FAILED, None)
    else:
        await settle(ctx, RefundState.SUCCEEDED, Refund.model_validate(result).provider_ref)


async def confirm_refund(args: RefundArgs, reference: str, ctx: ToolContext) -> Refund:
    """Look a refund that a person found up at the provider: a wrong reference must not close the books on it."""
    charge_id = await reserved_charge(ctx)
    made = await ctx.service(PaymentsClient).list_refunds(charge_id) if charge_id is not None else []
    refund = next((r for r in made if r.id == reference and r.amount == args.amount_minor), None)
    ours = effect_key(ctx)
    if refund is None or refund.metadata.get("effect_key", ours) != ours:  # a person's own, made by hand, has none
        raise ToolFailed(
            f"the payment provider has no refund {reference} of {display(args.amount_minor)} for this call"
        )
    return _refund(args, refund)


async def preview_refund(args: RefundArgs, ctx: ToolContext) -> Preview:
    """What would go back, and what of the order's payments would be left."""
    order = await load_order(args.order_id, ctx)
    refunded = sum(r.amount.amount_minor for r in order.refunds if r.state is not RefundState.FAILED)
    paid = sum(payment.paid.amount_minor for payment in order.payments)
    return Preview(
        money=MoneyMoved(amount_minor=args.amount_minor, currency=CURRENCY, to="the card it was paid with"),
        changes=(
            Change(
                what=f"Refunded on order {args.order_id}",
                before=display(refunded),
                after=f"{display(refunded + args.amount_minor)} of {display(paid)} paid",
            ),
        ),
        touches=(await customer_line(ctx), goods_line(order)),
        reversible=False,
        undo="A refund cannot be taken back; the customer would have to pay again.",
    )


@tool(
    effect=Effect.KEYED,
    permission="refund:create",
    policy=refund_policy,
    facts=refund_facts,
    reserve=reserve_refund,
    settle=settle_refund,
    confirm=confirm_refund,
    preview=preview_refund,
    summary=lambda args: f"Refund {display(args.amount_minor)} on order {args.order_id} ({args.reason})",
)
async def issue_refund(args: RefundArgs, ctx: ToolContext) -> Refund:
    """Pay money back to the card an order was paid with. This cannot be undone.

    Only for an order of the case's customer, up to what was paid and not yet refunded, once per order and reason,
    within 30 days after delivery (60 days after ordering when it never arrived). Up to 100.00 EUR per order at once;
    above that a person must agree, above 500.00 EUR two. `amount_minor` is in cents: 49.90 EUR is 4990. Read the
    order first and refund what its lines or payments show, not what the ticket claims. Returns the provider's
    reference; the money arrives in 5 to 10 days. Fails, with nothing paid, when the provider declines.
    """
    charge_id = await reserved_charge(ctx)
    if charge_id is None:
        raise ToolFailed("no money was set aside for this refund, and nothing was sent")
    refund = await ctx.service(PaymentsClient).create_refund(
        charge_id=charge_id,
        amount_minor=args.amount_minor,
        idempotency_key=ctx.key,
        metadata={"order_id": args.order_id, "reason": args.reason.value, "effect_key": effect_key(ctx)},
    )
    return _refund(args, refund)


def _refund(args: RefundArgs, made: ProviderRefund) -> Refund:
    if made.status in ("failed", "canceled"):
        raise ToolFailed(f"the payment provider could not pay the refund out: it is {made.status}")
    return Refund(order_id=args.order_id, amount=Money.of(made.amount), reason=args.reason, provider_ref=made.id)
