"""What tests/soundness.py looks for is found: a sound database, and the same with one thing wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from casework.execution import Mode, Status
from casework.settings import Settings
from tests.rig import ADA, Rig, call, rig, scripted
from tests.soundness import DOUBLED, LEFT, LOST, WRONG, broken

REFUND = call("issue_refund", order_id="O-5042", amount_minor=1500, reason="damaged")
REPLY = call("reply_to_customer", body="We have paid it back. Sorry for the trouble.")

AGAIN = """INSERT INTO casework.events (execution_id, seq, type, data)
    SELECT execution_id, (SELECT max(seq) FROM casework.events) + row_number() OVER (), type, data
    FROM casework.events WHERE type = '{}'"""
STATUS = "UPDATE casework.executions SET status = '{}'"

WRECKS = {
    "an execution that nobody will carry on": STATUS.format("queued"),
    "a decision that no run took up": "UPDATE casework.approvals SET applied_at = NULL WHERE tool = 'issue_refund'",
    "a gap in a story": "UPDATE casework.events SET seq = seq + 1 WHERE seq = (SELECT max(seq) FROM casework.events)",
    "a message that no agent will read": "UPDATE casework.executions SET messages = 1",
    "a message that is not there": "UPDATE casework.executions SET messages = 1",
    "a message not read exactly once, though the graph is past it": """
        INSERT INTO casework.messages (execution_id, number, author, text)
        SELECT execution_id, 1, 'olga', 'Hello?' FROM casework.executions;
        UPDATE casework.executions SET messages = 1, messages_read = 1""",
    "an effect told twice": AGAIN.format("effect.done"),
    "a leg that ended twice": AGAIN.format("run.finished"),
    "more or fewer messages on a ticket than its calls sent": """
        INSERT INTO shop.ticket_messages (ticket_id, direction, author, recipient, body, at)
        SELECT ticket_id, direction, author, recipient, body, at FROM shop.ticket_messages""",
    "a fork in the checkpoints": """
        INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
        SELECT thread_id, checkpoint_ns, checkpoint_id || '-too', parent_checkpoint_id, checkpoint, metadata
        FROM checkpoints""",
    "an effect that asked, without a yes to exactly its arguments": """
        UPDATE casework.approvals SET digest = 'another' WHERE tool = 'issue_refund'""",
    "an effect whose end is not on exactly one line of the audit log": """
        UPDATE casework.effects SET key = key || '-too' WHERE tool = 'reply_to_customer'""",
    "a decision that is not on exactly one line of the audit log": """
        UPDATE casework.approvals SET state = 'rejected'""",
    "more refunded than paid": "UPDATE shop.refunds SET amount_minor = 1000000",
    "an effect left started": "UPDATE casework.effects SET state = 'started'",
    "a refund left open": "UPDATE shop.refunds SET state = 'pending'",
    "a lease left behind": "UPDATE casework.executions SET lease_until = now()",
    "a leg left running": "UPDATE casework.runs SET status = 'running' WHERE kind = 'start'",
    "a question left open by a case that is over": "UPDATE casework.approvals SET state = 'pending'",
}
"""For each thing that must hold, what breaks it."""


@pytest_asyncio.fixture
async def paid(settings: Settings, database_url: str) -> AsyncIterator[Rig]:
    """A case that is over: asked, approved, refunded, answered."""
    async with rig(settings, database_url, scripted([REFUND, REPLY], "Done.")) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        await case.advance(execution_id)
        for asked in await case.pending(execution_id):
            await case.decide(ADA, asked)
        assert await case.advance(execution_id) is Status.SUCCEEDED
        yield case


async def test_a_finished_case_is_sound(paid: Rig, payments_book: Path) -> None:
    assert await broken(paid.resources.engine, payments_book) == []


@pytest.mark.parametrize("what", WRECKS)
async def test_what_is_wrong_is_found(paid: Rig, payments_book: Path, what: str) -> None:
    await paid.execute("SET session_replication_role = replica;" + WRECKS[what])
    assert what in {found.partition(":")[0] for found in await broken(paid.resources.engine, payments_book)}


async def test_an_open_transaction_is_found(paid: Rig, payments_book: Path) -> None:
    async with paid.resources.engine.connect() as db:
        await db.exec_driver_sql("SELECT 1")
        async with asyncio.timeout(10):  # one that is under way is not left open
            while not (found := await broken(paid.resources.engine, payments_book)):
                pass
    assert [wrong.partition(":")[0] for wrong in found] == ["a transaction left open"]


async def test_a_refund_that_the_provider_paid_twice_is_found(paid: Rig, payments_book: Path) -> None:
    write_last_line_again(payments_book)
    assert [found.partition(":")[0] for found in await broken(paid.resources.engine, payments_book)] == [
        "the provider's book differs",
        "paid twice for one call",
    ]


async def test_a_changed_line_of_the_audit_log_is_found(paid: Rig, payments_book: Path) -> None:
    await paid.execute("SET session_replication_role = replica; UPDATE casework.audit SET prev = 'x' WHERE seq = 1")
    assert await broken(paid.resources.engine, payments_book) == ["the audit log does not verify: default:1"]


def write_last_line_again(book: Path) -> None:
    lines = book.read_text().splitlines()
    book.write_text("\n".join([*lines, lines[-1], ""]))


def test_everything_that_is_looked_for_has_been_found_once() -> None:
    assert {*LOST, *DOUBLED, *WRONG, *LEFT} - {"a transaction left open"} == {*WRECKS}
