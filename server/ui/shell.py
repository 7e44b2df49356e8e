"""What every page of the desk has around it: who is signed in, where they are, and what waits for them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from casework.actor import Actor
from server.auth import Live, Person
from server.service import Service
from server.ui.rendering import render

router = APIRouter(include_in_schema=False)


async def page(
    service: Service, actor: Actor, template: str, *, here: str = "", status: int = 200, **values: Any
) -> Response:
    """A whole page. `here`: the entry of the navigation that it belongs to."""
    waiting = await service.inbox.waiting(actor)
    now = service.resources.clock()
    return render(template, status, actor=actor, waiting=waiting, here=here, now=now, **values)


@router.get("/desk/waiting")
async def waiting(service: Live, actor: Person) -> Response:
    """The counts in the navigation, asked for when they change."""
    return render("waiting.html", waiting=await service.inbox.waiting(actor))
