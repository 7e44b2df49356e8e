"""The desk's first page: what waits for me, by deadline, with the question itself beside the list."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response
from pydantic import BaseModel

from casework.actor import Actor
from casework.approval import Approval
from casework.inbox import Wanted
from casework.rights import barred, barred_from_yes
from server.auth import Live, Person
from server.service import Service
from server.ui.cards import Card, card_of
from server.ui.rendering import render
from server.ui.shell import page

router = APIRouter(include_in_schema=False)

SHOWN = 100
"""The soonest deadlines; the page says when there are more."""
Typed = Annotated[str, Query(max_length=200)]


class Whose(StrEnum):
    MINE = "mine"
    OTHERS = "others"
    ALL = "all"


class Filter(BaseModel):
    """The inbox's address: what is typed, read leniently, because people edit addresses by hand."""

    whose: Whose = Whose.MINE
    q: str = ""
    workflow: str = ""
    tool: str = ""
    at_least: str = ""
    at_most: str = ""

    @property
    def narrows(self) -> bool:
        return any((self.q, self.workflow, self.tool, self.at_least, self.at_most))

    @property
    def folded(self) -> bool:
        """Whether one of those is used that are folded away."""
        return any((self.workflow, self.tool, self.at_least, self.at_most))

    def address(self, **other: str) -> str:
        """The query of this filter, with these changed."""
        values = {**self.model_dump(mode="json"), **other}
        return urlencode({name: value for name, value in values.items() if value and value != Whose.MINE})

    def wanted(self) -> Wanted:
        return Wanted(
            workflow=self.workflow or None,
            tool=self.tool or None,
            at_least_minor=_minor(self.at_least),
            at_most_minor=_minor(self.at_most),
            text=self.q.strip() or None,
            mine={Whose.MINE: True, Whose.OTHERS: False, Whose.ALL: None}[self.whose],
        )


def _filter(
    whose: Whose = Whose.MINE,
    q: Typed = "",
    workflow: Typed = "",
    tool: Typed = "",
    at_least: Typed = "",
    at_most: Typed = "",
) -> Filter:
    clean = {"q": q, "workflow": workflow, "tool": tool, "at_least": at_least, "at_most": at_most}
    return Filter(whose=whose, **{name: value.replace("\x00", "") for name, value in clean.items()})


Asked = Annotated[Filter, Depends(_filter)]


@router.get("/")
async def inbox(service: Live, actor: Person, asked: Asked, approval: UUID | None = None) -> Response:
    """`approval`: the question to show beside the list; the first one when it is not named."""
    return await inbox_page(service, actor, asked, chosen=approval)


@router.get("/desk/inbox")
async def inbox_list(service: Live, actor: Person, asked: Asked) -> Response:
    """The list alone, asked for when it changed."""
    return render("inbox_list.html", **await _listed(service, actor, asked), now=service.resources.clock())


async def inbox_page(
    service: Service,
    actor: Actor,
    asked: Filter | None = None,
    *,
    chosen: UUID | None = None,
    results: Sequence[Any] = (),
) -> Response:
    """The whole page. `results`: what came of answers that were just given together."""
    view = await _listed(service, actor, asked or Filter())
    del view["chosen"]
    found: list[Approval] = [approval for approval, _ in view["listed"]]
    first = next((a for a in found if a.approval_id == chosen), found[0] if found else None)
    return await page(
        service,
        actor,
        "inbox.html",
        here="inbox",
        **view,
        card=await _beside(service, actor, first) if first is not None else None,
        chosen=first.approval_id if first is not None else None,
        results=results,
        tools=await service.inbox.tools(actor.tenant),
        workflows=[entry.name for entry in service.catalog],
        cases=await service.store.page(actor.tenant, limit=1),
    )


async def _listed(service: Service, actor: Actor, asked: Filter) -> dict[str, Any]:
    found = await service.inbox.page(actor, asked.wanted(), SHOWN + 1)
    others: list[Approval] = []
    if asked.whose is Whose.MINE and not asked.narrows:
        others = await service.inbox.page(actor, Wanted(mine=False), SHOWN)
    return {
        "asked": asked,
        "listed": [(a, why_not(actor, a)) for a in found[:SHOWN]],
        "more": len(found) > SHOWN,
        "others": [(a, why_not(actor, a)) for a in others],
        "chosen": None,
    }


async def _beside(service: Service, actor: Actor, approval: Approval) -> Card:
    execution = await service.store.get(actor.tenant, approval.execution_id)
    return await card_of(service, actor, approval, execution)


def why_not(actor: Actor, approval: Approval) -> str | None:
    """Why this person has nothing to decide here; None when it waits for them."""
    bar = barred(actor, approval)
    if bar is not None:
        return bar
    if actor.actor_id in approval.votes:
        return f"you have approved it; {approval.votes_needed - len(approval.votes)} more must agree"
    return barred_from_yes(actor, approval)


def _minor(typed: str) -> int | None:
    """`49.90` → 4990; None for what is no amount."""
    try:
        amount = Decimal(typed.replace(",", ".").strip())
    except InvalidOperation:
        return None
    return int(amount * 100) if amount.is_finite() and abs(amount) < 10**12 else None
