"""A runner one step at a time: no queue, no worker loop; a test says when an execution advances."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert as upsert

from casework.actor import Actor, Role
from casework.approval import Approval, ApprovalState, Decision
from casework.decisions import Decisions
from casework.execution import Event, Execution, Mode, Status
from casework.legs import Legs
from casework.messages import Messages
from casework.resources import Resources, open_resources
from casework.settings import Settings
from casework.store import Store
from casework.tables import actors
from graphs.assembly import assemble
from graphs.catalog import Catalog
from graphs.deciding import Deciding
from graphs.intake import mode_of, open_case
from graphs.runner import Runner
from graphs.support import support
from nodes.offline import OfflineRules, Reply, ToolCallRequest
from nodes.workflow import Services, Workflow
from tests.conftest import PLENTY
from tools.shop.opening import open_shop

OLGA = Actor(actor_id="olga", roles=frozenset({Role.OPERATOR}))
ADA = Actor(actor_id="ada", roles=frozenset({Role.APPROVER}))
BEN = Actor(actor_id="ben", roles=frozenset({Role.APPROVER}))


class NoQueue:
    """A dispatcher that only remembers whom it was asked to wake."""

    def __init__(self) -> None:
        self.woken: list[UUID] = []

    async def wake(self, db: Any, execution_id: UUID, delay: timedelta = timedelta(0)) -> None:
        self.woken.append(execution_id)


def call(name: str, **args: Any) -> ToolCallRequest:
    return ToolCallRequest(name, args)


def scripted(*turns: Reply | Sequence[ToolCallRequest] | str, route: str = "billing") -> OfflineRules:
    """A model that answers its n-th turn with the n-th entry (text, or calls), and the router with `route`."""

    def rules(role: str, messages: Sequence[BaseMessage], tools: frozenset[str]) -> Reply:
        if role == "router":
            return Reply(calls=[call("route", specialist=route, confidence=0.9, reason="scripted")])
        turn = turns[min(sum(isinstance(m, AIMessage) for m in messages), len(turns) - 1)]
        if isinstance(turn, Reply):
            return turn
        return Reply(text=turn) if isinstance(turn, str) else Reply(calls=turn)

    return rules


@dataclass
class Rig:
    """Everything a case needs, and shortcuts to move it along."""

    resources: Resources
    queue: NoQueue
    store: Store
    legs: Legs
    decisions: Decisions
    deciding: Deciding
    posted: Messages
    catalog: Catalog
    services: Mapping[str, Services]

    def runner(self, owner: str = "rig") -> Runner:
        return Runner(self.legs, self.catalog, self.resources, self.services, owner)

    async def start(self, ticket: str, mode: Mode = Mode.AUTONOMOUS, by: Actor = OLGA) -> UUID:
        """Accept a demo ticket on behalf of the customer who wrote it."""
        customer = await self.scalar("SELECT customer_id FROM shop.tickets WHERE ticket_id = :t", t=ticket)
        body = {"ticket_id": ticket, "user_id": customer}
        entry = self.catalog.get("support")
        opened = await open_case(entry, self.resources, body)
        own = mode_of(entry, self.resources.settings, mode)
        execution, _ = await self.store.create(by, "support", entry.version, own, opened)
        return execution.execution_id

    async def advance(self, execution_id: UUID) -> Status | None:
        return await self.runner().advance(execution_id)

    async def get(self, execution_id: UUID) -> Execution:
        return await self.store.get("default", execution_id)

    async def events(self, execution_id: UUID, *types: str) -> list[Event]:
        """Those of these types, or all."""
        every = await self.store.events("default", execution_id)
        return [event for event in every if not types or event.type in types]

    async def pending(self, execution_id: UUID) -> list[Approval]:
        state = ApprovalState.PENDING
        return await self.decisions.page("default", limit=100, state=state, execution_id=execution_id)

    async def decide(self, actor: Actor, approval: Approval, type_: str = "approve", **more: Any) -> Approval:
        answer = {"type": type_, "digest": approval.digest, **more}
        return await self.deciding.decide(actor, approval.approval_id, Decision.model_validate(answer))

    async def write(self, execution_id: UUID, text: str, by: Actor = OLGA) -> Status:
        """A further message of the customer. Returns where the execution stands with it."""
        _, status, _ = await self.posted.add(by, execution_id, text)
        return status

    async def messages(self, execution_id: UUID) -> list[AnyMessage]:
        """The conversation as its last checkpoint holds it."""
        entry = self.catalog.get("support")
        saver = AsyncPostgresSaver(self.resources.pool, serde=entry.serializer)
        graph = entry.compiled.copy({"checkpointer": saver})
        snapshot = await graph.aget_state({"configurable": {"thread_id": str(execution_id)}})
        return list(snapshot.values["messages"])

    async def roles(self, who: Actor, *roles: Role) -> None:
        """Give somebody these roles; whoever decides must be somebody."""
        row = upsert(actors).values(tenant=who.tenant, actor_id=who.actor_id, roles=sorted(roles), limits=PLENTY)
        known = row.on_conflict_do_update(index_elements=["tenant", "actor_id"], set_={"roles": row.excluded.roles})
        async with self.resources.engine.begin() as db:
            await db.execute(known)

    async def scalar(self, statement: str, **parameters: Any) -> Any:
        async with self.resources.engine.connect() as db:
            return await db.scalar(text(statement), parameters)

    async def execute(self, statement: str, **parameters: Any) -> None:
        async with self.resources.engine.begin() as db:
            await db.execute(text(statement), parameters)


@asynccontextmanager
async def rig(
    settings: Settings, database_url: str, rules: OfflineRules | None, workflow: Workflow = support
) -> AsyncIterator[Rig]:
    """The support workflow with a scripted model, on this test's database."""
    acted = replace(workflow, offline=rules or workflow.offline)
    catalog = Catalog.of({"support": assemble(acted)})
    queue = NoQueue()
    async with open_resources(settings, database_url) as resources, open_shop(settings) as shop:
        store, decisions = Store(resources.engine, resources.pool, queue), Decisions(resources.engine, queue)
        services = {"support": shop}
        deciding = Deciding(decisions, store, catalog, resources, services)
        posted, legs = Messages(resources.engine, queue), Legs(resources.engine, resources.pool, queue)
        yield Rig(resources, queue, store, legs, decisions, deciding, posted, catalog, services)
