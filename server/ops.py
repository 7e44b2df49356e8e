"""What load balancers and orchestrators ask."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from server.auth import Live
from server.outages import obstacles
from server.problems import PROBLEM_JSON, as_json, make

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    status: Literal["alive", "ready"]


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> Health:
    """Answers as long as the process can answer at all; looks at nothing else."""
    return Health(status="alive")


@router.get(
    "/readyz",
    summary="Can it serve?",
    response_model=Health,
    responses={
        503: {
            "description": "Not now (`not_ready`); `detail` says why.",
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    },
)
async def readyz(service: Live, request: Request) -> Health | JSONResponse:
    """Whether the database answers and is migrated."""
    reasons = await obstacles(service.resources.engine)
    if not reasons:
        return Health(status="ready")
    problem = make(503, "not_ready", "; ".join(reasons))
    return as_json(problem.model_copy(update={"request_id": request.state.request_id}))
