"""Nodes without our runner: `langgraph dev` and Studio pass no context, so this opens one for the process.

There is no lease, no worker and no approvals row then: the person at the Studio decides. Effects still go through
gate and ledger, on an execution marked `studio`, and outside services must be sandboxes.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from uuid import UUID, uuid5

from langgraph.config import get_config
from langgraph.runtime import Runtime
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as upsert

from casework.actor import Actor, Role
from casework.embedded import embedded_postgres
from casework.errors import NotAllowed
from casework.execution import Mode, Status
from casework.migrate import migrate
from casework.resources import Resources, open_resources
from casework.settings import Settings
from casework.tables import executions
from casework.tokens import Tokens
from nodes.context import Context
from nodes.llm import Models
from nodes.workflow import Services, Workflow

STUDIO = Actor(actor_id="studio", roles=frozenset({Role.OPERATOR, Role.APPROVER}))
SOURCE = "studio"
NAMESPACE = UUID("6f0d5a3c-2f0e-4a37-9f0b-6c1f0a1e7a11")
"""For thread ids that are not UUIDs."""


@dataclass
class StudioProcess:
    """What this process opened for Studio runs; stays open until it ends."""

    resources: Resources | None = None
    models: Models | None = None
    services: dict[str, Services] = field(default_factory=dict)
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)


_process = StudioProcess()


async def context_of(runtime: Runtime[Context | None], workflow: Workflow) -> Context:
    """The run's context: our runner's, or one made for the Studio."""
    if runtime.context is not None:
        return runtime.context
    resources, models, services = await _open(workflow)
    thread_id = str(get_config()["configurable"]["thread_id"])
    execution_id = await _studio_execution(resources, workflow, thread_id)
    return Context(
        execution_id=execution_id,
        requester=STUDIO,
        fence=0,
        mode=Mode.COPILOT,
        resources=resources,
        models=models,
        tokens=Tokens(resources.pool),
        services=services,
        studio=True,
    )


async def _open(workflow: Workflow) -> tuple[Resources, Models, Services]:
    """Open database and services once per process, off the event loop where they block."""
    async with _process.opening:
        if _process.resources is None or _process.models is None:
            settings = (await asyncio.to_thread(Settings)).model_copy(update={"sandbox_only": True})
            url = await asyncio.to_thread(_database, settings)
            await migrate(url)
            _process.resources = await _process.stack.enter_async_context(open_resources(settings, url))
            _process.models = Models(settings, _process.resources.http)
        if workflow.name not in _process.services:
            opened = await _process.stack.enter_async_context(workflow.services(_process.resources.settings))
            if workflow.prepare is not None:
                await workflow.prepare(_process.resources.engine, opened)
            _process.services[workflow.name] = opened
        return _process.resources, _process.models, _process.services[workflow.name]


def _database(settings: Settings) -> str:
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    return _process.stack.enter_context(embedded_postgres(settings.data_dir))


async def _studio_execution(resources: Resources, workflow: Workflow, thread_id: str) -> UUID:
    """The row that a Studio thread's effects hang on; no worker ever claims it.

    Raises NotAllowed for a thread that is an execution of the service: its worker drives it, under a fence.
    """
    try:
        execution_id = UUID(thread_id)
    except ValueError:
        execution_id = uuid5(NAMESPACE, thread_id)
    row = upsert(executions).values(
        execution_id=execution_id,
        workflow=workflow.name,
        graph_version="studio",
        tenant=STUDIO.tenant,
        requester=STUDIO.actor_id,
        status=Status.RUNNING,
        mode=Mode.COPILOT,
        source=SOURCE,
        input={},
    )
    async with resources.engine.begin() as db:
        await db.execute(row.on_conflict_do_nothing(index_elements=["execution_id"]))
        source = await db.scalar(select(executions.c.source).where(executions.c.execution_id == execution_id))
    if source != SOURCE:
        raise NotAllowed(f"thread {thread_id} is an execution of the service; start a thread of your own")
    return execution_id
