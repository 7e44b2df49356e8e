"""A first page of numbers: how the cases stand, how they ended, and how long people are waited for."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter
from fastapi.responses import Response

from casework.execution import Status
from server.auth import Live, Person
from server.ui.lists import OUTCOME_WORDS
from server.ui.shell import page

router = APIRouter(prefix="/desk/numbers", include_in_schema=False)


@router.get("")
async def numbers(service: Live, actor: Person) -> Response:
    now = service.resources.clock()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    since = {
        "today": midnight,
        "7 days": now - timedelta(days=7),
        "30 days": now - timedelta(days=30),
    }
    periods = {words: await service.numbers.period(actor.tenant, start) for words, start in since.items()}
    return await page(
        service,
        actor,
        "numbers.html",
        here="numbers",
        standing=await service.numbers.now(actor.tenant),
        periods=periods,
        outcomes=OUTCOME_WORDS,
        statuses=Status,
    )
