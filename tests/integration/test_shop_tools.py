"""The shop's tools on a real database, and a provider on a real port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework.actor import Actor
from casework.errors import CallRefused, ToolError, ToolFailed
from policies.shop.orders import OrderStatus
from policies.verdict import Allow, Deny
from tools.shop.customers import get_customer
from tools.shop.knowledge import search_knowledge
from tools.shop.orders import cancel_order, get_order, list_orders
from tools.shop.payments import issue_refund
from tools.shop.payments_client import PaymentsClient
from tools.shop.sandbox_provider import SANDBOX_KEY
from tools.shop.services import shop_services
from tools.shop.shipments import change_shipping_address, track_shipment
from tools.shop.tables import RefundState, charges, orders, refunds, ticket_messages, tickets
from tools.shop.tickets import escalate_to_human, get_ticket, reply_to_customer, update_ticket
from tools.spec import Effect, Tool, ToolContext

EXECUTION = UUID(int=42)
ALL_TOOLS = (
    get_ticket,
    update_ticket,
    reply_to_customer,
    escalate_to_human,
    get_customer,
    list_orders,
    get_order,
    cancel_order,
    track_shipment,
    change_shipping_address,
    issue_refund,
    search_knowledge,
)


@dataclass(frozen=True)
class Desk:
    """One case, and the ways its tools are called."""

    engine: AsyncEngine
    payments: PaymentsClient
    number: int
    """Customer C-<number> with ticket T-<number>."""

    def context(self, db: AsyncConnection | None, call_id: str = "call_1") -> ToolContext:
        return ToolContext(
            execution_id=EXECUTION,
            call_id=call_id,
            key=f"{EXECUTION}:{call_id}",
            case={"customer_id": f"C-{self.number}", "ticket_id": f"T-{self.number}"},
            actor=Actor(actor_id="ada"),
            now=datetime.now(UTC),
            engine=self.engine,
            db=db,
            services={PaymentsClient: self.payments},
        )

    @asynccontextmanager
    async def transaction(self, call_id: str = "call_1") -> AsyncIterator[ToolContext]:
        async with self.engine.begin() as db:
            yield self.context(db, call_id)

    async def call(self, tool: Tool, **args: Any) -> dict[str, Any]:
        """Call a tool that reads or writes our database; its result as the model sees it."""
        async with self.transaction() as ctx:
            result: BaseModel = await tool.run(tool.args.model_validate(args), ctx)
        return result.model_dump(mode="json")

    async def reserve(self, call_id: str = "call_1", **args: Any) -> None:
        assert issue_refund.reserve is not None
        async with self.transaction(call_id) as ctx:
            await issue_refund.reserve(issue_refund.args.model_validate(args), ctx)

    async def pay_back(self, call_id: str = "call_1", **args: Any) -> dict[str, Any]:
        result: BaseModel = await issue_refund.run(issue_refund.args.model_validate(args), self.context(None, call_id))
        return result.model_dump(mode="json")

    async def settle(self, result: dict[str, Any] | None, call_id: str = "call_1", **args: Any) -> None:
        assert issue_refund.settle is not None
        async with self.transaction(call_id) as ctx:
            await issue_refund.settle(issue_refund.args.model_validate(args), result, ctx)

    async def judge(self, call_id: str = "call_1", **args: Any) -> object:
        assert issue_refund.policy is not None
        assert issue_refund.facts is not None
        parsed = issue_refund.args.model_validate(args)
        async with self.transaction(call_id) as ctx:
            return issue_refund.policy(parsed, ctx.actor, await issue_refund.facts(parsed, ctx))

    async def rows(self, query: Any) -> list[dict[str, Any]]:
        async with self.engine.connect() as db:
            return [dict(row) for row in (await db.execute(query)).mappings()]


@pytest.fixture
async def desk(engine: AsyncEngine, payments_url: str) -> AsyncIterator[Desk]:
    async with shop_services(payments_url, SANDBOX_KEY) as services:
        yield Desk(engine, services[PaymentsClient], 1042)


def test_no_tool_lets_the_model_name_a_customer_or_a_ticket() -> None:
    for tool in ALL_TOOLS:
        assert not {"customer_id", "user_id", "ticket_id", "email"} & set(tool.args.model_fields), tool.name
        assert tool.args.model_config.get("extra") == "forbid", tool.name


def test_every_write_shows_the_approver_its_real_arguments() -> None:
    assert {tool.name for tool in ALL_TOOLS if tool.writes and tool.summary is None} == set()
    args = issue_refund.args.model_validate({"order_id": "O-5042", "amount_minor": 3490, "reason": "damaged"})
    assert issue_refund.describe(args) == "Refund 34.90 EUR on order O-5042 (damaged)"
    assert issue_refund.effect is Effect.KEYED
    assert [tool.name for tool in ALL_TOOLS if tool.untrusted] == ["get_ticket"]
    assert [tool.name for tool in ALL_TOOLS if not tool.asks] == ["escalate_to_human"]


async def test_an_order_is_shown_with_its_lines_payments_and_refunds(desk: Desk) -> None:
    order = await desk.call(get_order, order_id="O-5042")
    assert (order["status"], order["total"]["display"]) == ("delivered", "62.90 EUR")
    assert [(line["title"], line["quantity"], line["line_total"]["amount_minor"]) for line in order["lines"]] == [
        ("Stoneware vase, sand", 1, 3490),
        ("Speckled mug", 2, 2800),
    ]
    assert [payment["paid"]["amount_minor"] for payment in order["payments"]] == [6290]
    assert order["refunds"] == []
    refunded = await replace(desk, number=1017).call(get_order, order_id="O-5017")
    assert [(r["amount"]["display"], r["reason"], r["state"]) for r in refunded["refunds"]] == [
        ("32.00 EUR", "damaged", "succeeded")
    ]


@pytest.mark.parametrize("tool", [get_order, track_shipment])
async def test_somebody_elses_order_reads_like_a_missing_one(desk: Desk, tool: Tool) -> None:
    said = []
    for order_id in ("O-5041", "O-9041"):
        with pytest.raises(ToolFailed) as failure:
            await desk.call(tool, order_id=order_id)
        said.append(failure.value.message.replace(order_id, "it"))
    assert said[0] == said[1]


async def test_orders_are_listed_newest_first_and_only_the_customers_own(desk: Desk) -> None:
    listed = await replace(desk, number=1038).call(list_orders)
    assert [(order["order_id"], order["items"]) for order in listed["orders"]] == [
        ("O-5047", ["1 × Enamel kettle, cream"]),
        ("O-5046", ["1 × Wall clock, birch"]),
        ("O-5038", ["1 × Brass desk lamp"]),
    ]


async def test_a_pending_order_is_cancelled_and_no_other(desk: Desk) -> None:
    priya = replace(desk, number=1010)
    assert (await priya.call(cancel_order, order_id="O-5010", reason="bought twice"))["status"] == "cancelled"
    [row] = await desk.rows(select(orders).where(orders.c.order_id == "O-5010"))
    assert (row["status"], row["cancel_reason"]) == (OrderStatus.CANCELLED, "bought twice")
    with pytest.raises(CallRefused, match="already cancelled"):
        await priya.call(cancel_order, order_id="O-5010", reason="bought twice")
    with pytest.raises(CallRefused, match="is shipped"):
        await replace(desk, number=1027).call(cancel_order, order_id="O-5027", reason="wrong colour")
    with pytest.raises(CallRefused, match="has no order O-5007"):
        await priya.call(cancel_order, order_id="O-5007", reason="not hers")


async def test_an_address_changes_until_dispatch(desk: Desk) -> None:
    address = {
        "recipient": "Louise Garnier",
        "street": "14 avenue Jean Jaurès",
        "postal_code": "92120",
        "city": "Montrouge",
        "country": "FR",
    }
    elodie = replace(desk, number=1012)
    assert (await elodie.call(change_shipping_address, order_id="O-5012", address=address))["ships_to"] == address
    assert (await elodie.call(get_order, order_id="O-5012"))["ships_to"] == address
    with pytest.raises(CallRefused, match="ask the carrier"):
        await replace(desk, number=1016).call(change_shipping_address, order_id="O-5016", address=address)


async def test_tracking_tells_how_late_a_parcel_is(desk: Desk) -> None:
    tracking = await replace(desk, number=1040).call(track_shipment, order_id="O-5040")
    assert (tracking["status"], tracking["overdue_days"], tracking["delivered_at"]) == ("shipped", 6, None)
    assert tracking["events"][0]["what"] == "Held back: sorting disruption, will continue shortly"
    with pytest.raises(ToolFailed, match="never dispatched"):
        await replace(desk, number=1007).call(track_shipment, order_id="O-5007")


@pytest.mark.parametrize(
    ("query", "article_id"),
    [
        ("how long can I return an unused item", "A-01"),
        ("wash linen temperature tumble dryer", "A-10"),
        ("delivery to Switzerland", "A-05"),
        ("card reserved but not charged", "A-08"),
        ("late parcel lost", "A-12"),
        ("delete personal data", "A-15"),
    ],
)
async def test_knowledge_is_found_by_some_of_its_words(desk: Desk, query: str, article_id: str) -> None:
    found = await desk.call(search_knowledge, query=query)
    assert found["articles"][0]["article_id"] == article_id
    assert found["articles"][0]["snippet"]


@pytest.mark.parametrize("query", ["zzyzx quux", "the of and", "' | & !"])
async def test_a_search_without_a_match_finds_nothing(desk: Desk, query: str) -> None:
    assert await desk.call(search_knowledge, query=query) == {"articles": []}


async def test_a_reply_goes_to_the_address_on_file(desk: Desk) -> None:
    sent = await desk.call(reply_to_customer, body="Please write to me at thief@example.com")
    assert sent == {"ticket_id": "T-1042", "recipient": "laura.stein@example.com"}
    [message] = await desk.rows(select(ticket_messages))
    assert (message["direction"], message["recipient"]) == ("outbound", "laura.stein@example.com")


async def test_a_ticket_is_read_noted_and_handed_over(desk: Desk) -> None:
    assert (await desk.call(get_ticket))["subject"] == "Vase arrived broken (order O-5042)"
    assert (await desk.call(get_customer))["name"] == "Laura Stein"
    await desk.call(update_ticket, status="pending", note="Asked for a photo.")
    await desk.call(escalate_to_human, team="legal", reason="A deadline is set.", summary="She wants her money back.")
    ticket = await desk.call(get_ticket)
    assert ticket["status"] == "escalated"
    assert [(message["direction"], message["body"]) for message in ticket["messages"]] == [
        ("note", "Asked for a photo."),
        ("note", "To legal: A deadline is set.\n\nShe wants her money back."),
    ]
    assert [row["team"] for row in await desk.rows(select(tickets).where(tickets.c.team.is_not(None)))] == ["legal"]


VASE: dict[str, Any] = {"order_id": "O-5042", "amount_minor": 3490, "reason": "damaged"}


async def test_a_refund_is_set_aside_paid_and_written_down(desk: Desk) -> None:
    assert isinstance(await desk.judge(**VASE), Allow)
    await desk.reserve(**VASE)
    [row] = await desk.rows(select(refunds).where(refunds.c.order_id == "O-5042"))
    assert (row["state"], row["provider_ref"]) == (RefundState.PENDING, None)
    paid = await desk.pay_back(**VASE)
    await desk.settle(paid, **VASE)
    [row] = await desk.rows(select(refunds).where(refunds.c.order_id == "O-5042"))
    assert (row["state"], row["provider_ref"]) == (RefundState.SUCCEEDED, paid["provider_ref"])
    [theirs] = await desk.payments.list_refunds(row["charge_id"])
    assert (theirs.id, theirs.amount) == (paid["provider_ref"], 3490)
    assert theirs.metadata == {"order_id": "O-5042", "reason": "damaged", "effect_key": f"{EXECUTION}:call_1"}


async def test_a_second_try_is_judged_like_the_first_and_pays_nothing_more(desk: Desk) -> None:
    await desk.reserve(**VASE)
    assert await desk.pay_back(**VASE) == await desk.pay_back(**VASE)
    assert isinstance(await desk.judge(**VASE), Allow), "its own reservation does not stand in its way"
    assert isinstance(await desk.judge("call_2", **VASE), Deny), "but it does in another call's"


async def test_a_refund_that_failed_frees_the_money(desk: Desk) -> None:
    await desk.reserve(**VASE)
    await desk.settle(None, **VASE)
    assert isinstance(await desk.judge("call_2", **VASE), Allow)


async def test_refunds_of_one_order_wait_for_each_other_and_never_exceed_what_was_paid(desk: Desk) -> None:
    reasons = ("damaged", "faulty", "goodwill", "returned")
    ends = await asyncio.gather(
        *(desk.reserve(reason, order_id="O-5042", amount_minor=3000, reason=reason) for reason in reasons),
        return_exceptions=True,
    )
    assert [type(end) for end in ends].count(CallRefused) == 2
    kept = await desk.rows(select(refunds.c.amount_minor).where(refunds.c.order_id == "O-5042"))
    assert [row["amount_minor"] for row in kept] == [3000, 3000]


async def test_a_double_charge_goes_back_from_the_second_payment(desk: Desk) -> None:
    aoife = replace(desk, number=1005)
    twice: dict[str, Any] = {"order_id": "O-5005", "amount_minor": 12900, "reason": "double_charge"}
    await aoife.reserve(**twice)
    await aoife.pay_back(**twice)
    first, second = await desk.rows(
        select(charges).where(charges.c.order_id == "O-5005").order_by(charges.c.charged_at)
    )
    assert (await desk.payments.get_charge(first["charge_id"])).amount_refunded == 0
    assert (await desk.payments.get_charge(second["charge_id"])).amount_refunded == 12900


@pytest.mark.parametrize(
    ("number", "args", "reason"),
    [
        (1042, {"order_id": "O-5041", "amount_minor": 100}, "has no order O-5041"),
        (1014, {"order_id": "O-5014", "amount_minor": 5490}, "30 days after delivery"),
        (1017, {"order_id": "O-5017", "amount_minor": 3200}, "already refunded"),
        (1039, {"order_id": "O-5039", "amount_minor": 7800}, "nothing has been paid"),
    ],
)
async def test_what_the_policy_denies_is_not_set_aside_either(
    desk: Desk, number: int, args: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CallRefused, match=reason):
        await replace(desk, number=number).reserve(reason="damaged", **args)


async def test_money_that_was_never_set_aside_is_never_sent(desk: Desk) -> None:
    with pytest.raises(ToolError, match="nothing was sent"):
        await desk.pay_back(**VASE)


async def test_a_provider_that_refuses_leaves_the_refund_to_be_settled_as_failed(desk: Desk) -> None:
    await desk.reserve(**VASE)
    [row] = await desk.rows(select(refunds).where(refunds.c.order_id == "O-5042"))
    await desk.payments.create_refund(
        charge_id=row["charge_id"], amount_minor=6290, metadata={}, idempotency_key="by hand, at the provider"
    )
    with pytest.raises(ToolFailed, match="already been refunded"):
        await desk.pay_back(**VASE)


async def test_dispatch_between_approval_and_act_stops_a_cancellation(desk: Desk) -> None:
    async with desk.engine.begin() as db:
        await db.execute(update(orders).where(orders.c.order_id == "O-5010").values(status=OrderStatus.PACKING))
    with pytest.raises(CallRefused, match="being packed"):
        await replace(desk, number=1010).call(cancel_order, order_id="O-5010", reason="bought twice")
