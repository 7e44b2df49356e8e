"""Deciding an approval. An edit is judged by the tool's own schema and policies before it is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from casework.actor import Actor
from casework.approval import Approval, Decision, Edit
from casework.decisions import Decisions, Revision
from casework.errors import ArgumentsInvalid, CallRefused, InputInvalid
from casework.execution import Execution
from casework.resources import Resources
from casework.store import Store
from graphs.catalog import Catalog
from nodes.workflow import Services
from policies.verdict import Deny, NeedsApproval
from tools.gate import review
from tools.scope import Scope


class Deciding:
    """What the API and the pages decide approvals with."""

    def __init__(
        self,
        decisions: Decisions,
        store: Store,
        catalog: Catalog,
        resources: Resources,
        services: Mapping[str, Services],
    ) -> None:
        self.decisions = decisions
        self.store = store
        self.catalog = catalog
        self.resources = resources
        self.services = services

    async def decide(self, actor: Actor, approval_id: UUID, decision: Decision) -> Approval:
        """Record one person's answer. Raises what Decisions.decide raises."""
        answer = decision.root
        if not isinstance(answer, Edit):
            return await self.decisions.decide(actor, approval_id, decision)
        approval = await self.decisions.get(actor.tenant, approval_id)
        execution = await self.store.get(actor.tenant, approval.execution_id)
        revision = await self._judge(approval, execution, answer)
        return await self.decisions.decide(actor, approval_id, decision, revision)

    async def _judge(self, approval: Approval, execution: Execution, edit: Edit) -> Revision:
        """Raises InputInvalid when the edited arguments are broken or no one may allow them."""
        workflow = self.catalog.get(execution.workflow).workflow
        if workflow is None or approval.tool is None or approval.specialist is None or approval.tool_call_id is None:
            raise InputInvalid("this question has no arguments to edit", field="type")
        scope = Scope(
            execution_id=execution.execution_id,
            actor=Actor(actor_id=execution.requester, tenant=execution.tenant),
            fence=execution.fence,
            mode=execution.mode,
            resources=self.resources,
            case=execution.input.get("case", {}),
            services=self.services.get(execution.workflow, {}),
        )
        caller = workflow.specialist(approval.specialist).caller()
        try:
            judged = await review(caller, approval.tool, edit.args, approval.tool_call_id, scope)
        except (ArgumentsInvalid, CallRefused) as error:
            raise InputInvalid(error.message, field="args") from error
        rules, verdict = judged.policy, judged.verdict
        return Revision(
            args=judged.call.args.model_dump(mode="json"),
            digest=judged.call.digest,
            description=judged.call.tool.describe(judged.call.args),
            reasons=verdict.reason.split("; "),
            votes=rules.votes if isinstance(rules, NeedsApproval) else 0,
            roles=sorted(verdict.roles) if isinstance(verdict, NeedsApproval) else approval.roles,
            money={} if isinstance(verdict, Deny) else verdict.money,
        )
