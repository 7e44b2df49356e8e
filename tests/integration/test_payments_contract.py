"""Our payments client against our sandbox and against somebody else's Stripe, so that it is Stripe we are held to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from casework.errors import OutcomeUnknown, ToolFailed
from tools.shop.payments_client import Charge, Patience, PaymentsClient, ProviderRefund
from tools.shop.sandbox_provider import SANDBOX_KEY, running_sandbox

STRIPE_MOCK = Path(__file__).with_name("stripe_mock")
START_S = 20.0
QUICK = Patience(tries=3, total_s=10.0, first_wait_s=0.01)


@dataclass(frozen=True)
class Provider:
    url: str
    key: str


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=STRIPE_MOCK, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@contextlib.asynccontextmanager
async def running_stripe_mock() -> AsyncIterator[str]:
    """npm's stripe-stateful-mock on a free port; skips where there is no node, except in CI."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        assert "CI" not in os.environ, "node and npm are needed here"
        pytest.skip("node or npm is missing: the sandbox is not compared with stripe-stateful-mock")
    if not (STRIPE_MOCK / "node_modules").exists():
        await _run("npm", "ci", "--no-audit", "--no-fund")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        "node",
        "node_modules/stripe-stateful-mock/dist/cli.js",
        cwd=STRIPE_MOCK,
        env={"PATH": os.environ["PATH"], "PORT": str(port), "LOG_LEVEL": "silent"},
    )
    try:
        await _wait_until_it_listens(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


async def _wait_until_it_listens(port: int) -> None:
    async with asyncio.timeout(START_S):
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture(params=["sandbox", "stripe-stateful-mock"], scope="module")
async def provider(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Provider]:
    if request.param == "sandbox":
        async with running_sandbox(tmp_path_factory.mktemp("sandbox") / "book.jsonl") as url:
            yield Provider(url, SANDBOX_KEY)
    else:
        async with running_stripe_mock() as url:
            yield Provider(url, "sk_test_contract")


@pytest.fixture
async def payments(provider: Provider) -> AsyncIterator[PaymentsClient]:
    async with PaymentsClient(provider.url, provider.key, patience=QUICK) as client:
        yield client


async def take(payments: PaymentsClient, amount_minor: int = 100_00, source: str = "tok_visa") -> Charge:
    return await payments.create_charge(
        amount_minor=amount_minor,
        source=source,
        description="Larkspur Home, order O-5042",
        metadata={"order_id": "O-5042"},
        idempotency_key=uuid4().hex,
    )


async def pay_back(
    payments: PaymentsClient, charge_id: str, amount_minor: int, key: str | None = None
) -> ProviderRefund:
    return await payments.create_refund(
        charge_id=charge_id,
        amount_minor=amount_minor,
        metadata={"reason": "damaged"},
        idempotency_key=key or uuid4().hex,
    )


async def test_a_charge_is_refunded_in_parts_until_nothing_is_left(payments: PaymentsClient) -> None:
    charge = await take(payments)
    assert (charge.amount, charge.amount_refunded, charge.currency, charge.status) == (100_00, 0, "eur", "succeeded")
    assert charge.metadata == {"order_id": "O-5042"}
    first = await pay_back(payments, charge.id, 30_00)
    second = await pay_back(payments, charge.id, 70_00)
    assert (first.charge, first.amount, first.currency, first.status) == (charge.id, 30_00, "eur", "succeeded")
    assert first.metadata == {"reason": "damaged"}
    assert (await payments.get_charge(charge.id)).amount_refunded == 100_00
    assert {r.id for r in await payments.list_refunds(charge.id)} == {first.id, second.id}
    with pytest.raises(ToolFailed, match="already been refunded"):
        await pay_back(payments, charge.id, 1)


async def test_the_same_key_pays_once(payments: PaymentsClient) -> None:
    charge = await take(payments)
    key = uuid4().hex
    answers = [await pay_back(payments, charge.id, 30_00, key) for _ in range(3)]
    assert len({refund.id for refund in answers}) == 1
    assert (await payments.get_charge(charge.id)).amount_refunded == 30_00


async def test_a_key_used_for_something_else_is_refused_and_needs_a_person(payments: PaymentsClient) -> None:
    charge = await take(payments)
    key = uuid4().hex
    await pay_back(payments, charge.id, 30_00, key)
    with pytest.raises(OutcomeUnknown, match="same parameters"):
        await pay_back(payments, charge.id, 31_00, key)
    assert (await payments.get_charge(charge.id)).amount_refunded == 30_00


async def test_a_refusal_is_replayed_under_its_key(payments: PaymentsClient) -> None:
    charge = await take(payments)
    key = uuid4().hex
    for _ in range(2):
        with pytest.raises(ToolFailed, match="greater than unrefunded amount"):
            await pay_back(payments, charge.id, 100_01, key)
    assert (await payments.get_charge(charge.id)).amount_refunded == 0


async def test_a_declined_card_pays_nothing(payments: PaymentsClient) -> None:
    with pytest.raises(ToolFailed, match="declined"):
        await take(payments, source="tok_chargeDeclined")


@pytest.mark.parametrize(
    ("path", "form", "status", "error"),
    [
        ("/v1/refunds", {"charge": "ch_missing"}, 404, ("invalid_request_error", "resource_missing", "id")),
        (
            "/v1/charges",
            {"amount": "0", "currency": "eur", "source": "tok_visa"},
            400,
            ("invalid_request_error", "parameter_invalid_integer", "amount"),
        ),
        (
            "/v1/charges",
            {"amount": "49", "currency": "eur", "source": "tok_visa"},
            400,
            ("invalid_request_error", "amount_too_small", "amount"),
        ),
        (
            "/v1/charges",
            {"amount": "500", "currency": "eur"},
            400,
            ("invalid_request_error", "parameter_missing", None),
        ),
        (
            "/v1/charges",
            {"amount": "500", "currency": "eur", "source": "tok_chargeDeclined"},
            402,
            ("card_error", "card_declined", None),
        ),
    ],
)
async def test_errors_have_stripes_shape(
    provider: Provider,
    path: str,
    form: dict[str, str],
    status: int,
    error: tuple[str, str | None, str | None],
) -> None:
    async with httpx.AsyncClient(base_url=provider.url, trust_env=False) as http:
        answer = await http.post(path, data=form, headers={"Authorization": f"Bearer {provider.key}"})
    body = answer.json()["error"]
    assert (answer.status_code, (body["type"], body.get("code"), body.get("param"))) == (status, error)
    assert body["message"]


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer nonsense"}])
async def test_a_wrong_key_is_turned_away(provider: Provider, header: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=provider.url, trust_env=False) as http:
        answer = await http.get("/v1/refunds", headers=header)
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "invalid_request_error")
