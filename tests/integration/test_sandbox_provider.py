"""What the sandbox provider adds to Stripe's shape: failing on demand, and a book that survives kill -9."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from casework.errors import OutcomeUnknown, ToolFailed
from tools.shop.payments_client import Patience, PaymentsClient, ProviderRefund
from tools.shop.sandbox_provider import SANDBOX_KEY, running_sandbox

ONE_TRY = Patience(tries=1, total_s=5.0)
THREE_TRIES = Patience(tries=3, total_s=5.0, first_wait_s=0.01)


@contextlib.asynccontextmanager
async def client(url: str, patience: Patience = THREE_TRIES) -> AsyncIterator[PaymentsClient]:
    async with PaymentsClient(url, SANDBOX_KEY, patience=patience) as payments:
        yield payments


async def take(payments: PaymentsClient) -> str:
    charge = await payments.create_charge(
        amount_minor=100_00, source="tok_visa", description="O-5042", metadata={}, idempotency_key="charge"
    )
    return charge.id


async def pay_back(payments: PaymentsClient, charge_id: str, key: str = "refund") -> ProviderRefund:
    return await payments.create_refund(charge_id=charge_id, amount_minor=30_00, metadata={}, idempotency_key=key)


async def ask_for(url: str, **fault: object) -> None:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        (await http.post("/sandbox/faults", json=fault)).raise_for_status()


@pytest.mark.parametrize("kind", ["429", "500", "drop"])
async def test_a_refund_gets_through_passing_trouble_and_is_paid_once(tmp_path: Path, kind: str) -> None:
    async with running_sandbox(tmp_path / "book.jsonl") as url, client(url) as payments:
        charge_id = await take(payments)
        await ask_for(url, kind=kind, count=2)
        refund = await pay_back(payments, charge_id)
        assert [r.id for r in await payments.list_refunds(charge_id)] == [refund.id]


@pytest.mark.parametrize(
    ("fault", "end", "paid"),
    [
        ({"kind": "402"}, ToolFailed, False),
        ({"kind": "429"}, ToolFailed, False),
        ({"kind": "500"}, OutcomeUnknown, False),
        ({"kind": "drop"}, OutcomeUnknown, True),
    ],
)
async def test_what_the_caller_learns_from_a_single_try(
    tmp_path: Path, fault: dict[str, str], end: type[Exception], paid: bool
) -> None:
    async with running_sandbox(tmp_path / "book.jsonl") as url, client(url, ONE_TRY) as payments:
        charge_id = await take(payments)
        await ask_for(url, **fault)
        with pytest.raises(end):
            await pay_back(payments, charge_id)
        assert bool(await payments.list_refunds(charge_id)) is paid


async def test_a_late_answer_is_an_unknown_outcome_and_the_same_key_finds_it(tmp_path: Path) -> None:
    impatient = Patience(tries=1, total_s=0.2)
    async with running_sandbox(tmp_path / "book.jsonl") as url, client(url) as payments:
        charge_id = await take(payments)
        await ask_for(url, kind="delay", delay_s=0.5)
        async with client(url, impatient) as hasty:
            with pytest.raises(OutcomeUnknown):
                await pay_back(hasty, charge_id)
        refund = await pay_back(payments, charge_id)
        assert [r.id for r in await payments.list_refunds(charge_id)] == [refund.id]


async def test_a_header_fails_one_request_and_others_not(tmp_path: Path) -> None:
    async with (
        running_sandbox(tmp_path / "book.jsonl") as url,
        httpx.AsyncClient(base_url=url, trust_env=False, headers={"Authorization": f"Bearer {SANDBOX_KEY}"}) as http,
    ):
        assert (await http.get("/v1/refunds", headers={"Sandbox-Fault": "429"})).status_code == 429
        assert (await http.get("/v1/refunds")).status_code == 200


async def test_the_book_survives_kill_9_and_a_half_written_line(tmp_path: Path) -> None:
    book = tmp_path / "book.jsonl"
    async with standing_alone(book) as (process, url), client(url) as payments:
        charge_id = await take(payments)
        refund = await pay_back(payments, charge_id)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    with book.open("ab") as lines:
        lines.write(b'{"key": "refund-2", "path": "/v1/ref')
    async with standing_alone(book) as (_, url), client(url) as payments:
        assert await pay_back(payments, charge_id) == refund
        assert (await payments.get_charge(charge_id)).amount_refunded == 30_00
        second = await pay_back(payments, charge_id, "refund-2")
    async with running_sandbox(book) as url, client(url) as payments:
        assert await payments.list_refunds(charge_id) == [second, refund]


@contextlib.asynccontextmanager
async def standing_alone(book: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The provider as a process of its own, as documented."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tools.shop.sandbox_provider", "--port", "0", "--book", str(book)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        ready = (await process.stdout.readline()).decode()
        assert ready.startswith("READY http://127.0.0.1:")
        yield process, ready.split()[1]
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
