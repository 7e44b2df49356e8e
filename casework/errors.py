"""Every error of ours, by who must react to it.

    CaseworkError
    ├── ToolError                the model: it is told, and may adapt
    │   ├── ArgumentsInvalid
    │   ├── CallRefused
    │   └── ToolFailed
    ├── OutcomeUnknown           a person: nobody knows whether the effect happened
    ├── WorkerSignal             the worker: it stops this run and writes nothing more
    │   ├── LostLease
    │   ├── CancelRequested
    │   ├── RunTimedOut
    │   └── RunAbandoned
    ├── CallerError              the caller of the API or a page (4xx)
    │   ├── NotSignedIn (401)  NotAllowed (403)  NotFound (404)
    │   ├── InputInvalid (422)   TooManyTries (429)
    │   └── Conflict (409)       IdempotencyKeyReused, ApprovalDecided, ApprovalExpired,
    │                            ApprovalSuperseded, DigestStale, ExecutionOver,
    │                            TakesNoMessages, MessagesUnread, NameTaken, NotWithPeople,
    │                            OwnedByAnother, CallUnderWay
    └── OperatorError            whoever runs the service (5xx, or a refusal to start)
        ├── SettingsInvalid
        ├── GraphInvalid
        ├── GraphChanged
        └── LedgerMismatch

A class's docstring is its default message and says what to do next.
"""

from __future__ import annotations

import inspect
import math
from datetime import timedelta

from casework.secrecy import redacted


class CaseworkError(Exception):
    """Something in Casework went wrong."""

    def __init__(self, message: str | None = None) -> None:
        self.message = redacted(message or inspect.cleandoc(self.__doc__ or type(self).__name__))
        super().__init__(self.message)


class ToolError(CaseworkError):
    """The tool call did not succeed."""


class ArgumentsInvalid(ToolError):
    """The arguments do not fit the tool's schema. Correct them and call again."""


class CallRefused(ToolError):
    """This call is not allowed here. Choose another way, or escalate."""


class ToolFailed(ToolError):
    """The tool failed, and nothing was changed."""


class OutcomeUnknown(CaseworkError):
    """The call was sent, but its outcome is not known. A person must check whether it happened."""

    def __init__(self, message: str | None = None, *, reference: str | None = None) -> None:
        super().__init__(message)
        self.reference = reference
        """The provider's id of what was asked for, to look it up by; None when it gave none."""


class WorkerSignal(CaseworkError):
    """This run must stop here."""


class LostLease(WorkerSignal):
    """Another worker owns this execution now. Nothing more may be written by this run."""


class CancelRequested(WorkerSignal):
    """The execution was cancelled. No further effect may begin."""


class RunTimedOut(WorkerSignal):
    """The run took longer than CASEWORK_RUN_TIMEOUT allows, and was stopped."""


class RunAbandoned(WorkerSignal):
    """No try of this run came to an end: their workers were killed, or froze."""


class CallerError(CaseworkError):
    """The request cannot be fulfilled."""

    status = 400
    code = "bad_request"

    def __init__(self, message: str | None = None, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field
        """The request field at fault, as a dotted path; None when no single field is."""


class NotSignedIn(CallerError):
    """Send a valid API key as "Authorization: Bearer <key>", or sign in at /sign-in."""

    status = 401
    code = "not_signed_in"


class NotAllowed(CallerError):
    """Your roles do not allow this."""

    status = 403
    code = "not_allowed"


class NotFound(CallerError):
    """There is no such thing, or it is not yours to see."""

    status = 404
    code = "not_found"


class InputInvalid(CallerError):
    """The input is not valid."""

    status = 422
    code = "input_invalid"


class TooManyTries(CallerError):
    """Too many attempts to sign in."""

    status = 429
    code = "too_many_tries"

    def __init__(self, wait: timedelta) -> None:
        self.wait_s = max(1, math.ceil(wait.total_seconds()))
        """When to come back."""
        minutes = math.ceil(self.wait_s / 60)
        super().__init__(f"Too many attempts to sign in. Try again in {minutes} minute{'s' * (minutes > 1)}.")


class Conflict(CallerError):
    """The request conflicts with how things stand now. Read them again first."""

    status = 409
    code = "conflict"


class IdempotencyKeyReused(Conflict):
    """This Idempotency-Key was already used with another request. Use a new key."""

    code = "idempotency_key_reused"


class ApprovalDecided(Conflict):
    """This approval was already decided. Reload to see by whom."""

    code = "approval_decided"


class ApprovalExpired(Conflict):
    """This approval's deadline has passed. It can no longer be decided."""

    code = "approval_expired"


class ApprovalSuperseded(Conflict):
    """This approval no longer matters: its execution went on or ended without it."""

    code = "approval_superseded"


class DigestStale(Conflict):
    """The arguments changed since you saw them. Reload, read them again, and decide on those."""

    code = "digest_stale"


class ExecutionOver(Conflict):
    """This execution has already ended."""

    code = "execution_over"


class TakesNoMessages(Conflict):
    """This workflow takes no messages about an execution that was started. Start a new execution."""

    code = "takes_no_messages"


class MessagesUnread(Conflict):
    """Too many messages wait to be read already. Send the next one when some of them were."""

    code = "messages_unread"


class NameTaken(Conflict):
    """There is somebody of this name already."""

    code = "name_taken"


class NotWithPeople(Conflict):
    """This case is not with people: its agents have it, or it has ended. Take it over first."""

    code = "not_with_people"


class OwnedByAnother(Conflict):
    """Somebody else has this case. Assign it to yourself first, and tell them."""

    code = "owned_by_another"


class CallUnderWay(Conflict):
    """A call of this case was sent and its outcome is not known yet. Wait for it, or say what became of it, first."""

    code = "call_under_way"


class OperatorError(CaseworkError):
    """The service cannot do this as it is set up."""


class SettingsInvalid(OperatorError):
    """A setting is missing or wrong."""


class GraphInvalid(OperatorError):
    """A workflow named in langgraph.json cannot be loaded."""


class GraphChanged(OperatorError):
    """The graph changed since this execution paused. Deploy the version it paused in to resume it."""


class LedgerMismatch(OperatorError):
    """A recorded effect's key came back with other arguments. Stopped: look at the ledger and the audit."""
