"""A graph, its workers and its provider, played by hand: one step at a time, in the code and in the model alike."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework.actor import Actor, Role
from casework.approval import ApprovalState, Kind, approval_id_of, digest_of
from casework.decisions import Decisions
from casework.errors import CaseworkError, OutcomeUnknown, ToolFailed
from casework.execution import Mode, Status
from casework.journal import NewEvent
from casework.legs import Ending, Leg, Legs
from casework.resources import Resources, open_resources
from casework.settings import Settings
from casework.store import Store
from tests.outside import PayArgs
from tests.plain_model import Case, Crash, Model, Question
from tests.rig import NoQueue
from tools import ledger
from tools.ledger import Call
from tools.scope import Scope
from tools.spec import Effect, ToolContext, tool

T = TypeVar("T")

LEASE = timedelta(hours=1)
"""Leases lapse when the machine says so, and at no other time."""
VERSION = "v1"
LAPSE = "UPDATE casework.executions SET lease_until = now() - interval '1 s' WHERE execution_id = :x"
EFFECTS = {"keyed": Effect.KEYED, "once": Effect.AT_MOST_ONCE, "local": Effect.TRANSACTIONAL}
CLEAN = """SET LOCAL session_replication_role = replica;
    DELETE FROM casework.votes; DELETE FROM casework.approvals; DELETE FROM casework.effects;
    DELETE FROM casework.events; DELETE FROM casework.runs; DELETE FROM casework.executions;
    DELETE FROM casework.audit; DELETE FROM casework.audit_head"""


@dataclass
class Parts:
    """The code under test, on a database of its own, and a loop to run it in."""

    loop: asyncio.AbstractEventLoop
    resources: Resources
    queue: NoQueue
    store: Store
    legs: Legs
    decisions: Decisions
    book: Path

    @property
    def engine(self) -> AsyncEngine:
        return self.resources.engine


@contextmanager
def parts(settings: Settings, book: Path, legs: type[Legs] = Legs) -> Iterator[Parts]:
    """Open until left. `legs` may be a broken kind."""
    assert settings.database_url is not None
    url, queue = settings.database_url.get_secret_value(), NoQueue()
    loop, stack = asyncio.new_event_loop(), AsyncExitStack()
    try:
        resources = loop.run_until_complete(stack.enter_async_context(open_resources(settings, url)))
        engine, pool = resources.engine, resources.pool
        store, decisions = Store(engine, pool, queue), Decisions(engine, queue)
        yield Parts(loop, resources, queue, store, legs(engine, pool, queue), decisions, book)
    finally:
        loop.run_until_complete(stack.aclose())
        loop.close()


@dataclass(eq=False)
class Held:
    """A leg that some worker believes it has."""

    case: Case
    leg: Leg
    owner: str
    todo: list[Question]
    """Answers it was fed and has not acted on yet."""
    pending: list[Question]
    """What the graph had asked and was not fed an answer to."""
    fresh: list[Question] = field(default_factory=list)
    """What it asks now."""

    @property
    def fence(self) -> int:
        return self.leg.fence

    @property
    def stale(self) -> bool:
        return self.case.fence != self.leg.fence


class Play:
    """What the machine's rules are made of: each does one thing to the code and to the model, and compares."""

    parts: Parts

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.held: list[Held] = []
        self.sent: Counter[str] = Counter()
        """Calls that reached the provider, by the key it was given."""
        self.numbers = count(1)
        self.parts.queue.woken.clear()
        self._execute(CLEAN)

    def _ask(self, held: Held, kind: str, votes: int) -> None:
        number = next(self.numbers)
        call_id = None if kind == "foreign" else f"{kind}-asked{number}"
        allowed = ("approve", "edit", "reject", "respond") if call_id else ("respond",)
        held.fresh.append(self._question(held.case, Kind.CALL, call_id, 5, allowed, 1 if call_id is None else votes))

    @property
    def _pending(self) -> list[Question]:
        return [question for question in self.model.questions if question.state is ApprovalState.PENDING]

    def _neglected(self) -> bool:
        cases = self.model.cases
        return any(c.claimable or c.delayed or c.refused for c in cases) or any(q.overdue for q in self._pending)

    def _cancel(self, case: Case, actor: Actor) -> None:
        self._agree(self.model.cancel(actor, case), self._do(self.parts.store.cancel(actor, case.execution_id)))

    def _lapse(self, case: Case) -> None:
        self._execute(LAPSE, x=case.execution_id)
        case.lapsed = True

    def _let_the_delay_pass(self, case: Case) -> None:
        self._execute("UPDATE casework.executions SET wake_at = now() WHERE execution_id = :x", x=case.execution_id)
        case.delayed = False

    def _overdue(self, question: Question) -> None:
        past = "UPDATE casework.approvals SET expires_at = now() - interval '1 s' WHERE approval_id = :a"
        self._execute(past, a=question.approval_id)
        question.overdue = next(self.numbers)

    def _beat(self, held: Held) -> None:
        lost = self._do(self.parts.legs.beat(held.owner, LEASE, {held.case.execution_id: held.fence}))
        expected = self.model.beat(held.case, held.owner, held.fence)
        assert lost == ({held.case.execution_id} if expected else set())

    def _release(self, held: Held, *, delayed: bool, counted: bool) -> None:
        delay = LEASE if delayed else timedelta(0)
        self._agree(
            self.model.release(held.case, held.fence, delayed=delayed, counted=counted),
            self._do(self.parts.legs.release(held.leg, "tried in vain", delay, counted=counted)),
        )
        self.held.remove(held)

    def _heal(self) -> None:
        found = self._do(self.parts.legs.forgotten(timedelta(0)))
        assert set(found) == self.model.forgotten()
        self._do(self.parts.legs.wake(found))
        for case in self.model.cases:
            case.wakes += case.execution_id in found

    def _reopen(self, deployed: str) -> None:
        found = self._do(self.parts.legs.reopen({deployed}))
        assert set(found) == (self.model.reopen() if deployed == VERSION else set())

    def _advance(self, case: Case) -> None:
        """One leg without trouble."""
        if case.status is Status.RUNNING and not case.lapsed:
            self._lapse(case)
        if case.delayed:
            self._let_the_delay_pass(case)
        held = self._claim(case, "last")
        assert held is not None
        for call_id in case.effects_in("started"):
            self._send(held, call_id, case.effects[call_id].amount, "done")
        while held.todo:
            self._take_up(held, "done")
        self._doubts(held)
        waits = bool(held.pending or held.fresh) and not case.cancel_requested
        self._finish(held, Status.WAITING if waits else Status.CANCELLED if case.cancel_requested else Status.SUCCEEDED)

    def _claim(self, case: Case, owner: str) -> Held | None:
        leg = self._do(self.parts.legs.claim(case.execution_id, owner, LEASE))
        expected = self.model.claim(case, owner)
        assert (leg and (leg.kind, leg.attempt, leg.fence)) == expected
        if leg is None:
            return None
        assert leg.execution.cancel_requested is case.cancel_requested
        fed = {answered.interrupt_id for answered in self._do(self.parts.legs.answered(case.execution_id))}
        todo = [question for question in case.questions if question.waits_to_be_applied]
        assert fed == {question.interrupt_id for question in todo}
        pending = [question for question in case.questions if not question.applied and question not in todo]
        held = Held(case, leg, owner, todo, pending)
        self.held.append(held)
        return held

    def _finish(self, held: Held, status: Status, *, refused: bool = False) -> None:
        waiting = [*held.pending, *held.fresh] if status is Status.WAITING else []
        still = {q.interrupt_id for q in (held.todo if refused else waiting)}
        checked = [q for q in held.fresh if q.kind is Kind.CALL and q.call_id]
        noted = [NewEvent("call.checked", {"call_id": q.call_id, "verdict": "needs_approval"}) for q in checked]
        ending = Ending(
            status,
            error="the graph changed" if refused else None,
            questions=[] if refused else [_row(question) for question in waiting],
            events=noted,
        )
        ended = self._do(self.parts.legs.finish(held.leg, ending, still))
        self._agree(self.model.finish(held.case, held.fence, status, held.fresh, still, refused), ended)
        self.held.remove(held)

    def _take_up(self, held: Held, came: str) -> None:
        question = held.todo.pop(0)
        if question.call_id is None or question.answer is None:
            return
        match question.state:
            case "approved":
                self._send(held, question.call_id, question.amount, came)
            case "did_not_happen":
                self._send(held, question.call_id, question.amount, came, question.attempt)
            case "happened":
                assert question.attempt is not None
                call, scope = self._call(held, question.call_id, question.amount)
                confirming = ledger.confirm(call, scope, question.attempt, "re_1")
                expected = self.model.confirm(held.case, held.fence, question.call_id, question.attempt)
                self._agree(expected, self._do(confirming))

    def _send(self, held: Held, call_id: str, amount: int, came: str, doubted: int | None = None) -> None:
        call, scope = self._call(held, call_id, amount)
        if call.tool.effect is Effect.TRANSACTIONAL:
            came = {"unknown": "failed", "overtaken": "crash"}.get(came, came)
            expected = self.model.transact(held.case, held.fence, call_id, amount, came)
            self._agree(expected, self._do(ledger.transact(_that_ends(call, came), scope, _allowed)))
        else:

            async def run(attempt: int) -> dict[str, Any]:
                return await self._provider(held.case, scope.key(call_id, attempt), came)

            found = self._do(ledger.send(call, scope, _allowed, run, doubted))
            effect = call.tool.effect
            expected = self.model.send(held.case, held.fence, call_id, amount, effect, came, doubted)
            self._agree(expected, found)
        if expected is Crash:
            self.held.remove(held)  # its process is dead; the lease runs on

    async def _provider(self, case: Case, key: str, came: str) -> dict[str, Any]:
        self.sent[key] += 1
        if came == "failed":
            raise ToolFailed("refused")
        if came == "unknown":
            raise OutcomeUnknown("no answer")
        if came == "crash":
            raise Crash
        if came == "overtaken":
            async with self.parts.engine.begin() as db:
                await db.execute(text(LAPSE), {"x": case.execution_id})
            await self.parts.legs.claim(case.execution_id, "overtaker", LEASE)
        return {"paid": key}

    def _call(self, held: Held, call_id: str, amount: int) -> tuple[Call, Scope]:
        effect = next(effect for name, effect in EFFECTS.items() if call_id.startswith(name))
        args = PayArgs(amount=amount)
        call = Call(call_id, tool(effect=effect, permission="pay")(pay), args, digest_of("pay", args.model_dump()))
        requester = Actor(actor_id=held.case.requester)
        return call, Scope(held.case.execution_id, requester, held.fence, Mode.AUTONOMOUS, self.parts.resources)

    def _doubts(self, held: Held) -> None:
        """Ask about every effect that nobody knows the outcome of, once for each attempt."""
        asked = {(question.call_id, question.attempt) for question in [*held.case.questions, *held.fresh]}
        for call_id in held.case.effects_in("unknown"):
            effect = held.case.effects[call_id]
            if (call_id, effect.attempt) not in asked:
                allowed = ("happened", "did_not_happen", "stop")
                doubt = self._question(held.case, Kind.OUTCOME, call_id, effect.amount, allowed, 1, effect.attempt)
                held.fresh.append(doubt)

    def _question(
        self,
        case: Case,
        kind: Kind,
        call_id: str | None,
        amount: int,
        allowed: tuple[str, ...],
        votes: int,
        attempt: int | None = None,
    ) -> Question:
        interrupt_id = f"i{next(self.numbers)}"
        digest = digest_of("pay", {"amount": amount})
        approval_id = approval_id_of(case.execution_id, interrupt_id, digest)
        return Question(approval_id, interrupt_id, case, kind, call_id, amount, digest, allowed, votes, attempt)

    def _run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self.parts.loop.run_until_complete(doing)

    def _do(self, doing: Coroutine[Any, Any, T]) -> T | type[BaseException]:
        """What it returned, or the class of what it raised."""

        async def caught() -> T | type[BaseException]:
            try:
                return await doing
            except (CaseworkError, Crash) as error:
                return type(error)

        return self._run(caught())

    def _execute(self, statement: str, **values: Any) -> None:
        async def execute() -> None:
            async with self.parts.engine.begin() as db:
                for part in statement.split(";"):
                    await db.execute(text(part), values)

        self._run(execute())

    def _agree(self, expected: Any, found: Any) -> None:
        """An error where one is due and no other; a status where one is due."""
        if isinstance(found, type) or isinstance(expected, type | Status):
            assert found is expected or found == expected, f"the model: {expected}; the code: {found}"


async def pay(args: PayArgs, ctx: ToolContext) -> dict[str, Any]:
    """Pay."""
    return {"paid": args.amount}


async def _allowed(db: AsyncConnection) -> None:
    """The gate's second look: yes."""


def _that_ends(call: Call, came: str) -> Call:
    """The same transactional call, whose tool ends so."""

    async def ended(args: PayArgs, ctx: ToolContext) -> dict[str, Any]:
        """Pay."""
        if came == "crash":
            raise Crash
        if came == "failed":
            raise ToolFailed("refused")
        return {"paid": args.amount}

    return Call(call.call_id, tool(effect=Effect.TRANSACTIONAL, permission="pay")(ended), call.args, call.digest)


def _row(question: Question) -> dict[str, Any]:
    """As a run hands it to `finish`."""
    return {
        "approval_id": question.approval_id,
        "interrupt_id": question.interrupt_id,
        "graph_version": VERSION,
        "node": "handle_call",
        "kind": question.kind,
        "doubt": None,
        "tool": "pay" if question.call_id else None,
        "tool_call_id": question.call_id,
        "args": {"amount": question.amount},
        "digest": question.digest,
        "description": f"pay {question.amount}",
        "reasons": ["it asks"],
        "role": Role.APPROVER,
        "votes_needed": question.votes_needed,
        "allowed": list(question.allowed),
        "response_schema": None,
        "specialist": "tester",
        "thought": "",
        "expires_at": datetime.now(UTC) + LEASE,
    }
