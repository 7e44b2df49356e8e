"""The ledger: every effect is one row, begun and ended under the run's fence, so that nothing happens twice.

Key: `execution_id:tool_call_id`. The same key with other arguments is refused and raises LedgerMismatch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel
from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from casework import audit
from casework.errors import CancelRequested, LedgerMismatch, OutcomeUnknown, ToolFailed
from casework.faults import fault
from casework.journal import NewEvent, hold_fence, write_events
from casework.plain import plain
from casework.tables import effects, executions
from tools.scope import Scope
from tools.spec import Effect, Tool

PROVIDER_WINDOW = timedelta(hours=23)
"""Providers forget idempotency keys (Stripe after 24 h): a call begun before that is never sent again by itself."""

Result = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One call that passed the gate."""

    call_id: str
    tool: Tool
    args: BaseModel
    digest: str

    def key(self, scope: Scope) -> str:
        return f"{scope.execution_id}:{self.call_id}"


@dataclass(frozen=True)
class Entry:
    """An effect's row."""

    state: str
    attempt: int
    result: Result | None
    error: str | None
    started_at: datetime
    found: bool
    """Whether an earlier try had begun it."""


Check = Callable[[AsyncConnection], Awaitable[None]]
"""Judges the call once more inside the transaction that begins its effect; raises ToolError to refuse."""


async def transact(call: Call, scope: Scope, check: Check) -> Result:
    """Run a transactional tool: fence, ledger, business write, event and audit commit together, or not at all."""
    await fault("before_effect")
    async with _fenced(scope) as db:
        entry = await _begin(db, call, scope, check, "done")
        if entry.found:
            return _outcome(entry)
        result = dump(await call.tool.run(call.args, scope.context(call.call_id, db)))
        await db.execute(_row(call, scope).values(result=result))
        await _tell(db, call, scope, "done", result)
        await fault("before_done")
    await fault("after_effect")
    return result


async def send(call: Call, scope: Scope, check: Check, run: Callable[[int], Awaitable[Result]]) -> Result:
    """Run an outside tool: commit `started`, call with no transaction open, commit what came of it.

    `run(attempt)` makes the call. Raises ToolError when it certainly did not happen, OutcomeUnknown when
    nobody knows. A cancelled or killed call stays `started`, and the next run takes it up.
    """
    await fault("before_effect")
    async with _fenced(scope) as db:
        entry = await _begin(db, call, scope, check, "started")
        if not entry.found and call.tool.reserve is not None:
            await call.tool.reserve(call.args, scope.context(call.call_id, db))
    await fault("after_started")
    if entry.state != "started":
        return _outcome(entry)
    if entry.found:
        earlier = await _look_back(call, scope, entry)
        if earlier is not None:
            return await _end(call, scope, "done", entry.attempt, result=earlier)
    try:
        result = await run(entry.attempt)
    except ToolFailed as failure:
        if entry.found:  # this try did not arrive, but nobody knows about the one that a crash cut off
            why = f"an earlier try broke off, and asking again failed: {failure.message}"
            await _end(call, scope, "unknown", entry.attempt, error=why)
            raise OutcomeUnknown(why) from failure
        await _end(call, scope, "failed", entry.attempt, error=failure.message)
        raise
    except OutcomeUnknown as doubt:
        await _end(call, scope, "unknown", entry.attempt, error=doubt.message)
        raise
    return await _end(call, scope, "done", entry.attempt, result=result)


async def doubt(call: Call, scope: Scope, why: str) -> OutcomeUnknown:
    """Record that nobody knows whether a begun effect happened. Returns the error to raise."""
    await _end(call, scope, "unknown", 1, error=why)
    return OutcomeUnknown(why)


def dump(result: Any) -> Result:
    """A tool's result as a plain JSON object."""
    made = plain(result)
    return made if isinstance(made, dict) else {"result": made}


@asynccontextmanager
async def _fenced(scope: Scope) -> AsyncIterator[AsyncConnection]:
    async with scope.resources.engine.begin() as db:
        await hold_fence(db, scope.execution_id, scope.fence)
        yield db


def _row(call: Call, scope: Scope) -> Any:
    return update(effects).where(effects.c.key == call.key(scope))


async def _begin(db: AsyncConnection, call: Call, scope: Scope, check: Check, state: str) -> Entry:
    """Find the effect's row, or judge the call once more and insert it. The fence is held, so nobody else can."""
    row = (await db.execute(select(effects).where(effects.c.key == call.key(scope)))).one_or_none()
    if row is not None:
        if row.digest != call.digest:
            raise LedgerMismatch(f"effect {row.key} was begun with other arguments")
        return Entry(row.state, row.attempt, row.result, row.error, row.started_at, True)
    cancelled = select(executions.c.cancel_requested).where(executions.c.execution_id == scope.execution_id)
    if await db.scalar(cancelled):
        raise CancelRequested
    await check(db)
    started = await db.scalar(
        insert(effects)
        .values(
            key=call.key(scope),
            execution_id=scope.execution_id,
            tool=call.tool.name,
            args=call.args.model_dump(mode="json"),
            digest=call.digest,
            effect=call.tool.effect,
            state=state,
            fence=scope.fence,
        )
        .returning(effects.c.started_at)
    )
    if state == "started":
        await write_events(db, scope.execution_id, [_event(call, "started")])
    return Entry(state, 1, None, None, started, False)


async def _look_back(call: Call, scope: Scope, entry: Entry) -> Result | None:
    """An earlier try had begun it: its result if it happened, None if the call may be made (again)."""
    if call.tool.effect is Effect.LOOKUP and call.tool.find is not None:
        found = await call.tool.find(call.args, scope.context(call.call_id, None, entry.attempt))
        return dump(found) if found is not None else None
    old = scope.resources.clock() - entry.started_at > PROVIDER_WINDOW
    if call.tool.effect is Effect.KEYED and not old:
        return None
    doubt = "it was begun before, and cannot be asked about or sent again safely"
    await _end(call, scope, "unknown", entry.attempt, error=doubt)
    raise OutcomeUnknown(f"{call.tool.name}: {doubt}")


async def _end(
    call: Call, scope: Scope, state: str, attempt: int, *, result: Result | None = None, error: str | None = None
) -> Result:
    async with _fenced(scope) as db:
        ended = scope.resources.clock()
        await db.execute(_row(call, scope).values(state=state, result=result, error=error, finished_at=ended))
        if call.tool.settle is not None and state != "unknown":
            await call.tool.settle(call.args, result, scope.context(call.call_id, db, attempt))
        await _tell(db, call, scope, state, result, error)
        await fault("before_done")
    await fault("after_effect")
    return result or {}


def _outcome(entry: Entry) -> Result:
    """What an effect that has ended came to. Raises ToolFailed, OutcomeUnknown."""
    if entry.state == "failed":
        raise ToolFailed(entry.error)
    if entry.state == "unknown":
        raise OutcomeUnknown(entry.error)
    return entry.result or {}


def _event(call: Call, state: str, **more: Any) -> NewEvent:
    story = {"call_id": call.call_id, "tool": call.tool.name, **more}
    return NewEvent(f"effect.{state}", story)


async def _tell(
    db: AsyncConnection, call: Call, scope: Scope, state: str, result: Result | None, error: str | None = None
) -> None:
    more = {"error": error} if error else {"result": result}
    event = _event(call, state, args=call.args.model_dump(mode="json"), **more)
    await write_events(db, scope.execution_id, [event])
    await audit.append(
        db,
        scope.actor.tenant,
        act=f"effect.{state}",
        execution=str(scope.execution_id),
        call=call.call_id,
        tool=call.tool.name,
        digest=call.digest,
    )
