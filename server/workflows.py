"""The workflows this process runs, described for people and programs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel

from casework.execution import Mode
from graphs.catalog import Entry
from nodes.workflow import Specialist
from server.auth import Live, Reader
from server.problems import documented
from tools.spec import Effect

router = APIRouter(prefix="/workflows", tags=["workflows"])


class WorkflowSummary(BaseModel):
    name: str
    description: str
    owner: str | None
    """Who answers for it; null for a graph that was not built by Casework's assembly."""
    mode: Mode
    """How far agents go alone in a new execution."""
    version: str
    """Changes when a node or an edge does."""


class ToolView(BaseModel):
    name: str
    description: str
    effect: Effect
    """What a call does to the world."""
    permission: str
    """What a specialist must hold to call it."""


class SpecialistView(BaseModel):
    name: str
    description: str
    tools: list[ToolView]


class WorkflowView(WorkflowSummary):
    specialists: list[SpecialistView]
    graph: str
    """The graph as a Mermaid flowchart."""
    input_schema: dict[str, Any]
    """JSON Schema of what an execution is started with."""


@router.get("", summary="List workflows", responses=documented())
async def list_workflows(service: Live, actor: Reader) -> list[WorkflowSummary]:
    """Every workflow that can be started here."""
    return [WorkflowSummary(**_summary(service, entry)) for entry in service.catalog]


@router.get("/{workflow}", summary="Read one workflow", responses=documented(404))
async def get_workflow(
    service: Live, actor: Reader, workflow: Annotated[str, Path(examples=["support"])]
) -> WorkflowView:
    """Its specialists with their tools, its graph, and what it is started with."""
    entry = service.catalog.get(workflow)
    ours = entry.workflow
    return WorkflowView(
        **_summary(service, entry),
        specialists=[_specialist(s) for s in ours.specialists] if ours is not None else [],
        graph=entry.mermaid(),
        input_schema=ours.intake.model_json_schema() if ours is not None else {"type": "object"},
    )


def _summary(service: Live, entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "description": entry.description,
        "owner": entry.workflow.owner if entry.workflow is not None else None,
        "mode": service.resources.settings.mode(entry.name),
        "version": entry.version,
    }


def _specialist(specialist: Specialist) -> SpecialistView:
    tools = [
        ToolView(name=t.name, description=t.description, effect=t.effect, permission=t.permission)
        for t in specialist.tools
    ]
    return SpecialistView(name=specialist.name, description=specialist.description, tools=tools)
