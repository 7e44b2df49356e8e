"""What tests of the API and the pages share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from server.service import Service
from tests.web import Web, open_web


@pytest_asyncio.fixture
async def web(service: Service) -> AsyncIterator[Web]:
    async with service.listener.running():
        yield await open_web(service)
