"""Executions over HTTP: find, read their story, cancel. server/starting.py starts them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from pydantic import AwareDatetime, BaseModel

from casework.execution import OVER, Event, Execution, Outcome, Status
from server.auth import Live, Reader, Starter
from server.paging import Cursor, Limit, Named, cursor_of, position_of
from server.problems import documented
from server.streaming import DOCUMENTED, PAGE, EventStream, prefers_stream, story

LARGEST_SEQ = 2**63 - 1


class ExecutionPage(BaseModel):
    executions: list[Execution]
    """Newest first."""
    next_cursor: str | None
    """Pass it as `cursor` for the next page; null: this was the last."""


class EventPage(BaseModel):
    events: list[Event]
    """In order."""
    next_after: int
    """Pass it as `after` to read on; new events of a running execution appear there."""


router = APIRouter(prefix="/executions", tags=["executions"])


@router.get("", summary="List executions", responses=documented())
async def list_executions(
    service: Live,
    actor: Reader,
    status: Annotated[Status | None, Query(description="Only those that stand so.")] = None,
    workflow: Annotated[Named, Query(description="Only those of this workflow.")] = None,
    requester: Annotated[Named, Query(description="Only those that this actor started.")] = None,
    specialist: Annotated[Named, Query(description="Only those that this specialist worked last.")] = None,
    customer: Annotated[Named, Query(description="Only those about this `customer_id`.")] = None,
    outcome: Annotated[Outcome | None, Query(description="Only those that ended so, and through whom.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Only those started then or later.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Only those started before.")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> ExecutionPage:
    """Newest first, in pages."""
    found = await service.store.page(
        actor.tenant,
        limit=limit + 1,
        before=position_of(cursor),
        status=status,
        workflow=workflow,
        requester=requester,
        specialist=specialist,
        customer=customer,
        outcome=outcome,
        since=since,
        until=until,
    )
    page = found[:limit]
    last = page[-1] if len(found) > limit else None
    return ExecutionPage(
        executions=page, next_cursor=cursor_of(last.created_at, last.execution_id) if last is not None else None
    )


@router.get("/{execution_id}", summary="Read one execution", responses=documented(404))
async def get_execution(service: Live, actor: Reader, execution_id: UUID) -> Execution:
    """Where it stands, what it cost, and its result once it is over."""
    return await service.store.get(actor.tenant, execution_id)


@router.get(
    "/{execution_id}/events",
    summary="Read or follow an execution's story",
    response_model=EventPage,
    responses={200: DOCUMENTED, **documented(404)},
)
async def list_events(
    service: Live,
    actor: Reader,
    execution_id: UUID,
    response: Response,
    accept: Annotated[str, Header(description="`text/event-stream`: follow it, live.")] = "application/json",
    last_event_id: Annotated[
        int | None,
        Header(alias="Last-Event-ID", ge=0, le=LARGEST_SEQ, description="What browsers send; wins over `after`."),
    ] = None,
    after: Annotated[int, Query(ge=0, le=LARGEST_SEQ, description="Only events with a higher number.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 200,
) -> EventPage | EventStream:
    """Every step, in order: what was routed, proposed, asked, decided and done.

    With `Accept: text/event-stream`: server-sent events, each with its number as `id`, from the first one above
    `after` on, live until the execution is over (`event: end`). Cut off, come again with `Last-Event-ID`: nothing is
    missed and nothing repeated. `event: token` is what a model is saying; it has no number and is not kept.
    """
    after = after if last_event_id is None else last_event_id
    if prefers_stream(accept):
        seen = await service.store.news(actor.tenant, execution_id, after=after, limit=PAGE)
        return EventStream(story(service, actor.tenant, execution_id, after, seen))
    response.headers["Vary"] = "Accept"
    events = await service.store.events(actor.tenant, execution_id, after=after, limit=limit)
    return EventPage(events=events, next_after=events[-1].seq if events else after)


@router.post(
    "/{execution_id}/cancel",
    summary="Cancel an execution",
    responses={
        200: {"description": "Cancelled. Its open approvals are superseded."},
        202: {"description": "It was running: no further effect begins, what is under way is finished and recorded."},
        **documented(404, 409),
    },
)
async def cancel_execution(service: Live, actor: Starter, execution_id: UUID, response: Response) -> Execution:
    """Stop it for good. No effect begins after the answer."""
    execution = await service.store.cancel(actor, execution_id)
    response.status_code = 200 if execution.status in OVER else 202
    return execution
