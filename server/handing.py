"""Cases with people, over HTTP: take over, assign, solve by hand, hand back to the agents."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from casework.actor import Actor
from casework.errors import InputInvalid, TakesNoMessages
from casework.execution import Execution
from casework.handing import Owned
from policies.content import clean
from server.auth import Decider, Live, Reader
from server.messages import takes_messages
from server.paging import Cursor, Limit, cursor_of, position_of
from server.problems import documented
from server.service import Service
from server.storable import refuse_unstorable

router = APIRouter(tags=["handed to people"])

Words = Annotated[str, Field(min_length=3, max_length=4000)]


class TakeOver(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Annotated[Words, Field(description="Why, for the case's story.", examples=["I know this customer."])]


class Solve(BaseModel):
    model_config = ConfigDict(extra="forbid")

    note: Annotated[Words, Field(description="How it was solved.", examples=["Called her; a new vase is on its way."])]


class HandBack(BaseModel):
    model_config = ConfigDict(extra="forbid")

    instruction: Annotated[
        Words, Field(description="What the agents shall do now.", examples=["Refund O-5042 in full and tell her so."])
    ]


class HandedPage(BaseModel):
    executions: list[Execution]
    """The oldest first."""
    next_cursor: str | None
    """Pass it as `cursor` for the next page; null: this was the last."""


@router.get("/handed", summary="List cases with people", responses=documented())
async def list_handed(
    service: Live,
    actor: Reader,
    owned: Annotated[Owned | None, Query(description="`mine`, or `nobodys`: not taken yet.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> HandedPage:
    """Cases that were escalated or taken over, and that no person has solved or handed back yet."""
    found = await service.handing.page(actor, limit=limit + 1, after=position_of(cursor), owned=owned)
    last = found[limit - 1] if len(found) > limit else None
    following = cursor_of(last.created_at, last.execution_id) if last is not None else None
    return HandedPage(executions=found[:limit], next_cursor=following)


@router.post("/executions/{execution_id}/take-over", summary="Take a case over", responses=documented(404, 409))
async def take_over_execution(service: Live, actor: Decider, execution_id: UUID, asked: TakeOver) -> Execution:
    """Take a case from its agents. It is `escalated`, and yours; nothing the agents still wanted is done.

    Refused while a call is under way or in doubt (`call_under_way`): say what became of it first.
    """
    return await service.handing.take_over(actor, execution_id, checked(asked.reason, "reason"))


@router.post("/executions/{execution_id}/assign", summary="Assign a case to yourself", responses=documented(404, 409))
async def assign_execution(service: Live, actor: Decider, execution_id: UUID) -> Execution:
    """Become the owner of a case that people have, whoever had it before."""
    return await service.handing.assign(actor, execution_id)


@router.post("/executions/{execution_id}/solve", summary="Solve a case by hand", responses=documented(404, 409))
async def solve_execution(service: Live, actor: Decider, execution_id: UUID, asked: Solve) -> Execution:
    """End a case that you solved yourself. It is `succeeded`, with `solved_by`."""
    return await service.handing.solve(actor, execution_id, checked(asked.note, "note"))


@router.post(
    "/executions/{execution_id}/hand-back", summary="Hand a case back to the agents", responses=documented(404, 409)
)
async def hand_back_execution(service: Live, actor: Decider, execution_id: UUID, asked: HandBack) -> Execution:
    """The agents go on by your instruction, within their tools, policies and approvals. A new run starts."""
    return await hand_back(service, actor, execution_id, asked.instruction)


async def hand_back(service: Service, actor: Actor, execution_id: UUID, instruction: str) -> Execution:
    """For the API and the page. Raises InputInvalid, TakesNoMessages, and what Handing.hand_back raises."""
    words = checked(instruction, "instruction")
    execution = await service.store.get(actor.tenant, execution_id)
    if not takes_messages(service, execution):
        raise TakesNoMessages(f"workflow {execution.workflow} takes no instructions: solve the case by hand")
    return await service.handing.hand_back(actor, execution_id, words)


def checked(text: str, field: str) -> str:
    """What a person wrote, as it is kept. Raises InputInvalid."""
    refuse_unstorable(text, field)
    if len(clean(text).strip()) < 3:
        raise InputInvalid(f"{field}: write a few words", field=field)
    if len(text) > 4000:
        raise InputInvalid(f"{field}: at most 4,000 characters", field=field)
    return text.strip()
