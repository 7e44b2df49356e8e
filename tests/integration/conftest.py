"""What tests of the API and the pages share."""

from __future__ import annotations

import pytest_asyncio

from server.service import Service
from tests.web import Web, open_web


@pytest_asyncio.fixture
async def web(service: Service) -> Web:
    return await open_web(service)
