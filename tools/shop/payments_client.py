"""The payment provider, over HTTP, in the shape of Stripe's API (https://docs.stripe.com/api/refunds).

Every write carries an Idempotency-Key and is only ever repeated under that same key. How a write can end:

    answer                  the provider did it; the typed result
    ToolFailed              it did not happen: refused by the provider, or never sent
    OutcomeUnknown          it may have happened: sent, and no definite answer after every try
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from casework.errors import OutcomeUnknown, ToolFailed
from casework.faults import fault
from policies.shop.money import CURRENCY

TIMEOUT = httpx.Timeout(connect=2.0, read=6.0, write=4.0, pool=4.0)
"""Seconds per try and phase."""
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
TRY_AGAIN = frozenset({409, 429})
"""4xx that say nothing definite: the key is being worked on; too many requests."""


class Charge(BaseModel):
    """A payment, as the provider holds it. Amounts in the currency's minor unit."""

    model_config = ConfigDict(frozen=True)

    id: str
    amount: int
    amount_refunded: int
    currency: str
    """Lower case, as Stripe writes it."""
    status: str
    metadata: dict[str, str]


class ProviderRefund(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str
    charge: str
    amount: int
    """In the currency's minor unit."""
    currency: str
    status: Literal["pending", "requires_action", "succeeded", "failed", "canceled"]
    metadata: dict[str, str]


class RefundPage(BaseModel):
    data: list[ProviderRefund]
    """Newest first."""
    has_more: bool


class _ErrorDetail(BaseModel):
    type: str
    code: str | None = None
    message: str = "no reason given"


class _ErrorBody(BaseModel):
    error: _ErrorDetail


@dataclass(frozen=True)
class Patience:
    """How long to keep trying one call."""

    tries: int = 4
    """At most this many requests; at least 1."""
    total_s: float = 20.0
    """All tries and waits together; below the tool's own time limit."""
    first_wait_s: float = 0.2
    """Doubled after each try, and shortened by up to half at random, so that workers do not retry in step."""
    longest_wait_s: float = 3.0


@dataclass(frozen=True)
class _Refused:
    """The provider's definite no."""

    status: int
    error: _ErrorDetail

    def is_final(self, may_have_happened: bool) -> bool:
        """Whether nothing was done under this key, given what became of earlier tries.

        The provider answers a key it knows with that key's first answer, so a refusal usually speaks for every try.
        Not when the request was turned away before its key was looked at, nor when the key is another request's.
        """
        if self.error.type == "idempotency_error":
            return False
        return not may_have_happened or self.status not in (401, 403)


@dataclass(frozen=True)
class _Miss:
    """A try without a definite answer."""

    problem: str
    may_have_happened: bool
    wait_s: float = 0.0
    """How long the provider asked us to wait, in seconds."""


Answer = TypeVar("Answer", bound=BaseModel)


class PaymentsClient:
    """One connection pool to the payment provider; open it with `async with`."""

    def __init__(
        self,
        base_url: str,
        secret_key: str,
        *,
        patience: Patience | None = None,
        timeout: httpx.Timeout = TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._patience = patience or Patience()
        self._http = httpx.AsyncClient(
            base_url=base_url,
            headers={"Authorization": f"Bearer {secret_key}"},
            timeout=timeout,
            transport=transport,
            # A proxy from the environment must not come between us and money.
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, traceback)

    async def create_charge(
        self, *, amount_minor: int, source: str, description: str, metadata: Mapping[str, str], idempotency_key: str
    ) -> Charge:
        """Take money. `source` is a card token, e.g. `tok_visa`."""
        form = {"amount": str(amount_minor), "currency": CURRENCY.lower(), "source": source, "description": description}
        return await self._write(Charge, "/v1/charges", form | _nested(metadata), idempotency_key)

    async def get_charge(self, charge_id: str) -> Charge:
        return await self._read(Charge, f"/v1/charges/{charge_id}", {})

    async def create_refund(
        self, *, charge_id: str, amount_minor: int, metadata: Mapping[str, str], idempotency_key: str
    ) -> ProviderRefund:
        """Pay back part or all of one charge."""
        form = {"charge": charge_id, "amount": str(amount_minor)}
        return await self._write(ProviderRefund, "/v1/refunds", form | _nested(metadata), idempotency_key)

    async def list_refunds(self, charge_id: str) -> list[ProviderRefund]:
        """All refunds of one charge (the provider's first hundred), newest first."""
        page = await self._read(RefundPage, "/v1/refunds", {"charge": charge_id, "limit": "100"})
        return page.data

    async def _write(self, kind: type[Answer], path: str, form: Mapping[str, str], key: str) -> Answer:
        request = self._http.build_request("POST", path, data=form, headers={"Idempotency-Key": key})
        outcome, may_have_happened = await self._insist(kind, request)
        match outcome:
            case _Refused() if outcome.is_final(may_have_happened):
                raise ToolFailed(f"the payment provider refused: {outcome.error.message}")
            case _Refused():
                raise OutcomeUnknown(f"this key was used before, and now refused: {outcome.error.message}")
            case _Miss() if may_have_happened:
                raise OutcomeUnknown(f"the payment provider gave no definite answer: {outcome.problem}")
            case _Miss():
                raise ToolFailed(f"the payment provider took no request, and nothing was sent: {outcome.problem}")
        return outcome

    async def _read(self, kind: type[Answer], path: str, query: Mapping[str, str]) -> Answer:
        outcome, _ = await self._insist(kind, self._http.build_request("GET", path, params=query))
        if isinstance(outcome, _Refused):
            raise ToolFailed(f"the payment provider refused: {outcome.error.message}")
        if isinstance(outcome, _Miss):
            raise ToolFailed(f"the payment provider did not answer: {outcome.problem}")
        return outcome

    async def _insist(self, kind: type[Answer], request: httpx.Request) -> tuple[Answer | _Refused | _Miss, bool]:
        """Try until there is a definite answer or patience ends; and whether any miss may have been carried out."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._patience.total_s
        may_have_happened = False
        for attempt in range(self._patience.tries):
            outcome = await self._try_once(kind, request, deadline)
            if not isinstance(outcome, _Miss):
                break
            may_have_happened |= outcome.may_have_happened
            wait_s = max(outcome.wait_s, self._backoff_s(attempt))
            if attempt + 1 == self._patience.tries or clock() + wait_s >= deadline:
                break
            await asyncio.sleep(wait_s)
        return outcome, may_have_happened

    async def _try_once(self, kind: type[Answer], request: httpx.Request, deadline: float) -> Answer | _Refused | _Miss:
        try:
            async with asyncio.timeout_at(deadline):
                await fault("before_send")
                response = await self._http.send(request)
                await fault("after_answer")
        except NEVER_SENT as error:
            return _Miss(_words(error), may_have_happened=False)
        except (httpx.TransportError, TimeoutError) as error:
            return _Miss(_words(error), may_have_happened=True)
        return _judge(kind, response)

    def _backoff_s(self, attempt: int) -> float:
        longest = min(self._patience.longest_wait_s, self._patience.first_wait_s * 2.0**attempt)
        return longest * random.uniform(0.5, 1.0)


def _judge(kind: type[Answer], response: httpx.Response) -> Answer | _Refused | _Miss:
    status = response.status_code
    try:
        if response.is_success:
            return kind.model_validate_json(response.content)
        if status < 500 and status not in TRY_AGAIN:
            return _Refused(status, _ErrorBody.model_validate_json(response.content).error)
    except ValidationError:
        return _Miss(f"HTTP {status} with a body that is not the provider's", may_have_happened=True)
    return _Miss(f"HTTP {status}", may_have_happened=status != 429, wait_s=_retry_after_s(response))


def _retry_after_s(response: httpx.Response) -> float:
    asked = response.headers.get("Retry-After", "")
    return float(asked) if asked.isdecimal() else 0.0


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _nested(metadata: Mapping[str, str]) -> dict[str, str]:
    return {f"metadata[{name}]": value for name, value in metadata.items()}
