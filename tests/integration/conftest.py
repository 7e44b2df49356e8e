"""What tests of the API and the pages share, and those of the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest_asyncio

from casework.execution import Mode
from casework.settings import Settings
from server.service import Service
from tests.outside import Desk
from tests.rig import OLGA, rig
from tests.web import Web, open_web
from tools.scope import Scope


@pytest_asyncio.fixture
async def web(service: Service) -> AsyncIterator[Web]:
    async with service.listener.running():
        yield await open_web(service)


@pytest_asyncio.fixture
async def desk(settings: Settings, database_url: str) -> AsyncIterator[Desk]:
    async with rig(settings, database_url, None) as case:
        execution_id = await case.start("T-1042")
        leg = await case.legs.claim(execution_id, "tester", timedelta(seconds=60))
        assert leg is not None
        yield Desk(case, Scope(execution_id, OLGA, leg.fence, Mode.AUTONOMOUS, case.resources))
