"""Opening the shop: its payment provider (the sandbox unless one is configured) and, for the demo, its data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine

from casework.errors import SettingsInvalid
from casework.settings import Settings
from tools.shop.payments_client import PaymentsClient
from tools.shop.sandbox_provider import SANDBOX_KEY, running_sandbox
from tools.shop.seed import create_tables, seed
from tools.shop.services import shop_services

PROBE_TIMEOUT_S = 1.0


@asynccontextmanager
async def open_shop(settings: Settings) -> AsyncIterator[Mapping[type[Any], Any]]:
    """Yield the shop's services by type. Raises SettingsInvalid for a real provider where only a sandbox may be."""
    if settings.payments_url is None:
        async with shared_sandbox(settings.data_dir) as url, shop_services(url, SANDBOX_KEY) as services:
            yield services
        return
    if settings.sandbox_only:
        raise SettingsInvalid("the Studio works on the sandbox provider only; unset CASEWORK_PAYMENTS_URL")
    async with shop_services(settings.payments_url, settings.payments_key.get_secret_value()) as services:
        yield services


@asynccontextmanager
async def shared_sandbox(data_dir: Path) -> AsyncIterator[str]:
    """The machine's one sandbox for this data folder: two on one book would not see each other's keys.

    Joins the one that another process runs, else runs it here.
    """
    address = data_dir / "payments.url"
    known = await asyncio.to_thread(_known, address)
    if known and await _answers(known):
        yield known
        return
    async with running_sandbox(data_dir / "payments.jsonl") as url:
        address.write_text(url)
        try:
            yield url
        finally:
            address.unlink(missing_ok=True)


def _known(address: Path) -> str | None:
    """The URL another process wrote down, if one did. Makes the folder."""
    address.parent.mkdir(parents=True, exist_ok=True)
    return address.read_text().strip() if address.exists() else None


async def _answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=PROBE_TIMEOUT_S) as client:
            found = await client.get(f"{url}/v1/refunds", headers={"Authorization": f"Bearer {SANDBOX_KEY}"})
    except httpx.HTTPError:
        return False
    return found.status_code < 500


async def prepare_shop(engine: AsyncEngine, services: Mapping[type[Any], Any]) -> None:
    """Create the shop's tables and fill them, once."""
    await create_tables(engine)
    await seed(engine, services[PaymentsClient], datetime.now(UTC))
