"""The audit log over HTTP, for auditors and admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from casework.audit import AuditLine, lines
from server.auth import Inspector, Live
from server.executions import LARGEST_SEQ
from server.problems import documented

router = APIRouter(prefix="/audit", tags=["audit"])


class AuditPage(BaseModel):
    lines: list[AuditLine]
    """Oldest first."""
    next_after: int
    """Pass it as `after` to read on; new lines appear there."""


@router.get("", summary="Read the audit log", responses=documented())
async def read_audit(
    service: Live,
    actor: Inspector,
    after: Annotated[int, Query(ge=0, le=LARGEST_SEQ, description="Only lines with a higher number.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 200,
) -> AuditPage:
    """Every decision, effect, sign-in and change of rights, in order. `casework audit verify` checks the chain."""
    found = await lines(service.resources.engine, actor.tenant, after=after, limit=limit)
    return AuditPage(lines=found, next_after=found[-1].seq if found else after)
