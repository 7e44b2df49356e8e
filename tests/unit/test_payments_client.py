"""How a payment call ends, for every way a provider and a network can answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
import pytest

from casework.errors import CaseworkError, OutcomeUnknown, ToolFailed
from tools.shop.payments_client import Patience, PaymentsClient, ProviderRefund

AT_ONCE = Patience(tries=3, total_s=5.0, first_wait_s=0.0)

REFUND = {
    "id": "re_1",
    "object": "refund",
    "charge": "ch_1",
    "amount": 3490,
    "currency": "eur",
    "status": "succeeded",
    "metadata": {"order_id": "O-5042"},
}
REFUSED = httpx.ConnectError("connection refused")
TIMED_OUT = httpx.ReadTimeout("no answer")
CUT_OFF = httpx.RemoteProtocolError("peer closed connection")


def fine() -> httpx.Response:
    return httpx.Response(200, json=REFUND)


def error(status: int, message: str = "no", kind: str = "invalid_request_error") -> httpx.Response:
    return httpx.Response(status, json={"error": {"type": kind, "message": message}})


class ScriptedProvider(httpx.AsyncBaseTransport):
    """Answers each request with the next line of its script, and the last line from then on."""

    def __init__(self, script: Sequence[httpx.Response | Exception]) -> None:
        self.script = list(script)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


async def refund(provider: httpx.AsyncBaseTransport, patience: Patience = AT_ONCE) -> ProviderRefund:
    async with PaymentsClient("http://payments", "sk_test_1", patience=patience, transport=provider) as client:
        return await client.create_refund(
            charge_id="ch_1", amount_minor=3490, metadata={"order_id": "O-5042"}, idempotency_key="e:1"
        )


async def test_a_refund_is_one_form_post_with_key_and_metadata() -> None:
    provider = ScriptedProvider([fine()])
    assert await refund(provider) == ProviderRefund.model_validate(REFUND)
    [request] = provider.requests
    assert (request.method, request.url.path) == ("POST", "/v1/refunds")
    assert request.headers["Authorization"] == "Bearer sk_test_1"
    assert request.headers["Idempotency-Key"] == "e:1"
    assert request.content == b"charge=ch_1&amount=3490&metadata%5Border_id%5D=O-5042"


@pytest.mark.parametrize("trouble", [REFUSED, TIMED_OUT, CUT_OFF, error(409), error(429), error(500), error(503)])
async def test_passing_trouble_is_tried_again_under_the_same_key(trouble: httpx.Response | Exception) -> None:
    provider = ScriptedProvider([trouble, trouble, fine()])
    assert (await refund(provider)).id == "re_1"
    assert {(r.headers["Idempotency-Key"], r.content) for r in provider.requests} == {
        ("e:1", provider.requests[0].content)
    }
    assert len(provider.requests) == 3


@pytest.mark.parametrize(
    ("script", "end", "tries"),
    [
        # It certainly did not happen.
        ([error(402, "Your card was declined.", "card_error")], ToolFailed, 1),
        ([error(400)], ToolFailed, 1),
        ([error(401)], ToolFailed, 1),
        ([error(404)], ToolFailed, 1),
        ([REFUSED], ToolFailed, 3),
        ([httpx.ConnectTimeout("")], ToolFailed, 3),
        ([error(429)], ToolFailed, 3),
        ([REFUSED, error(429), REFUSED], ToolFailed, 3),
        # The refusal is the key's first answer, so it speaks for the try that timed out, too.
        ([TIMED_OUT, error(400)], ToolFailed, 2),
        # Nobody knows.
        ([TIMED_OUT], OutcomeUnknown, 3),
        ([CUT_OFF], OutcomeUnknown, 3),
        ([httpx.WriteError("broken pipe")], OutcomeUnknown, 3),
        ([error(500)], OutcomeUnknown, 3),
        ([error(409)], OutcomeUnknown, 3),
        ([httpx.Response(200, content=b'{"id": "re_')], OutcomeUnknown, 3),
        ([httpx.Response(404, content=b"<html>some proxy</html>")], OutcomeUnknown, 3),
        ([TIMED_OUT, REFUSED], OutcomeUnknown, 3),
        ([error(500), error(429)], OutcomeUnknown, 3),
        # Turned away at the door: says nothing about the try before.
        ([TIMED_OUT, error(401)], OutcomeUnknown, 2),
        # Another request was carried out under this key.
        ([error(400, kind="idempotency_error")], OutcomeUnknown, 1),
    ],
)
async def test_only_a_refund_that_certainly_did_not_happen_has_failed(
    script: list[httpx.Response | Exception], end: type[CaseworkError], tries: int
) -> None:
    provider = ScriptedProvider(script)
    with pytest.raises(end):
        await refund(provider)
    assert len(provider.requests) == tries


async def test_a_refusal_is_passed_on_in_the_providers_words() -> None:
    with pytest.raises(ToolFailed, match=r"refused: Charge ch_1 has already been refunded\."):
        await refund(ScriptedProvider([error(400, "Charge ch_1 has already been refunded.")]))


async def test_a_provider_that_never_took_a_connection_was_sent_nothing() -> None:
    with pytest.raises(ToolFailed, match="nothing was sent: ConnectError: connection refused"):
        await refund(ScriptedProvider([REFUSED]))


async def test_patience_ends_in_the_middle_of_a_try() -> None:
    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(60)
            raise AssertionError("nobody waits that long")

    with pytest.raises(OutcomeUnknown, match="TimeoutError"):
        await refund(Silent(), Patience(tries=3, total_s=0.05))


async def test_a_wait_longer_than_patience_is_not_begun() -> None:
    provider = ScriptedProvider([httpx.Response(429, headers={"Retry-After": "60"})])
    with pytest.raises(ToolFailed, match="nothing was sent: HTTP 429"):
        await refund(provider, Patience(tries=3, total_s=1.0, first_wait_s=0.0))
    assert len(provider.requests) == 1


@pytest.mark.parametrize("trouble", [REFUSED, TIMED_OUT, error(500), error(404)])
async def test_a_read_that_fails_has_changed_nothing(trouble: httpx.Response | Exception) -> None:
    async with PaymentsClient(
        "http://payments", "sk_test_1", patience=AT_ONCE, transport=ScriptedProvider([trouble])
    ) as client:
        with pytest.raises(ToolFailed):
            await client.get_charge("ch_1")
