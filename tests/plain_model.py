"""What the store, the legs, the decisions and the ledger must do, in plain Python: no database, no concurrency.

Every method does what its namesake in casework/ must do, and returns what that returns, or the class of the error that
it raises. tests/machine.py drives both and compares.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from casework.actor import Actor, Role
from casework.approval import Answer, ApprovalState, Approve, Edit, Kind
from casework.decisions import SETTLED, Revision
from casework.errors import (
    ApprovalDecided,
    ApprovalExpired,
    ApprovalSuperseded,
    CancelRequested,
    DigestStale,
    ExecutionOver,
    IdempotencyKeyReused,
    InputInvalid,
    LedgerMismatch,
    LostLease,
    NotAllowed,
    NotFound,
    OutcomeUnknown,
    ToolFailed,
)
from casework.execution import OVER, Status
from tools.spec import Effect

Refusal = type[Exception]


class Crash(BaseException):
    """The process died in the middle of a call."""


@dataclass
class Question:
    """One approval."""

    approval_id: UUID
    interrupt_id: str
    case: Case
    kind: Kind
    call_id: str | None
    """None: asked by a graph of somebody else's."""
    amount: int
    digest: str
    allowed: tuple[str, ...]
    votes_needed: int
    attempt: int | None = None
    """Of an outcome: the attempt in doubt."""
    state: ApprovalState = ApprovalState.PENDING
    votes: dict[str, str] = field(default_factory=dict)
    """Actor → the digest they saw."""
    edited_by: str | None = None
    decided_by: str | None = None
    answer: dict[str, object] | None = None
    applied: bool = False
    overdue: int | None = None
    """The how-manieth to be past its deadline."""

    @property
    def voters(self) -> list[str]:
        """Whose vote counts on the present arguments; an editor's own does not."""
        return sorted(who for who, seen in self.votes.items() if seen == self.digest and who != self.edited_by)

    @property
    def waits_to_be_applied(self) -> bool:
        return self.answer is not None and not self.applied


@dataclass
class MadeEffect:
    """One row of the ledger."""

    state: str
    amount: int
    attempt: int = 1


@dataclass
class Case:
    """One execution, with its legs, questions and effects."""

    execution_id: UUID
    requester: str
    status: Status = Status.QUEUED
    fence: int = 0
    owner: str | None = None
    lapsed: bool = False
    """Running, and past its lease."""
    delayed: bool = False
    """Queued, and not to be claimed yet."""
    cancel_requested: bool = False
    refused: bool = False
    """Its last leg could not be resumed: the graph had changed."""
    legs: list[tuple[str, int, str]] = field(default_factory=list)
    """Kind, attempt, status of each; `running` also between its attempts."""
    questions: list[Question] = field(default_factory=list)
    effects: dict[str, MadeEffect] = field(default_factory=dict)
    """By call id."""
    story: list[str] = field(default_factory=list)
    """Types of its events, in order."""
    wakes: int = 0

    @property
    def over(self) -> bool:
        return self.status in OVER

    @property
    def claimable(self) -> bool:
        return (self.status is Status.QUEUED and not self.delayed) or (self.status is Status.RUNNING and self.lapsed)

    def runs_under(self, fence: int) -> bool:
        return self.status is Status.RUNNING and self.fence == fence

    def effects_in(self, state: str) -> list[str]:
        return [call_id for call_id, effect in self.effects.items() if effect.state == state]

    def queue(self, *, delayed: bool = False) -> None:
        self.status, self.owner, self.lapsed, self.delayed = Status.QUEUED, None, False, delayed
        self.wakes += 1

    def rest(self, status: Status) -> None:
        """Waiting or over. What is over leaves nothing asked and no leg running."""
        self.status, self.owner, self.lapsed, self.delayed = status, None, False, False
        if self.over:
            for question in self.questions:
                if question.state is ApprovalState.PENDING:
                    question.state = ApprovalState.SUPERSEDED
                    self.story.append("approval.superseded")
            self.end_leg(status)

    def end_leg(self, status: Status) -> None:
        if self.legs and self.legs[-1][2] == Status.RUNNING:
            kind, attempt, _ = self.legs[-1]
            self.legs[-1] = (kind, attempt, status)


@dataclass
class Model:
    """Everything there is."""

    cases: list[Case] = field(default_factory=list)
    keys: dict[tuple[str, str], tuple[Case, str]] = field(default_factory=dict)
    """(requester, idempotency key) → what it started, and with which goal."""
    audit: list[str] = field(default_factory=list)
    """The acts, in order."""

    @property
    def questions(self) -> list[Question]:
        return [question for case in self.cases for question in case.questions]

    # Callers

    def create(self, execution_id: UUID, requester: str, goal: str, key: str | None) -> tuple[Case, bool] | Refusal:
        if key is not None and (requester, key) in self.keys:
            first, asked = self.keys[requester, key]
            return (first, False) if asked == goal else IdempotencyKeyReused
        case = Case(execution_id, requester, story=["execution.created"], wakes=1)
        self.cases.append(case)
        if key is not None:
            self.keys[requester, key] = (case, goal)
        return case, True

    def cancel(self, actor: Actor, case: Case) -> Refusal | None:
        if actor.tenant != "default":
            return NotFound
        if case.over:
            return ExecutionOver
        case.story.append("execution.cancel_requested")
        if case.status is Status.RUNNING or case.effects_in("started"):
            case.cancel_requested = True
            if case.status is not Status.RUNNING:  # what is under way is finished first
                case.queue()
        else:
            case.rest(Status.CANCELLED)
            case.story.append("execution.cancelled")
        self.audit.append("cancel")
        return None

    # Workers

    def claim(self, case: Case, owner: str) -> tuple[str, int, int] | None:
        """Kind, attempt and fence."""
        if not case.claimable:
            return None
        case.status, case.owner, case.lapsed = Status.RUNNING, owner, False
        case.fence += 1
        if case.legs and case.legs[-1][2] == Status.RUNNING:
            kind, attempt, _ = case.legs[-1]
            case.legs[-1] = (kind, attempt + 1, Status.RUNNING)
        else:
            case.legs.append(("resume" if case.legs else "start", 1, Status.RUNNING))
        case.story.append("run.started")
        return case.legs[-1][0], case.legs[-1][1], case.fence

    def beat(self, case: Case, owner: str, fence: int) -> bool:
        """Whether the lease is lost."""
        if case.owner == owner:
            case.lapsed = False
        return case.fence != fence

    def finish(
        self, case: Case, fence: int, status: Status, new: Sequence[Question], pending: Collection[str], refused: bool
    ) -> Status | Refusal:
        if not case.runs_under(fence):
            return LostLease
        if case.cancel_requested:
            status = Status.CANCELLED
        case.story += ["call.checked"] * len([q for q in new if q.kind is Kind.CALL and q.call_id])
        if status is Status.WAITING:
            case.questions += new
            case.story += ["approval.requested"] * len(new)
        for question in case.questions:
            if question.waits_to_be_applied and question.interrupt_id not in pending:
                question.applied = True
        unapplied = any(question.waits_to_be_applied for question in case.questions)
        case.refused = refused
        if status is Status.WAITING and unapplied and not refused:
            case.queue()
            case.end_leg(Status.QUEUED)
        else:
            case.rest(status)
            case.end_leg(status)
        case.story.append("run.finished")
        if case.status in (Status.FAILED, Status.CANCELLED):
            self._leave_unknown(case)
        return case.status

    def _leave_unknown(self, case: Case) -> None:
        """Nobody will carry on what was begun."""
        for call_id in case.effects_in("started"):
            case.effects[call_id].state = "unknown"
            case.story.append("effect.unknown")
            self.audit.append("effect.unknown")

    def release(self, case: Case, fence: int, *, delayed: bool, counted: bool) -> Refusal | None:
        if not case.runs_under(fence):
            return LostLease
        kind, attempt, status = case.legs[-1]
        case.legs[-1] = (kind, attempt if counted else attempt - 1, status)
        case.queue(delayed=delayed)
        case.story.append("run.released")
        return None

    def forgotten(self) -> set[UUID]:
        return {case.execution_id for case in self.cases if case.claimable}

    def reopen(self) -> set[UUID]:
        found = [c for c in self.cases if c.status is Status.WAITING and c.refused]
        found = [c for c in found if any(q.waits_to_be_applied for q in c.questions)]
        for case in found:
            case.queue()
        return {case.execution_id for case in found}

    # People

    def decide(self, actor: Actor, question: Question, answer: Answer, revision: Revision | None) -> Refusal | None:
        if actor.tenant != "default":
            return NotFound
        if question.state is ApprovalState.PENDING and question.overdue is not None:
            self.expire(question)
            return ApprovalExpired
        if question.state is not ApprovalState.PENDING:
            return self._closed(actor, question, answer)
        if actor.has(Role.SERVICE) or not actor.has(Role.APPROVER) or actor.actor_id == question.case.requester:
            return NotAllowed
        if answer.type not in question.allowed:
            return InputInvalid
        if answer.digest != question.digest:
            return DigestStale
        if isinstance(answer, Approve):
            return self._vote(actor, question)
        if isinstance(answer, Edit):
            assert revision is not None
            self._edit(actor, question, revision)
        else:
            self._settle(question, SETTLED.get(type(answer), ApprovalState.RESPONDED), actor.actor_id, answer)
        return None

    def expire_due(self) -> int:
        """One after the other: the first of several may end their case."""
        due = [(question.overdue, question) for question in self.questions if question.overdue is not None]
        ordered = [question for _, question in sorted(due, key=lambda one: one[0])]
        return sum(self.expire(question) for question in ordered if question.state is ApprovalState.PENDING)

    def expire(self, question: Question) -> int:
        case = question.case
        self._settle(question, ApprovalState.EXPIRED, "system", None)
        if question.call_id is None:
            case.fence += 1  # whoever runs it must not write over how it ended
            case.rest(Status.ESCALATED)
            case.story.append("execution.escalated")
        return 1

    def _closed(self, actor: Actor, question: Question, answer: Answer) -> Refusal | None:
        if question.decided_by == actor.actor_id and question.answer == answer.model_dump(mode="json"):
            return None
        known = {ApprovalState.EXPIRED: ApprovalExpired, ApprovalState.SUPERSEDED: ApprovalSuperseded}
        return known.get(question.state, ApprovalDecided)

    def _vote(self, actor: Actor, question: Question) -> Refusal | None:
        if actor.actor_id == question.edited_by:
            return NotAllowed
        if question.votes.get(actor.actor_id) == question.digest:
            return None
        question.votes[actor.actor_id] = question.digest
        if len(question.voters) >= question.votes_needed:
            self._settle(question, ApprovalState.APPROVED, actor.actor_id, None)
        else:
            question.case.story.append("approval.voted")
            self.audit.append("approval.vote")
        return None

    def _edit(self, actor: Actor, question: Question, revision: Revision) -> None:
        question.amount, question.digest = revision.args["amount"], revision.digest
        question.edited_by = actor.actor_id
        question.votes_needed = max(revision.votes, 1)
        question.votes.pop(actor.actor_id, None)
        question.case.story.append("approval.edited")
        self.audit.append("approval.edit")
        if revision.votes == 0:
            self._settle(question, ApprovalState.APPROVED, actor.actor_id, None)

    def _settle(self, question: Question, state: ApprovalState, by: str, answer: Answer | None) -> None:
        question.state, question.decided_by = state, by
        approved = {"type": "approve", "digest": question.digest}
        question.answer = answer.model_dump(mode="json") if answer is not None else approved
        question.case.story.append("approval.decided")
        if question.case.status is Status.WAITING:
            question.case.queue()
        self.audit.append(f"approval.{state}")

    # The ledger

    def begin(
        self, case: Case, fence: int, call_id: str, amount: int, doubted: int | None = None
    ) -> MadeEffect | Refusal | None:
        """Begin an effect of an outside tool. An effect: it was begun before; None: it is to be sent now."""
        if case.fence != fence:
            return LostLease
        effect = case.effects.get(call_id)
        if effect is not None and effect.amount != amount:
            return LedgerMismatch
        if effect is not None and (effect.state != "unknown" or effect.attempt != doubted):
            return effect
        if case.cancel_requested:
            return CancelRequested
        attempt = effect.attempt + 1 if effect is not None else 1
        case.effects[call_id] = MadeEffect("started", amount, attempt)
        case.story.append("effect.started")
        return None

    def end(self, case: Case, fence: int, call_id: str, state: str) -> Refusal | None:
        if case.fence != fence:
            return LostLease
        case.effects[call_id].state = state
        case.story.append(f"effect.{state}")
        self.audit.append(f"effect.{state}")
        return {"done": None, "failed": ToolFailed, "unknown": OutcomeUnknown}[state]

    def send(
        self, case: Case, fence: int, call_id: str, amount: int, kind: Effect, came: str, doubted: int | None = None
    ) -> Refusal | None:
        """`came`: what comes of it if it is sent: done, failed, unknown, crash, or overtaken (by another worker)."""
        begun = self.begin(case, fence, call_id, amount, doubted)
        if isinstance(begun, type):
            return begun
        if begun is not None and begun.state != "started":
            return {"done": None, "failed": ToolFailed, "unknown": OutcomeUnknown}[begun.state]
        if begun is not None and kind is Effect.AT_MOST_ONCE:
            return self.end(case, fence, call_id, "unknown")
        if came == "crash":
            return Crash
        if came == "overtaken":
            case.lapsed = True
            self.claim(case, "overtaker")
            return LostLease
        if begun is not None and came == "failed":  # says nothing about the try before it
            came = "unknown"
        return self.end(case, fence, call_id, came)

    def transact(self, case: Case, fence: int, call_id: str, amount: int, came: str) -> Refusal | None:
        if case.fence != fence:
            return LostLease
        effect = case.effects.get(call_id)
        if effect is not None:
            return LedgerMismatch if effect.amount != amount else None
        if case.cancel_requested:
            return CancelRequested
        if came != "done":
            return Crash if came == "crash" else ToolFailed
        case.effects[call_id] = MadeEffect("done", amount)
        return self.end(case, fence, call_id, "done")

    def confirm(self, case: Case, fence: int, call_id: str, doubted: int) -> Refusal | None:
        effect = case.effects[call_id]
        if effect.state == "unknown" and effect.attempt == doubted:
            return self.end(case, fence, call_id, "done")
        return {"done": None, "failed": ToolFailed}.get(effect.state, OutcomeUnknown)
