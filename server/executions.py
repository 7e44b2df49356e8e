"""Executions over HTTP: start, wait for, find, read their story, cancel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, create_model

from casework.execution import OVER, Event, Execution, Status
from graphs.catalog import Catalog, Entry
from server.auth import Live, Reader, Starter
from server.beginning import Begin
from server.paging import Cursor, Limit, Named, cursor_of, position_of
from server.problems import documented

LARGEST_SEQ = 2**63 - 1

Handler = Callable[..., Awaitable[Any]]


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


class Resolution(BaseModel):
    """How a case ended."""

    status: Literal["succeeded", "escalated"]
    reason: str
    """Why a person has it now; empty when it succeeded."""
    summary: str
    """What was done, for people."""
    answer: str
    """The agent's last words on the case."""


class Resolved(BaseModel):
    """Where a case stands, and how it ended if it did."""

    execution_id: UUID
    status: Status
    resolution: Resolution | None
    """Null while it goes on or waits for a person, and when it failed or was cancelled."""


def router(catalog: Catalog) -> APIRouter:
    """All routes about executions; those that start one are typed by each workflow's intake."""
    routes = APIRouter(tags=["executions"])
    for entry in catalog:
        _add_starting(routes, entry)
    routes.include_router(reading)
    return routes


def _add_starting(routes: APIRouter, entry: Entry) -> None:
    body = _new_execution(entry)
    routes.add_api_route(
        f"/workflows/{entry.name}/executions",
        _taking(body, _create(entry)),
        methods=["POST"],
        name=f"start_{entry.name}",
        summary=f"Start an execution of {entry.name}",
        description=f"{entry.description}\n\nAnswers 202 when it is queued. With `Prefer: wait=N` it answers 201 as "
        "soon as the execution waits for a person or is over. Safe to repeat with an `Idempotency-Key`.",
        status_code=202,
        response_model=Execution,
        responses={**_ACCEPTED, **documented(404, 409, 413)},
    )
    if entry.workflow is None:
        return
    routes.add_api_route(
        f"/workflows/{entry.name}/resolve",
        _taking(entry.workflow.intake, _resolve(entry)),
        methods=["POST"],
        name=f"resolve_{entry.name}",
        summary=f"Resolve a case of {entry.name}",
        description=f"{entry.description}\n\nThe same as starting an execution, in short: the bare input in, the "
        "resolution out. Send `Prefer: wait=N` to wait for it.",
        status_code=202,
        response_model=Resolved,
        responses={**_ACCEPTED, **documented(404, 409, 413)},
    )


_ACCEPTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "This Idempotency-Key was used before: the execution it started."},
    201: {"description": "Started, and by now waiting for a person or over."},
    202: {"description": "Accepted; it goes on by itself. `Location` says where to look."},
}


def _new_execution(entry: Entry) -> type[BaseModel]:
    """The request body: `{"input": …}` with the workflow's intake; a foreign graph takes any object."""
    intake: Any = entry.workflow.intake if entry.workflow is not None else dict[str, Any]
    name = "New" + "".join(part.capitalize() for part in entry.name.replace("-", "_").split("_")) + "Execution"
    field = Field(description="What the case is about.")
    return create_model(name, __config__=ConfigDict(extra="forbid"), input=(intake, field))


def _create(entry: Entry) -> Handler:
    async def create(body: Any, begin: Begin) -> Execution:
        return await begin(entry.name, body.model_dump(mode="json")["input"], "input")

    return create


def _resolve(entry: Entry) -> Handler:
    async def resolve(body: Any, begin: Begin) -> Resolved:
        execution = await begin(entry.name, body.model_dump(mode="json"), "body")
        return Resolved(
            execution_id=execution.execution_id, status=execution.status, resolution=_resolution(execution)
        )

    return resolve


def _resolution(execution: Execution) -> Resolution | None:
    result = execution.result or {}
    if execution.status not in (Status.SUCCEEDED, Status.ESCALATED) or not result.get("outcome"):
        return None
    return Resolution(**result["outcome"], answer=result.get("answer", ""))


def _taking(body: type[BaseModel], handler: Handler) -> Handler:
    """FastAPI reads a body's type from the handler's annotations; ours is known only once the catalog is loaded."""
    handler.__annotations__["body"] = body
    return handler


reading = APIRouter()


@reading.get("/executions", summary="List executions", responses=documented())
async def list_executions(
    service: Live,
    actor: Reader,
    status: Status | None = None,
    workflow: Named = None,
    requester: Named = None,
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
    )
    page = found[:limit]
    last = page[-1] if len(found) > limit else None
    return ExecutionPage(
        executions=page, next_cursor=cursor_of(last.created_at, last.execution_id) if last is not None else None
    )


@reading.get("/executions/{execution_id}", summary="Read one execution", responses=documented(404))
async def get_execution(service: Live, actor: Reader, execution_id: UUID) -> Execution:
    """Where it stands, what it cost, and its result once it is over."""
    return await service.store.get(actor.tenant, execution_id)


@reading.get("/executions/{execution_id}/events", summary="Read an execution's story", responses=documented(404))
async def list_events(
    service: Live,
    actor: Reader,
    execution_id: UUID,
    after: Annotated[int, Query(ge=0, le=LARGEST_SEQ, description="Only events with a higher number.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 200,
) -> EventPage:
    """Every step, in order: what was routed, proposed, asked, decided and done."""
    events = await service.store.events(actor.tenant, execution_id, after=after, limit=limit)
    return EventPage(events=events, next_after=events[-1].seq if events else after)


@reading.post(
    "/executions/{execution_id}/cancel",
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
