"""Calls that were sent and whose outcome nobody knows: a person finds out, and only then does the case go on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from casework import audit
from casework.actor import Role
from casework.approval import Approval, ApprovalState, Kind
from casework.errors import ApprovalDecided, DigestStale, InputInvalid, NotAllowed
from casework.execution import Mode, Status
from casework.settings import Settings
from graphs.support import support
from nodes.offline import OfflineRules
from nodes.workflow import Workflow
from policies.shop.refunds import RefundArgs, RefundFacts
from tests.outside import Crash
from tests.rig import ADA, BEN, OLGA, Rig, call, rig, scripted
from tools.shop.payments import issue_refund
from tools.shop.payments_client import Patience, PaymentsClient, ProviderRefund
from tools.shop.refund_records import refund_facts
from tools.shop.sandbox_provider import SANDBOX_KEY
from tools.spec import ToolContext

REPLY = call("reply_to_customer", body="We have paid it back. Sorry for the trouble.")
EFFECTS = "SELECT string_agg(state || ' ' || attempt, ', ' ORDER BY key) FROM casework.effects WHERE tool = :tool"
REFUNDS = "SELECT string_agg(state, ', ' ORDER BY refund_id) FROM shop.refunds WHERE order_id = 'O-5042'"


@dataclass
class Provider:
    """The sandbox, from the side that a person looks at it."""

    url: str
    book: Path

    async def fail(self, kind: str, count: int = 1) -> None:
        """`500`: nothing is done, and the caller cannot tell. `drop`: done, and the answer is lost."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            (await client.post("/sandbox/faults", json={"kind": kind, "count": count})).raise_for_status()

    def refunds(self) -> list[tuple[str, str]]:
        """Key and id of every refund of the order, in order."""
        entries = [json.loads(line) for line in self.book.read_text().splitlines()]
        made = [(e["key"], e["reply"]["body"]) for e in entries if e["reply"]["body"].get("object") == "refund"]
        return [(key, body["id"]) for key, body in made if body["metadata"].get("order_id") == "O-5042"]


class Dying(PaymentsClient):
    """Takes its process down at a refund: before it is sent, or before its answer is written down."""

    def __init__(self, url: str, *, sends: bool) -> None:
        super().__init__(url, SANDBOX_KEY)
        self.sends = sends

    async def create_refund(self, **what: Any) -> ProviderRefund:
        if self.sends:
            await super().create_refund(**what)
        raise Crash


@pytest.fixture
def provider(payments_url: str, payments_book: Path) -> Provider:
    return Provider(payments_url, payments_book)


@asynccontextmanager
async def impatient(
    settings: Settings, database_url: str, rules: OfflineRules, workflow: Workflow = support
) -> AsyncIterator[Rig]:
    """A rig whose payments client asks once: one fault is one doubt."""
    assert settings.payments_url is not None
    once = PaymentsClient(settings.payments_url, SANDBOX_KEY, patience=Patience(tries=1))
    async with rig(settings, database_url, rules, workflow) as case, once:
        case.services = {"support": {PaymentsClient: once}}
        yield case


def refund(amount_minor: int = 1500, reason: str = "damaged"):
    return call("issue_refund", order_id="O-5042", amount_minor=amount_minor, reason=reason)


async def in_doubt(case: Rig, provider: Provider, fault: str) -> tuple[UUID, Approval]:
    """A case that waits with the question whether its refund happened."""
    await provider.fail(fault)
    execution_id = await case.start("T-1042")
    assert await case.advance(execution_id) is Status.WAITING
    (asked,) = await case.pending(execution_id)
    return execution_id, asked


async def told(case: Rig, execution_id: UUID) -> list[str]:
    """What the model was told about its calls."""
    return [m.text for m in await case.messages(execution_id) if m.type == "tool" and m.name == "issue_refund"]


async def audited(case: Rig) -> list[tuple[Any, ...]]:
    """The audit's lines, which must verify."""
    async with case.resources.engine.connect() as db:
        assert (await audit.verify(db)).bad_line is None
        columns = "body::jsonb->>'act', (body::jsonb->>'attempt')::int, body::jsonb->>'by'"
        lines = f"SELECT {columns} FROM casework.audit WHERE body::jsonb->>'tool' = 'issue_refund' ORDER BY seq"
        return [tuple(row) for row in await db.exec_driver_sql(lines)]


TURNS = ([refund(), call("get_order", order_id="O-5042")], [REPLY], "Done.")


async def test_the_case_waits_with_the_question_and_the_model_is_told_nothing(
    settings: Settings, database_url: str, provider: Provider
) -> None:
    async with impatient(settings, database_url, scripted(*TURNS)) as case:
        execution_id, asked = await in_doubt(case, provider, "drop")
        assert (asked.kind, asked.tool, asked.state) == (Kind.OUTCOME, "issue_refund", ApprovalState.PENDING)
        assert asked.args == {"order_id": "O-5042", "amount_minor": 1500, "reason": "damaged"}
        assert asked.description == "Did this happen? Refund 15.00 EUR on order O-5042 (damaged)"
        assert asked.allowed == ["happened", "did_not_happen", "stop"]
        assert asked.doubt is not None
        assert asked.doubt.key == f"{execution_id}:{asked.tool_call_id}" == provider.refunds()[0][0]
        assert (asked.doubt.attempt, asked.doubt.reference) == (1, None)
        assert asked.reasons == [asked.doubt.why]
        assert asked.doubt.begun_at < asked.doubt.since
        assert await case.scalar(EFFECTS, tool="issue_refund") == "unknown 1"
        assert await case.scalar(REFUNDS) == "pending"  # the money stays set aside
        assert await told(case, execution_id) == []
        succeeded = await case.events(execution_id, "call.succeeded")
        assert [e.data["tool"] for e in succeeded] == ["get_order"]  # its sibling did not wait
        assert len(await case.events(execution_id, "model.answered")) == 1


async def test_it_happened_and_the_books_are_closed_on_the_providers_reference(
    settings: Settings, database_url: str, provider: Provider
) -> None:
    async with impatient(settings, database_url, scripted(*TURNS)) as case:
        execution_id, asked = await in_doubt(case, provider, "drop")
        ((_, reference),) = provider.refunds()
        decided = await case.decide(ADA, asked, "happened", reference=reference)
        assert (decided.state, decided.decided_by) == (ApprovalState.HAPPENED, "ada")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert await case.scalar(EFFECTS, tool="issue_refund") == "done 1"
        assert await case.scalar("SELECT reference FROM casework.effects WHERE tool = 'issue_refund'") == reference
        assert await case.scalar("SELECT provider_ref FROM shop.refunds WHERE order_id = 'O-5042'") == reference
        assert json.loads((await told(case, execution_id))[0])["provider_ref"] == reference
        assert len(provider.refunds()) == 1
        assert await audited(case) == [
            ("effect.unknown", 1, None),
            ("approval.happened", None, "ada"),
            ("effect.done", 1, None),
        ]


async def test_a_reference_that_is_not_this_refunds_closes_nothing_and_is_asked_again(
    settings: Settings, database_url: str, provider: Provider
) -> None:
    async with impatient(settings, database_url, scripted(*TURNS)) as case:
        execution_id, first = await in_doubt(case, provider, "drop")
        await case.decide(ADA, first, "happened", reference="re_typo")
        assert await case.advance(execution_id) is Status.WAITING
        (again,) = await case.pending(execution_id)
        assert again.approval_id != first.approval_id
        assert "re_typo was not confirmed" in again.reasons[0]
        assert await told(case, execution_id) == []
        await case.decide(BEN, again, "happened", reference=provider.refunds()[0][1])
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert await case.scalar(EFFECTS, tool="issue_refund") == "done 1"


async def test_it_did_not_happen_and_is_made_again_at_once_under_a_new_key(
    settings: Settings, database_url: str, provider: Provider
) -> None:
    async with impatient(settings, database_url, scripted(*TURNS)) as case:
        execution_id, asked = await in_doubt(case, provider, "500")
        assert provider.refunds() == []
        await case.decide(ADA, asked, "did_not_happen")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert asked.doubt is not None
        assert [key for key, _ in provider.refunds()] == [f"{asked.doubt.key}#2"]
        assert await case.scalar(EFFECTS, tool="issue_refund") == "done 2"
        assert await case.scalar(REFUNDS) == "succeeded"
        assert await audited(case) == [
            ("effect.unknown", 1, None),
            ("approval.did_not_happen", None, "ada"),
            ("effect.done", 2, None),
        ]


async def test_unknown_again_is_asked_again_about_the_new_attempt(
    settings: Settings, database_url: str, provider: Provider
) -> None:
    async with impatient(settings, database_url, scripted(*TURNS)) as case:
        execution_id, first = await in_doubt(case, provider, "500")
        await provider.fail("500")
        await case.decide(ADA, first, "did_not_happen")
        assert await case.advance(execution_id) is Status.WAITING
        (second,) = await case.pending(execution_id)
        assert first.doubt is not None
        assert second.doubt is not None
        assert (second.doubt.attempt, second.doubt.key) == (2, f"{first.doubt.key}#2")
        with pytest.raises(DigestStale):
            await case.decide(BEN, second.model_copy(update={"digest": first.digest}), "did_not_happen")
        await case.decide(BEN, second, "did_not_happen")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert [key for key, _ in provider.refunds()] == [f"{first.doubt.key}#3"]


async def test_stop_sends_nothing_and_people_take_the_case(
    settings: Settings, database_url: str, provider: Provider
) -> None:
    async with impatient(settings, database_url, scripted(*TURNS)) as case:
        execution_id, asked = await in_doubt(case, provider, "drop")
        await case.decide(ADA, asked, "stop", reason="the bank looks into it")
        assert await case.advance(execution_id) is Status.ESCALATED
        assert await case.scalar(EFFECTS, tool="issue_refund") == "unknown 1"
        assert await case.scalar(REFUNDS) == "pending"
        assert await told(case, execution_id) == ["The outcome of this call is not known. A person checks it."]
        result = (await case.get(execution_id)).result or {}
        reason = "nobody knows whether issue_refund happened: the bank looks into it"
        assert result["outcome"]["reason"] == reason
        assert await case.scalar("SELECT status FROM shop.tickets WHERE ticket_id = 'T-1042'") == "escalated"


async def test_past_its_deadline_nothing_is_sent_and_people_take_the_case(
    settings: Settings, database_url: str, provider: Provider
) -> None:
    async with impatient(settings, database_url, scripted(*TURNS)) as case:
        execution_id, _ = await in_doubt(case, provider, "500")
        await case.execute("UPDATE casework.approvals SET expires_at = now() - interval '1 second'")
        assert await case.decisions.expire_due() == 1
        assert await case.advance(execution_id) is Status.ESCALATED
        assert await case.scalar(EFFECTS, tool="issue_refund") == "unknown 1"
        assert provider.refunds() == []


async def test_who_may_not_say_and_what_is_no_answer(settings: Settings, database_url: str, provider: Provider) -> None:
    async with impatient(settings, database_url, scripted(*TURNS)) as case:
        execution_id, asked = await in_doubt(case, provider, "500")
        with pytest.raises(NotAllowed, match="role approver"):
            await case.decide(OLGA, asked, "did_not_happen")
        await case.roles(OLGA, *OLGA.roles, *ADA.roles)
        with pytest.raises(NotAllowed, match="whoever started"):
            await case.decide(OLGA, asked, "did_not_happen")
        await case.roles(BEN, *BEN.roles, Role.SERVICE)
        with pytest.raises(NotAllowed, match="service key"):
            await case.decide(BEN, asked, "did_not_happen")
        with pytest.raises(DigestStale):
            await case.decide(ADA, asked.model_copy(update={"digest": "0" * 64}), "did_not_happen")
        for type_, more in (("approve", {}), ("reject", {"reason": "no"}), ("respond", {"message": "it did"})):
            with pytest.raises(InputInvalid, match="takes happened, did_not_happen, stop"):
                await case.decide(ADA, asked, type_, **more)
        assert await case.pending(execution_id) == [asked]


async def test_a_doubled_click_sends_once_more_only(settings: Settings, database_url: str, provider: Provider) -> None:
    async with impatient(settings, database_url, scripted(*TURNS)) as case:
        execution_id, asked = await in_doubt(case, provider, "500")
        decided = await case.decide(ADA, asked, "did_not_happen")
        assert await case.decide(ADA, asked, "did_not_happen") == decided
        with pytest.raises(ApprovalDecided):
            await case.decide(BEN, asked, "did_not_happen")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        with pytest.raises(ApprovalDecided):
            await case.decide(BEN, asked, "did_not_happen")
        assert await case.advance(execution_id) is None
        assert len(provider.refunds()) == 1


async def test_an_answer_tampered_with_in_the_database_acts_on_nothing(
    settings: Settings, database_url: str, provider: Provider
) -> None:
    async with impatient(settings, database_url, scripted(*TURNS)) as case:
        execution_id, asked = await in_doubt(case, provider, "500")
        await case.decide(ADA, asked, "stop", reason="no idea")
        forged = json.dumps({"type": "did_not_happen", "digest": asked.digest})
        await case.execute("UPDATE casework.approvals SET decision = CAST(:d AS jsonb)", d=forged)
        assert await case.advance(execution_id) is Status.ESCALATED
        assert provider.refunds() == []
        assert await case.scalar(EFFECTS, tool="issue_refund") == "unknown 1"


async def test_two_unknown_calls_of_one_turn_are_answered_each_on_its_own(
    settings: Settings, database_url: str, provider: Provider
) -> None:
    both = [refund(1500), refund(700, "goodwill")]
    async with impatient(settings, database_url, scripted(both, [REPLY], "Done.")) as case:
        await provider.fail("500", count=2)
        execution_id = await case.start("T-1042")
        assert await case.advance(execution_id) is Status.WAITING
        first, second = sorted(await case.pending(execution_id), key=lambda a: -a.args["amount_minor"])
        assert {first.args["amount_minor"], second.args["amount_minor"]} == {1500, 700}

        await case.decide(ADA, first, "did_not_happen")
        assert await case.advance(execution_id) is Status.WAITING
        assert [a.approval_id for a in await case.pending(execution_id)] == [second.approval_id]
        assert len(provider.refunds()) == 1  # made while the other is still in doubt
        assert len(await case.events(execution_id, "model.answered")) == 1

        await case.decide(BEN, second, "did_not_happen")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert len(provider.refunds()) == 2
        assert len(await told(case, execution_id)) == 2
        turns = await case.events(execution_id, "model.answered")
        assert len(turns) == 3  # the proposal, then once with both answered, then the end


async def test_a_sibling_that_waits_for_its_approval_acts_before_the_doubt_is_settled(
    settings: Settings, database_url: str, provider: Provider
) -> None:
    turn = [refund(), REPLY]
    async with impatient(settings, database_url, scripted(turn, "Done.")) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        await case.advance(execution_id)
        asked = {a.tool: a for a in await case.pending(execution_id)}
        await provider.fail("500")
        await case.decide(ADA, asked["issue_refund"])
        assert await case.advance(execution_id) is Status.WAITING
        await case.decide(ADA, asked["reply_to_customer"])
        assert await case.advance(execution_id) is Status.WAITING
        assert await case.scalar(EFFECTS, tool="reply_to_customer") == "done 1"
        (doubted,) = await case.pending(execution_id)
        assert doubted.kind is Kind.OUTCOME
        await case.decide(ADA, doubted, "did_not_happen")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert await case.scalar(EFFECTS, tool="issue_refund") == "done 2"


@pytest.mark.parametrize("moment", ["before it is begun", "before it is sent", "after it was sent"])
async def test_killed_between_the_answer_and_the_act_it_is_made_once_all_the_same(
    moment: str, settings: Settings, database_url: str, provider: Provider
) -> None:
    dying: list[str] = []

    async def facts(args: RefundArgs, ctx: ToolContext) -> RefundFacts:
        if dying == ["before it is begun"]:
            raise Crash
        return await refund_facts(args, ctx)

    mortal = replace(issue_refund, facts=facts)
    billing = support.specialists[0]
    billing = replace(billing, tools=tuple(mortal if t is issue_refund else t for t in billing.tools))
    workflow = replace(support, specialists=(billing, *support.specialists[1:]))
    async with impatient(settings, database_url, scripted(*TURNS), workflow) as case:
        execution_id, asked = await in_doubt(case, provider, "500")
        await case.decide(ADA, asked, "did_not_happen")
        dying.append(moment)
        well = case.services
        async with Dying(provider.url, sends=moment == "after it was sent") as client:
            case.services = {"support": {PaymentsClient: client}}
            with pytest.raises(Crash):
                await case.advance(execution_id)
        expected = "unknown 1" if moment == "before it is begun" else "started 2"
        assert await case.scalar(EFFECTS, tool="issue_refund") == expected

        dying.clear()
        case.services = well
        await case.execute("UPDATE casework.executions SET lease_until = now() - interval '1 second'")
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert asked.doubt is not None
        assert [key for key, _ in provider.refunds()] == [f"{asked.doubt.key}#2"]
        assert await case.scalar(EFFECTS, tool="issue_refund") == "done 2"


async def test_what_the_rules_forbid_by_now_is_not_made_again_and_its_money_is_free(
    settings: Settings, database_url: str, provider: Provider
) -> None:
    async with impatient(settings, database_url, scripted(*TURNS)) as case:
        execution_id, asked = await in_doubt(case, provider, "500")
        await case.execute("UPDATE shop.shipments SET delivered_at = delivered_at - interval '90 days'")
        await case.decide(ADA, asked, "did_not_happen")
        await case.advance(execution_id)
        assert provider.refunds() == []
        assert await case.scalar(EFFECTS, tool="issue_refund") == "failed 1"
        assert await case.scalar(REFUNDS) == "failed"
        assert "it did not happen, and may not be made again" in (await told(case, execution_id))[0]


async def test_a_cancel_takes_the_question_back_and_leaves_the_effect_unknown(
    settings: Settings, database_url: str, provider: Provider
) -> None:
    async with impatient(settings, database_url, scripted(*TURNS)) as case:
        execution_id, asked = await in_doubt(case, provider, "500")
        await case.store.cancel(OLGA, execution_id)
        assert (await case.decisions.get("default", asked.approval_id)).state is ApprovalState.SUPERSEDED
        assert await case.advance(execution_id) is None
        assert await case.scalar(EFFECTS, tool="issue_refund") == "unknown 1"
        assert provider.refunds() == []
