"""The list of all cases, filtered as the API's is, in keyset pages."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel

from casework.actor import Actor
from casework.execution import Outcome, Status
from server.auth import Live, Person
from server.paging import Cursor, cursor_of, position_of
from server.service import Service
from server.ui.rendering import render
from server.ui.shell import page

router = APIRouter(prefix="/desk/cases", include_in_schema=False)

SHOWN = 40
Typed = Annotated[str, Query(max_length=200)]


class Age(StrEnum):
    """When a case was started."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    OVER_DAY = "over_day"
    OVER_WEEK = "over_week"


AGES: dict[Age, tuple[str, timedelta, bool]] = {
    Age.DAY: ("in the last 24 hours", timedelta(days=1), True),
    Age.WEEK: ("in the last 7 days", timedelta(days=7), True),
    Age.MONTH: ("in the last 30 days", timedelta(days=30), True),
    Age.OVER_DAY: ("more than a day ago", timedelta(days=1), False),
    Age.OVER_WEEK: ("more than a week ago", timedelta(days=7), False),
}
"""Words, how long ago, and whether since then or before."""

OUTCOME_WORDS = {
    Outcome.BY_AGENTS: "resolved by agents",
    Outcome.BY_A_PERSON: "solved by a person",
    Outcome.WITH_PEOPLE: "with people",
    Outcome.FAILED: "failed",
    Outcome.CANCELLED: "cancelled",
}


class CaseFilter(BaseModel):
    status: Status | None = None
    outcome: Outcome | None = None
    age: Age | None = None
    workflow: str = ""
    specialist: str = ""
    customer: str = ""

    @property
    def narrows(self) -> bool:
        return any(self.model_dump().values())

    def address(self, **other: Any) -> str:
        """The query of this filter, with these changed."""
        values = {**self.model_dump(mode="json"), **other}
        return urlencode({name: value for name, value in values.items() if value})

    def wanted(self, now: datetime) -> dict[str, Any]:
        """For Store.page."""
        _words, ago, since = AGES.get(self.age or Age.DAY, ("", timedelta(), True))
        bound = {("since" if since else "until"): now - ago} if self.age else {}
        named = {name: getattr(self, name).strip() or None for name in ("workflow", "specialist", "customer")}
        return {"status": self.status, "outcome": self.outcome, **named, **bound}


def _filter(
    status: Annotated[Status | None, Query()] = None,
    outcome: Annotated[Outcome | None, Query()] = None,
    age: Annotated[Age | None, Query()] = None,
    workflow: Typed = "",
    specialist: Typed = "",
    customer: Typed = "",
) -> CaseFilter:
    named = {"workflow": workflow, "specialist": specialist, "customer": customer}
    clean = {name: value.replace("\x00", "") for name, value in named.items()}
    return CaseFilter(status=status, outcome=outcome, age=age, **clean)


Asked = Annotated[CaseFilter, Depends(_filter)]


@router.get("")
async def cases(service: Live, actor: Person, asked: Asked, cursor: Cursor = None) -> Response:
    specialists = {
        specialist.name
        for entry in service.catalog
        if entry.workflow is not None
        for specialist in entry.workflow.specialists
    }
    return await page(
        service,
        actor,
        "cases.html",
        here="cases",
        **await _listed(service, actor, asked, cursor),
        statuses=list(Status),
        outcomes=OUTCOME_WORDS,
        ages={age: words for age, (words, _, _) in AGES.items()},
        workflows=[entry.name for entry in service.catalog],
        specialists=sorted(specialists),
    )


@router.get("/rows")
async def rows(service: Live, actor: Person, asked: Asked, cursor: Cursor = None) -> Response:
    """The list alone, asked for every few seconds while it is looked at."""
    view = await _listed(service, actor, asked, cursor)
    return render("cases_rows.html", **view, now=service.resources.clock())


async def _listed(service: Service, actor: Actor, asked: CaseFilter, cursor: str | None) -> dict[str, Any]:
    wanted = asked.wanted(service.resources.clock())
    found = await service.store.page(actor.tenant, limit=SHOWN + 1, before=position_of(cursor), **wanted)
    last = found[SHOWN - 1] if len(found) > SHOWN else None
    return {
        "asked": asked,
        "cases": found[:SHOWN],
        "cursor": cursor,
        "next_cursor": cursor_of(last.created_at, last.execution_id) if last is not None else None,
        "first_workflow": next((entry.name for entry in service.catalog), None),
    }
