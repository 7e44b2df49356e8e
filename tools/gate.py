"""The gate every tool call passes, twice: `review` judges a proposal, `act` judges it again and makes it happen.

No model decides here. Arguments → tool list → permission → policies → mode → ledger → tool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from casework.approval import digest_of
from casework.database import DATABASE_AWAY
from casework.errors import (
    ArgumentsInvalid,
    CallRefused,
    OperatorError,
    OutcomeUnknown,
    ToolError,
    ToolFailed,
    WorkerSignal,
)
from casework.execution import Mode
from casework.patience import GRACE_S, within
from casework.telemetry import logger
from policies.verdict import Deny, NeedsApproval, Verdict, strictest
from tools import ledger
from tools.ledger import Call, Result
from tools.scope import Caller, Scope
from tools.spec import Effect, Tool, ToolContext, ToolFunction

log = logger(__name__)

MALFORMED = "__malformed__"
"""Key under which arguments that were not JSON travel, as the model wrote them."""


@dataclass(frozen=True)
class Review:
    """What the gate thinks of one proposed call."""

    call: Call
    verdict: Verdict
    """With the mode: what decides whether a person is asked."""
    policy: Verdict
    """Without the mode: what the rules alone say."""


async def review(caller: Caller, name: str, args: Mapping[str, Any], call_id: str, scope: Scope) -> Review:
    """Judge a proposed call. Raises ArgumentsInvalid (the call is broken), CallRefused (it is not allowed)."""
    call = _parse(caller, name, args, call_id)
    async with scope.resources.engine.connect() as db:
        policy = await _judge(caller, call, scope, db)
    if isinstance(policy, Deny):
        raise CallRefused(policy.reason)
    return Review(call, _with_mode(call.tool, policy, scope), policy)


async def act(
    caller: Caller,
    name: str,
    args: Mapping[str, Any],
    call_id: str,
    scope: Scope,
    approved_votes: int,
    doubted: int | None = None,
) -> Result:
    """Make a call happen, judging it again first: hours may have passed.

    `approved_votes`: how many people's approval stands behind exactly these arguments; 0 when none was needed.
    `doubted`: the attempt that a person said did not happen, when this is to be the next one.
    Raises ToolError (tell the model), OutcomeUnknown (a person must look), WorkerSignal (stop the run),
    OperatorError (stop and alarm), and what the database raises when it is gone (the run is tried again).
    """
    call = _parse(caller, name, args, call_id) if doubted is None else _parse_sent(caller, name, args, call_id)

    async def check(db: AsyncConnection) -> None:
        verdict = await _judge(caller, call, scope, db)
        if isinstance(verdict, Deny):
            raise CallRefused(verdict.reason)
        needed = _with_mode(call.tool, verdict, scope)
        if isinstance(needed, NeedsApproval) and needed.votes > approved_votes:
            raise CallRefused(f"not made: it needs a person's approval now ({needed.reason}); propose it again")

    match call.tool.effect:
        case Effect.READ:
            return await _guarded(call, scope, _read(call, scope))
        case Effect.TRANSACTIONAL:
            return await _guarded(call, scope, ledger.transact(call, scope, check))
        case _:
            sent = ledger.send(call, scope, check, lambda attempt: _outside(call, scope, attempt), doubted)
            return await _guarded(call, scope, sent)


async def confirm(
    caller: Caller, name: str, args: Mapping[str, Any], call_id: str, scope: Scope, doubted: int, reference: str
) -> Result:
    """Take a person's word that this attempt happened, under the provider's `reference`. Nothing is sent.

    Raises what `act` raises; OutcomeUnknown also when the tool does not find the reference to be this call's.
    """
    call = _parse_sent(caller, name, args, call_id)
    return await _guarded(call, scope, ledger.confirm(call, scope, doubted, reference))


async def _guarded(call: Call, scope: Scope, acting: Awaitable[Result]) -> Result:
    """Make one of the errors that `act` names of whatever a tool raises."""
    name = call.tool.name
    try:
        return await acting
    except OutcomeUnknown as unknown:
        if call.tool.effect.outside:
            raise
        raise ToolFailed(f"{unknown.message}; nothing was changed") from unknown
    except (ToolError, WorkerSignal, OperatorError):
        raise
    except DATABASE_AWAY:  # whether a commit arrived is not known: the run is tried again, and the ledger knows
        raise
    except Exception as error:
        if call.tool.effect.outside:
            log.exception("tool.crashed", tool=name, call_id=call.call_id)
            raise await ledger.doubt(call, scope, f"{name} broke off ({type(error).__name__})") from error
        if isinstance(error, TimeoutError):
            raise ToolFailed(f"{name} took longer than {call.tool.timeout_s:g} s; nothing was changed") from error
        log.exception("tool.crashed", tool=name, call_id=call.call_id)
        raise ToolFailed(f"{name} failed ({type(error).__name__}); nothing was changed") from error


def _parse(caller: Caller, name: str, args: Mapping[str, Any], call_id: str) -> Call:
    tool = caller.tools.get(name)
    if tool is None:
        raise ArgumentsInvalid(f"there is no tool {name!r} here; yours are {', '.join(sorted(caller.tools))}")
    if tool.permission not in caller.permissions:
        raise CallRefused(f"{caller.name} does not hold the permission {tool.permission}")
    if MALFORMED in args:
        raise ArgumentsInvalid(f"the arguments of {name} are not a JSON object; send them again, complete")
    try:
        parsed = tool.args.model_validate(dict(args))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors()[:5])
        raise ArgumentsInvalid(f"{name}: {problems}") from error
    return Call(call_id, tool, parsed, digest_of(name, parsed.model_dump(mode="json")))


def _parse_sent(caller: Caller, name: str, args: Mapping[str, Any], call_id: str) -> Call:
    """A call that was sent before. That it could no longer be proposed says nothing of whether it happened."""
    try:
        return _parse(caller, name, args, call_id)
    except ToolError as error:
        raise OutcomeUnknown(f"it cannot be settled here any more: {error.message}") from error


async def _judge(caller: Caller, call: Call, scope: Scope, db: AsyncConnection) -> Verdict:
    verdicts = [policy(call.tool.name, call.args, scope.actor) for policy in caller.policies]
    if call.tool.policy is not None:
        context = scope.context(call.call_id, db)
        facts = await _facts(call.tool.facts, call, context, db) if call.tool.facts is not None else None
        verdicts.append(call.tool.policy(call.args, scope.actor, facts))
    return strictest(verdicts)


async def _facts(load: ToolFunction, call: Call, context: ToolContext, db: AsyncConnection) -> Any:
    try:
        return await ledger.run_in(db, call, load(call.args, context))
    except TimeoutError as error:
        raise CallRefused(f"what {call.tool.name} is judged by could not be loaded in time") from error


def _with_mode(tool: Tool, policy: Verdict, scope: Scope) -> Verdict:
    """What the mode and the screening add to the rules. Reads, and handing over to a person, never ask."""
    if not tool.writes or not tool.asks:
        return policy
    asks: list[Verdict] = [policy]
    if scope.mode is Mode.COPILOT:
        asks.append(NeedsApproval("this workflow runs in copilot mode: every write asks"))
    if scope.suspicions:
        asks.append(NeedsApproval(f"the request may carry injected instructions: {', '.join(scope.suspicions)}"))
    return strictest(asks) if len(asks) > 1 else policy


async def _read(call: Call, scope: Scope) -> Result:
    async with _waiting(call), scope.resources.engine.connect() as db:
        return ledger.dump(await ledger.run_in(db, call, call.tool.run(call.args, scope.context(call.call_id, db))))


def _waiting(call: Call) -> asyncio.Timeout:
    """Around what waits for the database besides: a little longer than the tool itself may take."""
    return asyncio.timeout(call.tool.timeout_s + 2 * GRACE_S)


async def _outside(call: Call, scope: Scope, attempt: int) -> Result:
    """One outside call. What is neither a result nor a definite refusal may have happened: unknown."""
    try:
        running = call.tool.run(call.args, scope.context(call.call_id, None, attempt))
        return ledger.dump(await within(call.tool.timeout_s, running))
    except (ToolFailed, OutcomeUnknown):
        raise
    except ToolError as error:
        raise ToolFailed(error.message) from error
    except TimeoutError as error:
        raise OutcomeUnknown(f"{call.tool.name} did not answer within {call.tool.timeout_s:g} s") from error
    except Exception as error:
        log.exception("tool.crashed", tool=call.tool.name, call_id=call.call_id)
        raise OutcomeUnknown(
            f"{call.tool.name} broke off after it may have been sent ({type(error).__name__})"
        ) from error
