"""The routes that start executions: made from the catalog, so that each is typed by its workflow's own intake."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field, create_model

from casework.actor import Actor
from casework.errors import NotFound
from casework.execution import Execution, Mode, Status
from casework.listening import Ear
from graphs.catalog import Catalog, Entry
from graphs.intake import mode_of, open_case
from server.auth import Live, Starter
from server.problems import documented
from server.service import Service
from server.storable import refuse_unstorable
from server.waiting import MOVING, preferred_wait, settled

Handler = Callable[..., Awaitable[Any]]

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x20-\x7e]{1,200}$",
        description="1 to 200 printable ASCII characters. The same key with the same request answers with what the "
        "first one brought (200), and nothing happens twice.",
        examples=["order-5042-complaint-1"],
    ),
]


@dataclass(frozen=True)
class Beginning:
    """Everything about the request that matters besides the workflow and its input."""

    request: Request
    response: Response
    service: Service
    actor: Actor
    wait: int | None
    """Seconds the caller would wait for it to come to rest; None: answer at once."""
    idempotency_key: str | None

    async def __call__(
        self, workflow: str, input_: Mapping[str, Any], field: str, mode: Mode | None = None
    ) -> Execution:
        """Start it, wait as preferred, and set the answer's status and headers. `field`: where the input stood.

        Raises what graphs.intake and Store.create raise.
        """
        refuse_unstorable(dict(input_), field)
        service = self.service
        entry = service.catalog.get(workflow)
        opened = await open_case(entry, service.resources, input_)
        execution_id = uuid4()
        with service.listener.attend(execution_id) as ear:
            execution, new = await service.store.create(
                self.actor,
                workflow,
                entry.version,
                mode_of(entry, service.resources.settings, mode),
                opened,
                self.idempotency_key,
                execution_id,
            )
            if new:
                execution = await self._settled(execution, ear)
        if not new:
            with service.listener.attend(execution.execution_id) as ear:
                execution = await self._settled(await service.store.get(execution.tenant, execution.execution_id), ear)
        self.response.headers["Location"] = f"/executions/{execution.execution_id}"
        self.response.status_code = _status(execution, new)
        return execution

    async def _settled(self, execution: Execution, ear: Ear) -> Execution:
        """Once it came to rest, if the caller would wait for that."""
        if self.wait is None:
            return execution
        self.response.headers["Preference-Applied"] = f"wait={self.wait}"
        return await settled(self.service, execution, ear, self.wait, self.request.is_disconnected)


async def beginning(
    request: Request,
    response: Response,
    service: Live,
    actor: Starter,
    wait: Annotated[int | None, Depends(preferred_wait)],
    idempotency_key: IdempotencyKey = None,
) -> Beginning:
    """The dependency that gathers it. `async`: FastAPI would make a class's instance in a thread."""
    return Beginning(request, response, service, actor, wait, idempotency_key)


Begin = Annotated[Beginning, Depends(beginning)]


def _status(execution: Execution, new: bool) -> int:
    if not new:
        return 200
    return 202 if execution.status in MOVING else 201


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
    """Two routes per workflow, typed by its intake."""
    routes = APIRouter(tags=["executions"])
    for entry in catalog:
        _add_starting(routes, entry)
    routes.add_api_route("/workflows/{workflow}/{way}", _no_such_way, methods=["POST"], include_in_schema=False)
    return routes


async def _no_such_way(service: Live, actor: Starter, workflow: str, way: str) -> None:
    """After the real ones: says which workflows there are, instead of only that the path is wrong."""
    service.catalog.get(workflow)
    raise NotFound(f"workflow {workflow} has no {way!r}; post to /workflows/{workflow}/executions")


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
    """The request body: `{"input": …, "mode": …}` with the workflow's intake; a foreign graph takes any object."""
    intake: Any = entry.workflow.intake if entry.workflow is not None else dict[str, Any]
    name = "New" + "".join(part.capitalize() for part in entry.name.replace("-", "_").split("_")) + "Execution"
    field = Field(description="What the case is about.")
    mode = Field(None, description="`copilot` to have every write ask, whatever the workflow's own mode.")
    return create_model(name, __config__=ConfigDict(extra="forbid"), input=(intake, field), mode=(Mode | None, mode))


def _create(entry: Entry) -> Handler:
    async def create(body: Any, begin: Begin) -> Execution:
        return await begin(entry.name, body.model_dump(mode="json")["input"], "input", body.mode)

    return create


def _resolve(entry: Entry) -> Handler:
    async def resolve(body: Any, begin: Begin) -> Resolved:
        execution = await begin(entry.name, body.model_dump(mode="json"), "")
        return Resolved(execution_id=execution.execution_id, status=execution.status, resolution=_resolution(execution))

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
