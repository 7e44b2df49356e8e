"""A machine that does anything, in any order, to a few executions, and holds the database against a plain model.

The graph is played here: it makes calls, asks about some, takes up the answers. Workers come and go, people click.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework.actor import Actor, Role
from casework.approval import ApprovalState, Decision, Kind, approval_id_of, digest_of
from casework.decisions import Decisions, Revision
from casework.errors import CaseworkError, OutcomeUnknown, ToolFailed
from casework.execution import Mode, Status
from casework.journal import NewEvent
from casework.legs import Ending, Leg, Legs
from casework.resources import Resources, open_resources
from casework.settings import Settings
from casework.store import Store
from tests.comparison import as_it_is, as_modelled, differences
from tests.outside import PayArgs
from tests.plain_model import Case, Crash, Model, Question
from tests.rig import NoQueue
from tests.soundness import broken, broken_at_any_time
from tools import ledger
from tools.ledger import Call
from tools.scope import Scope
from tools.spec import Effect, ToolContext, tool

T = TypeVar("T")

LEASE = timedelta(hours=1)
"""Leases lapse when the machine says so, and at no other time."""
VERSION = "v1"
LAPSE = "UPDATE casework.executions SET lease_until = now() - interval '1 s' WHERE execution_id = :x"
CASES = 3
"""At most, in one example: few enough for their steps to meet."""

OLGA = Actor(actor_id="olga", roles=frozenset({Role.OPERATOR}))
ANN = Actor(actor_id="ann", roles=frozenset({Role.OPERATOR, Role.APPROVER}))
APPROVERS = [Actor(actor_id=name, roles=frozenset({Role.APPROVER})) for name in ("ada", "ben")]
BOT = Actor(actor_id="bot", roles=frozenset({Role.SERVICE, Role.APPROVER}))
STRANGER = Actor(actor_id="ada", tenant="elsewhere", roles=frozenset(Role))

ANY = st.integers(0, 11)
"""Which of those there are: the n-th, counted round."""
STARTERS = st.sampled_from([OLGA, ANN])
DECIDERS = st.sampled_from([*APPROVERS * 4, ANN, OLGA, BOT, STRANGER])
AMOUNTS = st.sampled_from([5, 5, 5, 6])
CAME = st.sampled_from(["done", "done", "unknown", "unknown", "failed", "crash", "overtaken"])
EFFECTS = {"keyed": Effect.KEYED, "once": Effect.AT_MOST_ONCE, "local": Effect.TRANSACTIONAL}
CALLED = st.sampled_from([*EFFECTS])
ASKED = st.sampled_from(["keyed", "keyed", "once", "foreign"])
VOTES = st.sampled_from([1, 1, 2])
ANSWERS = {
    "approve": {},
    "reject": {"reason": "no"},
    "respond": {"message": "ask them first"},
    "edit": {},
    "happened": {"reference": "re_1"},
    "did_not_happen": {},
    "stop": {"reason": "it is looked into"},
}
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
        engine = resources.engine
        yield Parts(loop, resources, queue, Store(engine, queue), legs(engine, queue), Decisions(engine, queue), book)
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


class Machine(RuleBasedStateMachine):
    """Made by `machine_on`, which gives it its parts."""

    parts: Parts

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.held: list[Held] = []
        self.sent: Counter[str] = Counter()
        """Calls that reached the provider, by the key it was given."""
        self.done: set[str] = set()
        """What the provider did: once per key, as a good one does."""
        self.numbers = count(1)
        self.parts.queue.woken.clear()
        self._execute(CLEAN)

    # Callers

    @initialize(actors=st.lists(STARTERS, min_size=1, max_size=CASES - 1))
    def begin(self, actors: list[Actor]) -> None:
        for actor in actors:
            self.create(actor, "a", None)

    @precondition(lambda self: len(self.model.cases) < CASES or self.model.keys)
    @rule(actor=STARTERS, goal=st.sampled_from(["a", "b"]), key=st.sampled_from([None, "k1", "k2"]))
    def create(self, actor: Actor, goal: str, key: str | None) -> None:
        if len(self.model.cases) >= CASES and (actor.actor_id, key) not in self.model.keys:
            return
        made = self._do(self.parts.store.create(actor, "pay", VERSION, Mode.AUTONOMOUS, {"goal": goal}, key))
        execution_id = made[0].execution_id if isinstance(made, tuple) else uuid4()
        expected = self.model.create(execution_id, actor.actor_id, goal, key)
        if isinstance(expected, tuple):
            assert isinstance(made, tuple), made
            assert (made[0].execution_id, made[1]) == (expected[0].execution_id, expected[1])
        else:
            assert made is expected, made

    # Workers

    @precondition(lambda self: self.model.cases)
    @rule(which=ANY, owner=st.sampled_from(["w1", "w2"]))
    def claim(self, which: int, owner: str) -> None:
        self._claim(_prefer(self.model.cases, which, lambda case: case.claimable), owner)

    @precondition(lambda self: self.held)
    @rule(which=ANY, kind=CALLED, number=st.integers(1, 2), amount=AMOUNTS, came=CAME)
    def act(self, which: int, kind: str, number: int, amount: int, came: str) -> None:
        """A call that nobody need be asked about."""
        self._send(self._leg(which), f"{kind}{number}", amount, came)

    @precondition(lambda self: any(held.todo for held in self.held))
    @rule(which=ANY, came=CAME)
    def take_up(self, which: int, came: str) -> None:
        """What a fed answer makes of its call."""
        self._take_up(_nth([held for held in self.held if held.todo], which), came)

    @precondition(lambda self: self.held)
    @rule(which=ANY, kind=ASKED, votes=VOTES)
    def ask(self, which: int, kind: str, votes: int) -> None:
        self._ask(self._leg(which), kind, votes)

    @precondition(lambda self: any(case.claimable for case in self.model.cases))
    @rule(which=ANY, kind=ASKED, came=CAME, votes=VOTES)
    def run_a_leg(self, which: int, kind: str, came: str, votes: int) -> None:
        """A whole leg in one go: it takes up its answers, and asks about a call."""
        held = self._claim(_nth([case for case in self.model.cases if case.claimable], which), "w3")
        assert held is not None
        while held.todo and held in self.held and not held.stale:
            self._take_up(held, came)
        if held in self.held and not held.stale and _may_end(held):
            self._ask(held, kind, votes)
            self._doubts(held)
            self._finish(held, Status.WAITING)

    @precondition(lambda self: any(_may_end(held) for held in self.held))
    @rule(which=ANY)
    def finish_waiting(self, which: int) -> None:
        held = _prefer([held for held in self.held if _may_end(held)], which, lambda held: not held.stale)
        self._doubts(held)
        if not held.pending and not held.fresh:  # a graph that waits waits for something
            self._ask(held, "keyed", 1)
        self._finish(held, Status.WAITING)

    @precondition(lambda self: any(_may_end(held) for held in self.held))
    @rule(which=ANY, status=st.sampled_from([Status.SUCCEEDED, Status.ESCALATED, Status.FAILED, Status.CANCELLED]))
    def finish(self, which: int, status: Status) -> None:
        held = _prefer([held for held in self.held if _may_end(held)], which, lambda held: not held.stale)
        held.fresh.clear()
        self._finish(held, status)

    @precondition(lambda self: any(held.todo for held in self.held))
    @rule(which=ANY)
    def refuse_to_resume(self, which: int) -> None:
        """The graph is another one now: the answers stay for the version that can take them up."""
        held = _nth([held for held in self.held if held.todo], which)
        held.fresh.clear()
        self._finish(held, Status.WAITING, refused=True)

    @precondition(lambda self: self.model.cases)
    @rule(which=ANY, trouble=st.sampled_from(["lapse", "lapse", "release", "deadline", "beat", "cancel"]))
    def trouble(self, which: int, trouble: str) -> None:
        """What hits anybody at any time."""
        running = [case for case in self.model.cases if case.status is Status.RUNNING]
        if trouble == "lapse" and running:
            self._lapse(_nth(running, which))
        elif trouble == "release" and self.held:
            self._release(self._leg(which), delayed=which % 2 == 0, counted=which % 3 == 0)
        elif trouble == "deadline" and self._pending:
            self._overdue(_nth(self._pending, which))
        elif trouble == "beat" and self.held:
            self._beat(_nth(self.held, which))
        elif trouble == "cancel":
            self._cancel(_nth(self.model.cases, which), STRANGER if which == 0 else OLGA)

    @precondition(lambda self: self._neglected())
    @rule(what=st.sampled_from(["heal", "reopen", "reopen elsewhere", "expire", "wait"]))
    def tend(self, what: str) -> None:
        """What is done every few seconds."""
        match what:
            case "heal":
                self._heal()
            case "expire":  # one after the other, as several may end the same case
                assert self._do(self.parts.decisions.expire_due()) == self.model.expire_due()
            case "wait":
                for delayed in [case for case in self.model.cases if case.delayed]:
                    self._let_the_delay_pass(delayed)
            case _:
                self._reopen(VERSION if what == "reopen" else "v2")

    # People

    @precondition(lambda self: self.model.questions)
    @rule(
        which=ANY,
        actor=DECIDERS,
        said=st.sampled_from(["approve", *ANSWERS]),
        edit=st.tuples(st.sampled_from([5, 7]), st.integers(0, 2)),
        slip=st.sampled_from(["", "", "", "", "", "closed", "unfit", "stale"]),
    )
    def decide(self, which: int, actor: Actor, said: str, edit: tuple[int, int], slip: str) -> None:
        """`slip`: on a question that is closed, or with an answer it does not take, or on what it was before."""
        question = _nth(self.model.questions if slip == "closed" or not self._pending else self._pending, which)
        if slip != "unfit" and said not in question.allowed:
            said = _nth(question.allowed, which)
        amount, votes = edit
        digest = question.digest if slip != "stale" else digest_of("pay", {"amount": 1000})
        more = {"args": {"amount": amount}} if said == "edit" else ANSWERS[said]
        decision = Decision.model_validate({"type": said, "digest": digest, **more})
        new = digest_of("pay", {"amount": amount})
        revision = Revision({"amount": amount}, new, f"pay {amount}", ["edited"], votes) if said == "edit" else None
        self._agree(
            self.model.decide(actor, question, decision.root, revision),
            self._do(self.parts.decisions.decide(actor, question.approval_id, decision, revision)),
        )

    # What holds after every step

    @invariant()
    def the_model_and_the_database_agree(self) -> None:
        found = self._run(as_it_is(self.parts.engine, Counter(self.parts.queue.woken)))
        differs = [*differences(as_modelled(self.model), found)]
        assert not differs, "\n".join(differs)

    @invariant()
    def nothing_is_broken(self) -> None:
        assert self._run(broken_at_any_time(self.parts.engine)) == []
        twice = {key for key, times in self.sent.items() if times > 1}
        assert not {key for key in twice if "once" in key}, f"sent twice, and it cannot bear that: {twice}"

    def teardown(self) -> None:
        """Bring everything to rest, as workers and reconciler would: nothing is lost, doubled or left behind."""
        self.held.clear()
        self._reopen(VERSION)
        for case in self.model.cases:
            while case.status in (Status.QUEUED, Status.RUNNING):
                self._advance(case)
        self.the_model_and_the_database_agree()
        assert self._run(broken(self.parts.engine, self.parts.book)) == []

    # How it is done

    def _ask(self, held: Held, kind: str, votes: int) -> None:
        number = next(self.numbers)
        call_id = None if kind == "foreign" else f"{kind}-asked{number}"
        allowed = ("approve", "edit", "reject", "respond") if call_id else ("respond",)
        held.fresh.append(self._question(held.case, Kind.CALL, call_id, 5, allowed, 1 if call_id is None else votes))

    def _leg(self, which: int) -> Held:
        """A live one mostly."""
        return _prefer(self.held, which, lambda held: not held.stale)

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
        self.done.add(key)
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


def machine_on(opened: Parts) -> type[Machine]:
    return type("MachineOnParts", (Machine,), {"parts": opened})


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


def _nth(items: Sequence[T], which: int) -> T:
    return items[which % len(items)]


def _prefer(items: Sequence[T], which: int, fit: Callable[[T], bool]) -> T:
    """Mostly one that fits, if there is any."""
    fitting = [item for item in items if fit(item)]
    return _nth(fitting if fitting and which % 4 else items, which)


def _may_end(held: Held) -> bool:
    """A graph rests when its calls are answered; one that has lost its lease may try anything."""
    return held.stale or not (held.todo or held.case.effects_in("started"))


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
