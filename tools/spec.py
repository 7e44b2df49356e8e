"""What a tool is: a typed async function with a declared effect class and permission.

    @tool(effect=Effect.KEYED, permission="refund:create", policy=refund_policy, facts=refund_facts)
    async def issue_refund(args: RefundArgs, ctx: ToolContext) -> Refund:
        \"\"\"Pay money back for one order. ...\"\"\"

The docstring is read by the model and by people; the fields of `args` carry their own descriptions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar, cast, get_type_hints
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from casework.actor import Actor
from casework.errors import GraphInvalid
from policies.verdict import Verdict
from tools.preview import Preview

Service = TypeVar("Service")


class Effect(StrEnum):
    """What a call does to the world, and so how it is made safe to repeat. A tool without one is not registered."""

    READ = "read"
    """Changes nothing; may repeat; not in the ledger."""
    TRANSACTIONAL = "transactional"
    """Writes our Postgres: fence, ledger and business write in one transaction, exactly once."""
    KEYED = "keyed"
    """Outside, honours an idempotency key: `started` is committed, then called with `ctx.key`, then `done`."""
    LOOKUP = "lookup"
    """Outside, findable by our reference: on a second try `find` looks first."""
    AT_MOST_ONCE = "at_most_once"
    """Outside, neither (mail, chat): never called again; found `started` means `unknown`."""

    @property
    def outside(self) -> bool:
        """Whether a call leaves our database, so that a crash can leave its outcome open."""
        return self in (Effect.KEYED, Effect.LOOKUP, Effect.AT_MOST_ONCE)


@dataclass(frozen=True)
class ToolContext:
    """What a tool may use besides its arguments. Made by the gate for one call."""

    execution_id: UUID
    call_id: str
    """The tool call's id; unique within the execution."""
    key: str
    """Idempotency key for an outside provider; the same on every try, until a person says that it did not happen."""
    case: Mapping[str, str]
    """Ids bound when the execution began (for the shop: customer_id, ticket_id). A model cannot change them."""
    actor: Actor
    """Who started the execution."""
    now: datetime
    """The clock's time, timezone-aware."""
    engine: AsyncEngine
    """For reads outside a transaction of ours, e.g. in a keyed tool."""
    db: AsyncConnection | None = None
    """An open transaction: in facts, reserve, settle, read and transactional tools. None during an outside call."""
    services: Mapping[type[Any], Any] = field(default_factory=dict)
    """What the workflow's package opened for its tools (clients, pools), by type."""

    def service(self, kind: type[Service]) -> Service:
        """The workflow's service of this type. Raises GraphInvalid when the workflow opened none."""
        if kind not in self.services:
            raise GraphInvalid(f"no {kind.__name__} was opened: name it in the workflow's services")
        return cast(Service, self.services[kind])

    @property
    def transaction(self) -> AsyncConnection:
        """`db`, when there must be one."""
        if self.db is None:
            raise GraphInvalid("no transaction is open during an outside call; use reserve= or settle=")
        return self.db


ToolFunction = Callable[[Any, ToolContext], Coroutine[Any, Any, Any]]


@dataclass(frozen=True)
class Tool:
    """One registered tool. Built by the `tool` decorator."""

    name: str
    description: str
    """The function's docstring: for the model and for people."""
    args: type[BaseModel]
    run: ToolFunction
    effect: Effect
    permission: str
    """What a specialist must hold to call it, e.g. `refund:create`."""
    policy: Callable[[Any, Actor, Any], Verdict] | None = None
    """Pure: (args, actor, facts) → verdict. None: allowed as far as this tool goes."""
    facts: ToolFunction | None = None
    """Loads what the policy needs, from our own records. (args, ctx) → facts; None is passed without it."""
    reserve: ToolFunction | None = None
    """Outside tools: (args, ctx), in the transaction that commits `started`; raises ToolError to refuse."""
    settle: Callable[[Any, Any, ToolContext], Coroutine[Any, Any, None]] | None = None
    """Outside tools: (args, result as JSON or None when it failed, ctx), in the transaction that commits the end."""
    find: ToolFunction | None = None
    """Lookup tools: (args, ctx) → the earlier result, or None when it did not happen."""
    confirm: Callable[[Any, str, ToolContext], Coroutine[Any, Any, Any]] | None = None
    """Outside tools: (args, provider's reference, ctx) → the result of a call that a person says happened.

    May ask the provider; raises ToolError when it is not this call's. None: the result is `{"provider_ref": …}`.
    """
    summary: Callable[[Any], str] | None = None
    """One line for the approver, from the real arguments: (args) → text."""
    preview: Callable[[Any, ToolContext], Coroutine[Any, Any, Preview]] | None = None
    """What would change, for the approver: (args, ctx with a read-only transaction) → Preview. Changes nothing.

    Shown beside the arguments, never instead of them; one that fails is told so, and the question stands.
    """
    asks: bool = True
    """Whether copilot mode asks before it. False only for handing over to a person."""
    untrusted: bool = False
    """Whether its result carries text that outsiders wrote."""
    timeout_s: float = 30.0
    """How long one call may take, all retries included; each of facts, reserve, settle, find and confirm as long."""

    @property
    def writes(self) -> bool:
        return self.effect is not Effect.READ

    def describe(self, args: BaseModel) -> str:
        """One line saying what this call would do."""
        return self.summary(args) if self.summary else f"{self.name}({args.model_dump_json()})"


def tool(
    *,
    effect: Effect,
    permission: str,
    policy: Callable[[Any, Actor, Any], Verdict] | None = None,
    facts: ToolFunction | None = None,
    reserve: ToolFunction | None = None,
    settle: Callable[[Any, Any, ToolContext], Coroutine[Any, Any, None]] | None = None,
    find: ToolFunction | None = None,
    confirm: Callable[[Any, str, ToolContext], Coroutine[Any, Any, Any]] | None = None,
    summary: Callable[[Any], str] | None = None,
    preview: Callable[[Any, ToolContext], Coroutine[Any, Any, Preview]] | None = None,
    asks: bool = True,
    untrusted: bool = False,
    timeout_s: float = 30.0,
) -> Callable[[ToolFunction], Tool]:
    """Make a tool of `async def name(args: Model, ctx: ToolContext) -> Model`.

    Raises GraphInvalid when the function is not async, has no docstring, or its first parameter is not
    a Pydantic model; when a lookup tool has no `find`.
    """

    def register(function: ToolFunction) -> Tool:
        name = function.__name__
        if not inspect.iscoroutinefunction(function):
            raise GraphInvalid(f"tool {name} must be async: a sync call cannot be cancelled")
        if not function.__doc__:
            raise GraphInvalid(f"tool {name} needs a docstring: it is what the model reads")
        first = next(iter(inspect.signature(function).parameters))
        args = get_type_hints(function).get(first)
        if not (isinstance(args, type) and issubclass(args, BaseModel)):
            raise GraphInvalid(f"tool {name}: annotate {first!r} with a Pydantic model")
        if effect is Effect.LOOKUP and find is None:
            raise GraphInvalid(f"tool {name}: a lookup tool needs find=")
        return Tool(
            name=name,
            description=inspect.cleandoc(function.__doc__),
            args=args,
            run=function,
            effect=effect,
            permission=permission,
            policy=policy,
            facts=facts,
            reserve=reserve,
            settle=settle,
            find=find,
            confirm=confirm,
            summary=summary,
            preview=preview,
            asks=asks,
            untrusted=untrusted,
            timeout_s=timeout_s,
        )

    return register
