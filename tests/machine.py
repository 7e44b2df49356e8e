"""A machine that does anything, in any order, to a few executions, and holds the database against a plain model.

The graph is played: it makes calls, asks about some, takes up the answers. Workers come and go, people click.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from casework.actor import Actor, Role
from casework.approval import Decision, digest_of
from casework.decisions import Revision
from casework.execution import Mode, Status
from tests.comparison import as_it_is, as_modelled, differences
from tests.playing import EFFECTS, VERSION, Held, Parts, Play
from tests.soundness import broken, broken_at_any_time

T = TypeVar("T")

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


class Machine(Play, RuleBasedStateMachine):
    """Made by `machine_on`, which gives it its parts."""

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
        self._claim(prefer(self.model.cases, which, lambda case: case.claimable), owner)

    @precondition(lambda self: self.held)
    @rule(which=ANY, kind=CALLED, number=st.integers(1, 2), amount=AMOUNTS, came=CAME)
    def act(self, which: int, kind: str, number: int, amount: int, came: str) -> None:
        """A call that nobody need be asked about."""
        self._send(self._leg(which), f"{kind}{number}", amount, came)

    @precondition(lambda self: any(held.todo for held in self.held))
    @rule(which=ANY, came=CAME)
    def take_up(self, which: int, came: str) -> None:
        """What a fed answer makes of its call."""
        self._take_up(nth([held for held in self.held if held.todo], which), came)

    @precondition(lambda self: self.held)
    @rule(which=ANY, kind=ASKED, votes=VOTES)
    def ask(self, which: int, kind: str, votes: int) -> None:
        self._ask(self._leg(which), kind, votes)

    @precondition(lambda self: any(case.claimable for case in self.model.cases))
    @rule(which=ANY, kind=ASKED, came=CAME, votes=VOTES)
    def run_a_leg(self, which: int, kind: str, came: str, votes: int) -> None:
        """A whole leg in one go: it takes up its answers, and asks about a call."""
        held = self._claim(nth([case for case in self.model.cases if case.claimable], which), "w3")
        assert held is not None
        while held.todo and held in self.held and not held.stale:
            self._take_up(held, came)
        if held in self.held and not held.stale and may_rest(held):
            self._ask(held, kind, votes)
            self._doubts(held)
            self._finish(held, Status.WAITING)

    @precondition(lambda self: any(may_rest(held) for held in self.held))
    @rule(which=ANY)
    def finish_waiting(self, which: int) -> None:
        held = prefer([held for held in self.held if may_rest(held)], which, lambda held: not held.stale)
        self._doubts(held)
        if not held.pending and not held.fresh:  # a graph that waits waits for something
            self._ask(held, "keyed", 1)
        self._finish(held, Status.WAITING)

    @precondition(lambda self: any(may_rest(held) for held in self.held))
    @rule(which=ANY, status=st.sampled_from([Status.SUCCEEDED, Status.ESCALATED, Status.FAILED, Status.CANCELLED]))
    def finish(self, which: int, status: Status) -> None:
        held = prefer([held for held in self.held if may_rest(held)], which, lambda held: not held.stale)
        held.fresh.clear()
        self._finish(held, status)

    @precondition(lambda self: any(held.todo for held in self.held))
    @rule(which=ANY)
    def refuse_to_resume(self, which: int) -> None:
        """The graph is another one now: the answers stay for the version that can take them up."""
        held = nth([held for held in self.held if held.todo], which)
        held.fresh.clear()
        self._finish(held, Status.WAITING, refused=True)

    @precondition(lambda self: self.model.cases)
    @rule(which=ANY, trouble=st.sampled_from(["lapse", "lapse", "release", "deadline", "beat", "cancel"]))
    def trouble(self, which: int, trouble: str) -> None:
        """What hits anybody at any time."""
        running = [case for case in self.model.cases if case.status is Status.RUNNING]
        if trouble == "lapse" and running:
            self._lapse(nth(running, which))
        elif trouble == "release" and self.held:
            self._release(self._leg(which), delayed=which % 2 == 0, counted=which % 3 == 0)
        elif trouble == "deadline" and self._pending:
            self._overdue(nth(self._pending, which))
        elif trouble == "beat" and self.held:
            self._beat(nth(self.held, which))
        elif trouble == "cancel":
            self._cancel(nth(self.model.cases, which), STRANGER if which == 0 else OLGA)

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
        question = nth(self.model.questions if slip == "closed" or not self._pending else self._pending, which)
        if slip != "unfit" and said not in question.allowed:
            said = nth(question.allowed, which)
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

    def _leg(self, which: int) -> Held:
        """A live one mostly."""
        return prefer(self.held, which, lambda held: not held.stale)

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


def machine_on(opened: Parts) -> type[Machine]:
    return type("MachineOnParts", (Machine,), {"parts": opened})


def nth(items: Sequence[T], which: int) -> T:
    return items[which % len(items)]


def prefer(items: Sequence[T], which: int, fit: Callable[[T], bool]) -> T:
    """Mostly one that fits, if there is any."""
    fitting = [item for item in items if fit(item)]
    return nth(fitting if fitting and which % 4 else items, which)


def may_rest(held: Held) -> bool:
    """A graph rests when its calls are answered; one that has lost its lease may try anything."""
    return held.stale or not (held.todo or held.case.effects_in("started"))
