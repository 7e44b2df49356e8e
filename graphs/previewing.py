"""What a proposed call would change, asked of its own tool as the world stands now. Nothing is changed by asking."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from pydantic import ValidationError
from sqlalchemy import text

from casework.actor import Actor
from casework.approval import Approval, Kind
from casework.errors import GraphInvalid, ToolError
from casework.execution import Execution
from casework.resources import Resources
from casework.telemetry import logger
from graphs.catalog import Catalog
from nodes.workflow import Services
from tools.preview import Preview
from tools.scope import Scope
from tools.spec import Tool

log = logger(__name__)

PATIENCE_S = 3.0
"""A question is not kept back for its preview."""


class Previewing:
    """What the pages and the API preview calls with."""

    def __init__(self, catalog: Catalog, resources: Resources, services: Mapping[str, Services]) -> None:
        self.catalog = catalog
        self.resources = resources
        self.services = services

    async def of(self, approval: Approval, execution: Execution) -> Preview | str | None:
        """The preview; why there is none, in words; or None when the tool offers none, or nothing can be changed."""
        tool = self._tool(approval)
        if tool is None or tool.preview is None or approval.kind is not Kind.CALL or approval.tool_call_id is None:
            return None
        scope = Scope(
            execution_id=execution.execution_id,
            actor=Actor(actor_id=execution.requester, tenant=execution.tenant),
            fence=execution.fence,
            mode=execution.mode,
            resources=self.resources,
            case=execution.input.get("case", {}),
            services=self.services.get(execution.workflow, {}),
        )
        try:
            args = tool.args.model_validate(approval.args)
            async with asyncio.timeout(PATIENCE_S), self.resources.engine.connect() as db:
                await db.execute(text("SET TRANSACTION READ ONLY"))
                return await tool.preview(args, scope.context(approval.tool_call_id, db))
        except ToolError as error:
            return error.message
        except ValidationError:
            return "these arguments no longer fit the tool"
        except Exception as error:  # a tool's own code: whatever breaks there must not hide the question
            log.exception("preview.failed", tool=tool.name, approval_id=str(approval.approval_id))
            return f"it could not be made ({type(error).__name__})"

    def _tool(self, approval: Approval) -> Tool | None:
        """The tool, if this process still has it."""
        entry = next((entry for entry in self.catalog if entry.name == approval.workflow), None)
        if entry is None or entry.workflow is None or approval.specialist is None:
            return None
        try:
            specialist = entry.workflow.specialist(approval.specialist)
        except GraphInvalid:
            return None
        return next((tool for tool in specialist.tools if tool.name == approval.tool), None)
