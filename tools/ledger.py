"""The ledger: every effect is one row, begun and ended under the run's fence, so that nothing happens twice.

Key: `execution_id:tool_call_id`. The same key with other arguments is refused and raises LedgerMismatch.
A row that ended `unknown` waits for a person: `confirm` ends it as done, `send` with `doubted` tries once more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from casework import audit
from casework.approval import Doubt
from casework.errors import CallRefused, CancelRequested, LedgerMismatch, OutcomeUnknown, ToolError, ToolFailed
from casework.faults import fault
from casework.journal import NewEvent, hold_fence, write_events
from casework.patience import LeftBehind, within
from casework.plain import plain
from casework.tables import effects, executions
from tools.scope import Scope
from tools.spec import Effect, Tool, ToolFunction

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
        return scope.key(self.call_id)


@dataclass(frozen=True)
class Entry:
    """An effect's row."""

    state: str
    attempt: int
    result: Result | None
    error: str | None
    started_at: datetime
    found: bool
    """Whether an earlier try had begun this attempt."""


Check = Callable[[AsyncConnection], Awaitable[None]]
"""Judges the call once more inside the transaction that begins its effect; raises ToolError to refuse."""


async def transact(call: Call, scope: Scope, check: Check) -> Result:
    """Run a transactional tool: fence, ledger, business write, event and audit commit together, or not at all.

    Raises TimeoutError when the tool takes too long. The commit has none: past it nobody would know what came of it.
    """
    await fault("before_effect")
    async with _fenced(scope) as db:
        entry = await _begin(db, call, scope, check, "done")
        if entry.found:
            return _outcome(entry)
        result = dump(await run_in(db, call, call.tool.run(call.args, scope.context(call.call_id, db))))
        await db.execute(_row(call, scope).values(result=result))
        await _tell(db, call, scope, "done", 1, result)
        await fault("before_done")
    await fault("after_effect")
    return result


async def send(
    call: Call, scope: Scope, check: Check, run: Callable[[int], Awaitable[Result]], doubted: int | None = None
) -> Result:
    """Run an outside tool: commit `started`, call with no transaction open, commit what came of it.

    `run(attempt)` makes the call. `doubted`: the unknown attempt that a person said did not happen; the next one
    begins then, in the same row. Raises ToolError when it certainly did not happen, OutcomeUnknown when
    nobody knows. A cancelled or killed call stays `started`, and the next run takes it up.
    """
    await fault("before_effect")
    async with _fenced(scope) as db:
        entry = await _begin(db, call, scope, check, "started", doubted)
        if not entry.found and entry.attempt == 1 and call.tool.reserve is not None:
            await run_in(db, call, call.tool.reserve(call.args, scope.context(call.call_id, db)))
    await fault("after_started")
    if entry.state != "started":
        return _outcome(entry)
    earlier = await _look_back(call, scope, entry)
    if earlier is not None:
        return await _end(call, scope, "done", result=earlier)
    try:
        result = await run(entry.attempt)
    except ToolFailed as failure:
        if entry.found:  # this try did not arrive, but nobody knows about the one that a crash cut off
            why = f"an earlier try broke off, and asking again failed: {failure.message}"
            raise await doubt(call, scope, why) from failure
        await _end(call, scope, "failed", error=failure.message)
        raise
    except OutcomeUnknown as unknown:
        found = await _ask_at_once(call, scope, entry.attempt)
        if found is None:
            raise await doubt(call, scope, unknown.message, unknown.reference) from unknown
        result = found
    return await _end(call, scope, "done", result=result)


async def confirm(call: Call, scope: Scope, doubted: int, reference: str) -> Result:
    """End an attempt that a person found at its provider as done. Nothing is sent.

    Raises OutcomeUnknown when the tool finds that the reference is not this call's.
    """
    async with scope.resources.engine.connect() as db:
        entry = await _find(db, call, scope)
    if entry is None or entry.state != "unknown" or entry.attempt != doubted:
        return _outcome(entry)
    result: Result = {"provider_ref": reference}
    if call.tool.confirm is not None:
        context = scope.context(call.call_id, None, doubted)
        try:
            result = dump(await within(call.tool.timeout_s, call.tool.confirm(call.args, reference, context)))
        except (ToolError, TimeoutError) as error:
            raise await doubt(call, scope, f"{reference} was not confirmed: {error or 'no answer in time'}") from error
    return await _end(call, scope, "done", result=result, reference=reference)


async def doubt(call: Call, scope: Scope, why: str, reference: str | None = None) -> ToolFailed | OutcomeUnknown:
    """Record that nobody knows whether a begun effect happened. Returns the error to raise."""
    async with _fenced(scope) as db:
        if await _find(db, call, scope) is None:
            return ToolFailed(f"{why}, before anything was begun")
        await _write_end(db, call, scope, "unknown", error=why, reference=reference)
    return OutcomeUnknown(why, reference=reference)


async def read_doubt(scope: Scope, call_id: str) -> Doubt | None:
    """What is known of an effect that nobody knows the outcome of; None when there is no such effect."""
    query = select(effects).where(effects.c.key == scope.key(call_id), effects.c.state == "unknown")
    async with scope.resources.engine.connect() as db:
        row = (await db.execute(query)).one_or_none()
    if row is None:
        return None
    return Doubt(
        key=scope.key(call_id, row.attempt),
        attempt=row.attempt,
        begun_at=row.started_at,
        since=row.finished_at,
        why=row.error,
        reference=row.reference,
    )


async def run_in(db: AsyncConnection, call: Call, part: Coroutine[Any, Any, Any]) -> Any:
    """Run a part of a tool on a connection of ours, for as long as the tool may take.

    Raises TimeoutError. A part that goes on in spite of being stopped loses the connection, and writes nothing more.
    """
    try:
        return await within(call.tool.timeout_s, part)
    except LeftBehind:
        await db.invalidate()
        raise


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


async def _find(db: AsyncConnection, call: Call, scope: Scope) -> Entry | None:
    row = (await db.execute(select(effects).where(effects.c.key == call.key(scope)))).one_or_none()
    if row is None:
        return None
    if row.digest != call.digest:
        raise LedgerMismatch(f"effect {row.key} was begun with other arguments")
    return Entry(row.state, row.attempt, row.result, row.error, row.started_at, True)


async def _begin(
    db: AsyncConnection, call: Call, scope: Scope, check: Check, state: str, doubted: int | None = None
) -> Entry:
    """Find the effect's row, or judge the call once more and insert it. The fence is held, so nobody else can."""
    entry = await _find(db, call, scope)
    if entry is not None and (entry.state != "unknown" or entry.attempt != doubted):
        return entry
    cancelled = select(executions.c.cancel_requested).where(executions.c.execution_id == scope.execution_id)
    if await db.scalar(cancelled):
        raise CancelRequested
    if entry is not None:
        return await _begin_again(db, call, scope, check, entry)
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
        await write_events(db, scope.execution_id, [_event(call, "started", attempt=1)])
    return Entry(state, 1, None, None, started, False)


async def _begin_again(db: AsyncConnection, call: Call, scope: Scope, check: Check, entry: Entry) -> Entry:
    """Begin the next attempt in the row of one that did not happen. Judged like the first; a no ends it as failed."""
    try:
        await check(db)
    except CallRefused as refusal:
        why = f"it did not happen, and may not be made again: {refusal.message}"
        await _write_end(db, call, scope, "failed", error=why)
        return replace(entry, state="failed", error=why)
    attempt = entry.attempt + 1
    anew = {"state": "started", "attempt": attempt, "error": None, "reference": None, "finished_at": None}
    begun = _row(call, scope).values(**anew, started_at=func.now(), fence=scope.fence).returning(effects.c.started_at)
    started = await db.scalar(begun)
    await write_events(db, scope.execution_id, [_event(call, "started", attempt=attempt)])
    return Entry("started", attempt, None, None, started, False)


async def _look_back(call: Call, scope: Scope, entry: Entry) -> Result | None:
    """The result of an earlier try that happened after all; None if the call may be made (again)."""
    if call.tool.effect is Effect.LOOKUP and call.tool.find is not None:
        return await _look_up(call, scope, call.tool.find, entry.attempt if entry.found else entry.attempt - 1)
    old = scope.resources.clock() - entry.started_at > PROVIDER_WINDOW
    if not entry.found or (call.tool.effect is Effect.KEYED and not old):
        return None
    raise await doubt(call, scope, "it was begun before, and cannot be asked about or sent again safely")


async def _look_up(call: Call, scope: Scope, find: ToolFunction, attempts: int) -> Result | None:
    """What the provider has of this many attempts. When it cannot be asked, nobody knows."""
    for attempt in range(1, attempts + 1):
        try:
            found = await _ask(call, scope, find, attempt)
        except (ToolError, TimeoutError) as error:
            why = f"an earlier try could not be looked up: {error or 'no answer in time'}"
            raise await doubt(call, scope, why) from error
        if found is not None:
            return found
    return None


async def _ask_at_once(call: Call, scope: Scope, attempt: int) -> Result | None:
    """Whether a lookup call that just gave no answer is there already. That it is not yet says nothing."""
    if call.tool.effect is not Effect.LOOKUP or call.tool.find is None:
        return None
    try:
        return await _ask(call, scope, call.tool.find, attempt)
    except (ToolError, TimeoutError):
        return None


async def _ask(call: Call, scope: Scope, find: ToolFunction, attempt: int) -> Result | None:
    found = await within(call.tool.timeout_s, find(call.args, scope.context(call.call_id, None, attempt)))
    return dump(found) if found is not None else None


async def _end(
    call: Call,
    scope: Scope,
    state: str,
    *,
    result: Result | None = None,
    error: str | None = None,
    reference: str | None = None,
) -> Result:
    async with _fenced(scope) as db:
        await _write_end(db, call, scope, state, result=result, error=error, reference=reference)
        await fault("before_done")
    await fault("after_effect")
    return result or {}


async def _write_end(
    db: AsyncConnection,
    call: Call,
    scope: Scope,
    state: str,
    *,
    result: Result | None = None,
    error: str | None = None,
    reference: str | None = None,
) -> None:
    ended = {"result": result, "error": error, "reference": reference, "finished_at": scope.resources.clock()}
    attempt = await db.scalar(_row(call, scope).values(state=state, **ended).returning(effects.c.attempt))
    if call.tool.settle is not None and state != "unknown":
        try:
            context = scope.context(call.call_id, db, attempt)
            await run_in(db, call, call.tool.settle(call.args, result, context))
        except ToolError as refusal:  # a refusal here would read as if the call had not happened
            raise RuntimeError(f"settling {call.tool.name} failed: {refusal.message}") from refusal
    await _tell(db, call, scope, state, attempt, result, error)


def _outcome(entry: Entry | None) -> Result:
    """What an effect that has ended came to. Raises ToolFailed, OutcomeUnknown."""
    if entry is None or entry.state in ("started", "unknown"):
        raise OutcomeUnknown(entry.error if entry else "it was never begun")
    if entry.state == "failed":
        raise ToolFailed(entry.error)
    return entry.result or {}


def _event(call: Call, state: str, **more: Any) -> NewEvent:
    story = {"call_id": call.call_id, "tool": call.tool.name, **more}
    return NewEvent(f"effect.{state}", story)


async def _tell(
    db: AsyncConnection,
    call: Call,
    scope: Scope,
    state: str,
    attempt: int,
    result: Result | None,
    error: str | None = None,
) -> None:
    more = {"error": error} if error else {"result": result}
    event = _event(call, state, attempt=attempt, args=call.args.model_dump(mode="json"), **more)
    await write_events(db, scope.execution_id, [event])
    await audit.append(
        db,
        scope.actor.tenant,
        act=f"effect.{state}",
        execution=str(scope.execution_id),
        call=call.call_id,
        tool=call.tool.name,
        digest=call.digest,
        attempt=attempt,
    )
