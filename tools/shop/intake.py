"""How a support case comes in."""

from __future__ import annotations

from typing import Annotated, TypedDict

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from casework.errors import NotFound
from tools.shop.tables import tickets


class SupportIntake(BaseModel):
    """What the support workflow is started with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ticket_id: Annotated[str, Field(pattern=r"^T-\d+$", description="The ticket to resolve.", examples=["T-1042"])]
    user_id: Annotated[
        str,
        Field(
            pattern=r"^C-\d+$",
            description="The customer who wrote it, as your system authenticated them.",
            examples=["C-1042"],
        ),
    ]


class OpenedCase(TypedDict):
    goal: str
    """What must be reached, in a few words."""
    case: dict[str, str]
    """Ids no model can change: customer_id, ticket_id."""
    request: str
    """The ticket's own words, subject first. Written by an outsider."""


async def open_ticket(intake: SupportIntake, db: AsyncConnection) -> OpenedCase:
    """Bind the case to its ticket and customer. Raises NotFound, alike for a missing and for somebody else's ticket."""
    found = await db.execute(
        select(tickets.c.subject, tickets.c.body).where(
            tickets.c.ticket_id == intake.ticket_id, tickets.c.customer_id == intake.user_id
        )
    )
    ticket = found.one_or_none()
    if ticket is None:
        raise NotFound(f"customer {intake.user_id} has no ticket {intake.ticket_id}")
    return OpenedCase(
        goal=f"resolve ticket {intake.ticket_id}",
        case={"customer_id": intake.user_id, "ticket_id": intake.ticket_id},
        request=f"{ticket.subject}\n\n{ticket.body}",
    )
