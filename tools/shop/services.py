"""What the shop's tools need open while executions run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tools.shop.payments_client import PaymentsClient


@asynccontextmanager
async def shop_services(payments_url: str, payments_key: str) -> AsyncIterator[Mapping[type[Any], Any]]:
    """Open them once per process; tools get at them by type through `ToolContext.service`."""
    async with PaymentsClient(payments_url, payments_key) as payments:
        yield {PaymentsClient: payments}
