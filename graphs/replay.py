"""A case step by step, as text, from its events and checkpoints. Reads only; runs nothing."""

from __future__ import annotations

import json
from uuid import UUID

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.types import StateSnapshot

from casework.execution import Event, Execution
from casework.resources import Resources
from casework.store import Store
from graphs.catalog import Catalog

WIDTH = 110
"""Characters of a value that are shown on its line; longer ones are cut with a mark."""
PAGE = 500


async def replay(store: Store, catalog: Catalog, resources: Resources, tenant: str, execution_id: UUID) -> str:
    """The whole story. Raises NotFound."""
    execution = await store.get(tenant, execution_id)
    events = await _all_events(store, tenant, execution_id)
    lines = [*_head(execution), "", "Story", *map(_event_line, events), "", "Checkpoints"]
    if execution.pruned_at is not None:
        pruned = f"  Pruned at {execution.pruned_at:%F %T}: its working memory is gone, its story is told above."
        return "\n".join([*lines, pruned]) + "\n"
    saver = AsyncPostgresSaver(resources.pool, serde=catalog.get(execution.workflow).serializer)
    graph = catalog.get(execution.workflow).compiled.copy({"checkpointer": saver})
    config = {"configurable": {"thread_id": str(execution_id)}}
    snapshots = [s async for s in graph.aget_state_history(config)]  # type: ignore[arg-type]  # a plain dict will do
    lines += [_snapshot_line(s) for s in reversed(snapshots)]
    return "\n".join(lines) + "\n"


async def _all_events(store: Store, tenant: str, execution_id: UUID) -> list[Event]:
    events: list[Event] = []
    while page := await store.events(tenant, execution_id, after=events[-1].seq if events else 0, limit=PAGE):
        events += page
    return events


def _head(execution: Execution) -> list[str]:
    cost = f"{execution.cost_microusd / 1_000_000:.4f} USD"
    return [
        f"Execution {execution.execution_id}",
        f"  {execution.workflow} ({execution.mode}), started by {execution.requester} at {execution.created_at:%F %T}",
        f"  {execution.status}: {execution.model_calls} model calls, {execution.tool_calls} tool calls, "
        f"{execution.tokens} tokens, {cost}",
        *([f"  error: {execution.error}"] if execution.error else []),
    ]


def _event_line(event: Event) -> str:
    details = "  ".join(f"{name}={_short(value)}" for name, value in event.data.items() if value not in (None, "", []))
    return f"{event.seq:>4}  {event.at:%H:%M:%S.%f}"[:-3] + f"  {event.type:<24} {details}"


def _snapshot_line(snapshot: StateSnapshot) -> str:
    step = (snapshot.metadata or {}).get("step", "?")
    following = ", ".join(snapshot.next) or "end"
    waiting = f"  waits for {len(snapshot.interrupts)} answer(s)" if snapshot.interrupts else ""
    return f"{step:>4}  next: {following:<40} messages: {len(snapshot.values.get('messages', []))}{waiting}"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}… (+{len(text) - WIDTH})"
