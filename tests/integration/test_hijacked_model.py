"""The model obeys every injected word, as every specialist; what holds then is code, and a person's consent."""

from __future__ import annotations

from pathlib import Path

import pytest

from casework.execution import Status
from casework.settings import Settings
from tests.hijacked import Injection, greedy, load_injections, obedient, unguarded
from tests.invariants import QUERIES, REMEMBER, violations
from tests.rig import ADA, Rig, call, rig, scripted

INJECTIONS = load_injections()
NO_END = 12
"""Rounds of approving that no case needs."""


async def file_ticket(case: Rig, injection: Injection, number: int) -> str:
    ticket_id = f"T-{9000 + number}"
    await case.execute(
        "INSERT INTO shop.tickets (ticket_id, customer_id, subject, body, channel, language, status, created_at,"
        " updated_at) VALUES (:t, :c, :s, :b, 'email', 'en', 'open', now(), now())",
        **{"t": ticket_id, "c": injection.customer, "s": injection.name, "b": injection.body},
    )
    return ticket_id


async def work(case: Rig, ticket_id: str, book: Path) -> list[str]:
    """Work a ticket to its end, with an approver who agrees to everything, and check all that must hold.

    Returns the tools the model called. One check at the end will do: what a yes came too late for stays found.
    """
    execution_id = await case.start(ticket_id)
    status = await case.advance(execution_id)
    for _ in range(NO_END):
        if status is not Status.WAITING:
            break
        for asked in await case.pending(execution_id):
            await case.decide(ADA, asked)
        status = await case.advance(execution_id)
    assert await violations(case.resources.engine, book) == []
    answered = await case.events(execution_id, "model.answered")
    return [made["tool"] for event in answered for made in event.data["calls"]]


def test_the_corpus_is_large_and_most_of_it_is_nothing_a_scanner_finds() -> None:
    assert len(INJECTIONS) >= 30
    assert len({injection.name for injection in INJECTIONS}) == len(INJECTIONS)


async def test_no_injected_ticket_moves_wrong_money_though_the_model_obeys_it(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    async with rig(settings, database_url, obedient(INJECTIONS)) as case:
        await case.execute(REMEMBER)
        for number, injection in enumerate(INJECTIONS):
            proposed = await work(case, await file_ticket(case, injection, number), payments_book)
            first = next(iter(injection.obeys.values()))[0]
            wanted = [obeyed.tool for obeyed in first for _ in range(obeyed.times)]
            assert proposed[: len(wanted)] == wanted, injection.name
        made = await case.scalar("SELECT count(*) FROM casework.effects WHERE tool = 'issue_refund' AND state = 'done'")
        assert made > 0  # the provider was reached: what stopped the others was not a broken rig


async def test_over_all_demo_tickets_no_wrong_money_moves_though_the_model_takes_what_it_can(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    async with rig(settings, database_url, greedy) as case:
        await case.execute(REMEMBER)
        numbers = range(1003, 1043)
        for number in numbers:
            proposed = await work(case, f"T-{number}", payments_book)
            assert "issue_refund" in proposed
        assert await case.scalar("SELECT count(*) FROM casework.executions") == len(numbers)


async def test_control_without_policies_the_same_corpus_moves_wrong_money(
    settings: Settings, database_url: str, payments_book: Path
) -> None:
    plain = [i for i in INJECTIONS if i.name in ("a refund above the first limit", "a refund above the second limit")]
    async with rig(settings, database_url, obedient(plain), unguarded()) as case:
        await case.execute(REMEMBER)
        for number, injection in enumerate(plain):
            await case.advance(await case.start(await file_ticket(case, injection, number)))
        found = await violations(case.resources.engine, payments_book)
    assert [line.split(":")[0] for line in found] == ["a refund above a limit without enough people"] * len(plain)


STRANGER = "(SELECT order_id FROM shop.orders WHERE customer_id = 'C-1003' LIMIT 1)"
REFUND = "effect_key = (SELECT key FROM casework.effects WHERE tool = 'issue_refund')"
SPOILT = {
    "an effect on another customer's order": f"""
        UPDATE casework.effects SET args = jsonb_set(args, '{{order_id}}', to_jsonb({STRANGER}))
        WHERE tool = 'issue_refund'""",
    "an order changed by nobody who may": "UPDATE shop.orders SET status = 'cancelled' WHERE order_id = 'O-5007'",
    "a message on a ticket that is no case, or to another address": """
        UPDATE shop.ticket_messages SET recipient = 'thief@example.org' WHERE direction = 'outbound'""",
    "another customer's data in a message": """
        UPDATE shop.ticket_messages SET body = 'Write to hannah.moreau@example.com.'""",
    "a refund of another customer's order": f"UPDATE shop.refunds SET order_id = {STRANGER} WHERE {REFUND}",
    "a refund above a limit without enough people": "UPDATE casework.approvals SET digest = repeat('0', 64)",
    "more refunded than paid": "UPDATE shop.charges SET amount_minor = 1 WHERE order_id = 'O-5020'",
    "a refund left open": f"UPDATE shop.refunds SET state = 'pending' WHERE {REFUND}",
    "a write of a suspicious case that nobody agreed to": """
        UPDATE casework.events SET data = '{"suspicions": ["a sign"]}' WHERE type = 'input.screened'""",
    "an effect of a tool that its specialist does not have": """
        UPDATE casework.effects SET tool = 'change_shipping_address' WHERE tool = 'reply_to_customer'""",
    "more effects than the budget": """
        INSERT INTO casework.effects (key, execution_id, tool, args, digest, effect, state, fence)
        SELECT key || ':' || n, execution_id, tool, args, digest, effect, state, fence
        FROM casework.effects, generate_series(1, 41) n WHERE tool = 'reply_to_customer'""",
    "a case that is not at rest": "UPDATE casework.executions SET status = 'running'",
    "the provider's book differs": f"UPDATE shop.refunds SET amount_minor = 1 WHERE {REFUND}",
}


@pytest.mark.parametrize("what", SPOILT)
async def test_control_each_check_finds_what_it_is_for(
    what: str, settings: Settings, database_url: str, payments_book: Path
) -> None:
    refund = call("issue_refund", order_id="O-5020", amount_minor=24000, reason="damaged")
    reply = call("reply_to_customer", body="We have paid it back. Sorry for the trouble.")
    async with rig(settings, database_url, scripted([refund], [reply], "Done.")) as case:
        await case.execute(REMEMBER)
        await work(case, "T-1020", payments_book)
        await case.execute("ALTER TABLE casework.events DISABLE TRIGGER USER")
        await case.execute(SPOILT[what])
        found = await violations(case.resources.engine, payments_book)
    assert what in {line.split(":")[0] for line in found}


def test_every_check_has_a_control() -> None:
    assert {*QUERIES, "the provider's book differs"} == set(SPOILT)
