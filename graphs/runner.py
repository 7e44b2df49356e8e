"""Carries an execution from one wait to the next: claim, run the graph, finish. Never trusts the message that woke it.

What to feed the graph comes from its checkpoint and the decided approvals, so a wake-up may come late, twice or never.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphDrained
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import RunControl
from langgraph.types import Command, StateSnapshot

from casework.actor import Actor
from casework.database import DATABASE_AWAY, is_outage
from casework.errors import CancelRequested, GraphChanged, LostLease, RunAbandoned, RunTimedOut
from casework.execution import Status
from casework.faults import fault
from casework.legs import Answered, Ending, Leg, Legs
from casework.patience import within
from casework.plain import plain
from casework.resources import Resources
from casework.secrecy import redacted
from casework.telemetry import logger
from casework.tokens import Tokens
from graphs.catalog import Catalog, Entry
from graphs.internals import STRICT_RESUME
from graphs.questions import questions
from graphs.saver import FencedSaver
from nodes.context import Context
from nodes.llm import Models
from nodes.workflow import Services

log = logger(__name__)

STEPS_PER_RUN = 150
"""Supersteps of one run before LangGraph stops it, at least. LangGraph's default is 10,007."""
STEPS_PER_TURN = 4
"""Of a specialist: its own, the check, the calls, and the router after a hand-over. So budgets end a case before."""
LAST_STEP_S = 60.0
"""How long the step under way may go on when its run is out of time; then it is cut off."""
CUT_OFF_S = 2.0
"""How long a run that is cut off may take to tidy up, before it is left to itself."""

AWAY_PAUSE_S = 1.0
"""Between two tries to give back a run that the database went away from."""

COUNTERS = ("model_calls", "tool_calls", "tokens", "cost_microusd")


@dataclass
class _Live:
    """A run in this process."""

    leg: Leg
    task: asyncio.Task[Any]
    control: RunControl = field(default_factory=RunControl)
    late: bool = False
    """Whether its time is over."""

    def time_is_over(self) -> None:
        self.late = True
        self.control.request_drain()


class Runner:
    """Runs executions in this process. One per worker."""

    def __init__(
        self,
        legs: Legs,
        catalog: Catalog,
        resources: Resources,
        services: Mapping[str, Services],
        owner: str,
    ) -> None:
        self.legs = legs
        self.catalog = catalog
        self.resources = resources
        self.services = services
        self.owner = owner
        self.models = Models(resources.settings, resources.http)
        self.tokens = Tokens(resources.pool)
        self._live: dict[UUID, _Live] = {}
        self.stopping = False
        """Whether no new run may begin here, and those under way end at their next step."""

    async def advance(self, execution_id: UUID) -> Status | None:
        """Run an execution until it waits or ends. None: nothing to do, or somebody else's, or lost on the way."""
        leg = await self.legs.claim(execution_id, self.owner, self.resources.settings.lease)
        task = asyncio.current_task()
        if leg is None or task is None:
            return None
        live = self._live[execution_id] = _Live(leg, task)
        with structlog.contextvars.bound_contextvars(
            execution_id=str(execution_id), run_id=str(leg.run_id), workflow=leg.execution.workflow
        ):
            log.info("run.started", attempt=leg.attempt, kind=leg.kind)
            try:
                status = await self._run_to_rest(live)
                log.info("run.finished", status=status)
                return status
            except LostLease as lost:
                log.warning("run.lost_lease", detail=lost.message)
                return None
            finally:
                self._live.pop(execution_id, None)

    async def keep_alive(self) -> None:
        """Renew the leases of this process's runs, for ever; a run whose lease is lost is stopped."""
        lease = self.resources.settings.lease
        while True:
            await asyncio.sleep(lease.total_seconds() / 4)
            fences = {execution_id: live.leg.fence for execution_id, live in self._live.items()}
            try:
                await fault("before_beat")
                lost = await self.legs.beat(self.owner, lease, fences)
            except Exception:
                log.exception("lease.beat_failed")
                continue
            for execution_id in lost & self._live.keys():
                if self._live[execution_id].leg.fence == fences[execution_id]:
                    log.warning("lease.lost", execution_id=str(execution_id))
                    self._live[execution_id].task.cancel()

    def drain(self) -> None:
        """Ask every run to stop at its next step; its execution is free for another worker at once."""
        self.stopping = True
        for live in self._live.values():
            live.control.request_drain()

    async def _run_to_rest(self, live: _Live) -> Status | None:
        """Run, and write down how it ended, whatever happened."""
        leg = live.leg
        try:
            return await self._in_time(live)
        except GraphDrained:
            await self.legs.release(leg, None, timedelta(0), counted=False)
            return Status.QUEUED
        except CancelRequested:
            return await self.legs.finish(leg, Ending(Status.CANCELLED), ())
        except GraphChanged as changed:
            log.error("run.graph_changed", detail=changed.message)
            return await self.legs.finish(leg, Ending(Status.WAITING, error=changed.message), await self._asked(leg))
        except LostLease:
            raise
        except asyncio.CancelledError:  # the worker stops and would not wait for the step, or the lease is lost
            with suppress(LostLease, *DATABASE_AWAY):
                await self.legs.release(await self._take_back(leg), None, timedelta(0), counted=False)
            raise
        except RunTimedOut as late:
            log.warning("run.timed_out", attempt=leg.attempt)
            return await self._try_again(await self._take_back(leg), late)
        except Exception as error:
            log.exception("run.failed", attempt=leg.attempt)
            return await self._try_again(leg, error)

    async def _take_back(self, leg: Leg) -> Leg:
        """The same leg under a new fence: a run that was stopped may go on all the same. Raises LostLease."""
        self._live.pop(leg.execution.execution_id, None)  # no heartbeat may take the new fence for a lost lease
        return await self.legs.take_back(leg)

    async def _try_again(self, leg: Leg, error: Exception) -> Status:
        """Give the run back to be tried again, unless this was its last try."""
        settings = self.resources.settings
        reason = redacted(f"{type(error).__name__}: {error}")[:1000]
        if is_outage(error):
            return await self._outlast(leg, reason)
        if leg.attempt >= settings.max_attempts:
            return await self.legs.finish(leg, Ending(Status.FAILED, error=reason), ())
        await self.legs.release(leg, reason, settings.retry_delay * 2 ** (leg.attempt - 1))
        return Status.QUEUED

    async def _in_time(self, live: _Live) -> Status:
        """Run; past `run_timeout`, have it stop at its next step, and cut it off if that does not come."""
        limit = self.resources.settings.run_timeout.total_seconds()
        timer = asyncio.get_running_loop().call_later(limit, live.time_is_over)
        try:
            return await within(limit + LAST_STEP_S, self._run(live), CUT_OFF_S)
        except (GraphDrained, TimeoutError) as stopped:
            if not live.late:
                raise
            raise RunTimedOut(f"the run took longer than {limit:g} s, and was stopped") from stopped
        finally:
            timer.cancel()

    async def _outlast(self, leg: Leg, reason: str) -> Status:
        """Give the leg back once the database is there again. The run had no part in it: the try does not count."""
        while True:
            try:
                await self.legs.release(leg, reason, self.resources.settings.retry_delay, counted=False)
            except DATABASE_AWAY as error:
                if self.stopping:  # the lease runs out by itself
                    raise
                log.warning("run.database_away", error=type(error).__name__)
                await asyncio.sleep(AWAY_PAUSE_S)
            else:
                return Status.QUEUED

    async def _run(self, live: _Live) -> Status:
        leg, execution = live.leg, live.leg.execution
        await fault("after_claim")
        if execution.cancel_requested and not await self.legs.has_open_effects(execution.execution_id):
            raise CancelRequested
        if leg.attempt > self.resources.settings.max_attempts:
            raise RunAbandoned
        entry = self.catalog.get(execution.workflow)
        context = self._context(leg, entry, await self._worked(leg))
        saver = FencedSaver(
            self.resources.pool, execution.execution_id, leg.fence, context.journal, entry.serializer, fresh=leg.fresh
        )
        graph = entry.compiled.copy({"checkpointer": saver})
        config = _config(leg, entry)
        to_feed = await self._input(graph, config, leg, entry)
        await fault("before_graph")
        try:
            result = await graph.ainvoke(to_feed, config, context=context, durability="sync", control=live.control)
        except BaseException:
            await saver.salvage()
            raise
        await saver.flush()
        snapshot = await graph.aget_state(config) if "__interrupt__" in result else None
        ending = self._ending(entry, execution.execution_id, result, snapshot, context)
        pending = {i.id for i in snapshot.interrupts} if snapshot else set()
        return await self.legs.finish(leg, ending, pending)

    async def _input(
        self, graph: CompiledStateGraph[Any, Any, Any, Any], config: RunnableConfig, leg: Leg, entry: Entry
    ) -> Any:
        """No checkpoint: the input. Decided and still asked: those answers, by id. Else None: just go on.

        Ended, and somebody wrote again: the input once more, on the same thread; its entrance reads the message. Fed
        to a leg that has taken it already, LangGraph knows the leg's id again and just goes on.
        """
        if leg.fresh:
            return leg.execution.input
        snapshot = await graph.aget_state(config)
        ended = bool(snapshot.values.get("outcome")) and not snapshot.next  # without its paused node, nothing is next
        if snapshot.created_at is None or (leg.kind == "message" and ended):
            return leg.execution.input
        pending = {i.id for i in snapshot.interrupts}
        answers = await self.legs.answered(leg.execution.execution_id)
        _refuse_changed(answers, pending, entry)
        resume = {a.interrupt_id: a.resume for a in answers if a.interrupt_id in pending}
        return Command(resume=resume) if resume else None

    async def _worked(self, leg: Leg) -> timedelta:
        """How long the execution has been at work before this try."""
        if leg.fresh:
            return timedelta(0)
        return await self.legs.worked(leg.execution.execution_id)

    def _context(self, leg: Leg, entry: Entry, worked: timedelta) -> Context:
        execution = leg.execution
        return Context(
            execution_id=execution.execution_id,
            requester=Actor(actor_id=execution.requester, tenant=execution.tenant),
            fence=leg.fence,
            mode=execution.mode,
            resources=self.resources,
            models=self.models,
            tokens=self.tokens,
            services=self.services.get(entry.name, {}),
            worked_s=worked.total_seconds(),
            last_attempt=leg.attempt >= self.resources.settings.max_attempts,
        )

    def _ending(
        self, entry: Entry, execution_id: UUID, result: Any, snapshot: StateSnapshot | None, context: Context
    ) -> Ending:
        values = dict(result) if isinstance(result, Mapping) else {"result": result}
        values.pop("__interrupt__", None)
        ours = entry.workflow is not None
        spent = values.pop("spent", {}) if ours else {}
        read = values.pop("messages_read", 0) if ours else 0
        works = values.pop("route", {}).get("specialist") if ours else None
        totals = {name: spent[name] for name in COUNTERS if name in spent}
        if snapshot is not None:
            deadline = self.resources.clock() + self.resources.settings.approval_deadline
            asked = questions(entry, execution_id, snapshot, deadline)
            waits, events = Status.WAITING, context.journal.take()
            return Ending(waits, questions=asked, events=events, totals=totals, messages_read=read, specialist=works)
        outcome = values.get("outcome") if ours else None
        status = Status(outcome["status"]) if outcome else Status.SUCCEEDED
        events = context.journal.take()
        result = plain(values)
        return Ending(status, result=result, events=events, totals=totals, messages_read=read, specialist=works)

    async def _asked(self, leg: Leg) -> set[str]:
        """Interrupt ids of what was decided and could not be taken up: kept for the version that can."""
        return {a.interrupt_id for a in await self.legs.answered(leg.execution.execution_id)}


def _config(leg: Leg, entry: Entry) -> RunnableConfig:
    execution = leg.execution
    turns = entry.workflow.limits.model_calls if entry.workflow is not None else 0
    return {
        "configurable": {"thread_id": str(execution.execution_id), **STRICT_RESUME},
        "metadata": {
            "run_id": str(leg.run_id),
            "execution_id": str(execution.execution_id),
            "workflow": execution.workflow,
            "mode": execution.mode.value,
        },
        "recursion_limit": STEPS_PER_RUN + STEPS_PER_TURN * turns,
        "run_name": execution.workflow,
    }


def _refuse_changed(answers: list[Answered], pending: set[str], entry: Entry) -> None:
    """A paused node that no longer exists would make resume "succeed" and the approval vanish."""
    for answer in answers:
        if answer.interrupt_id not in pending and answer.node not in entry.nodes:
            raise GraphChanged(
                f"the execution paused in node {answer.node!r} of version {answer.graph_version}; "
                f"version {entry.version} has no such node. Deploy the old one to resume it"
            )
