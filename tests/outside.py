"""An outside provider that breaks off as a test says, and one claimed execution to call it from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel
from sqlalchemy import text

from casework.approval import Doubt
from casework.errors import ToolFailed
from policies.verdict import Consent
from tests.rig import Rig
from tools.gate import act, confirm
from tools.ledger import read_doubt
from tools.scope import Caller, Scope
from tools.spec import Effect, Tool, ToolContext, tool


class PayArgs(BaseModel):
    amount: int


class Crash(BaseException):
    """The process dies here: nothing of ours may catch it."""


@dataclass
class Outside:
    """A provider with a book of its own, outside the database under test."""

    keys: list[str] = field(default_factory=list)
    """Every call that arrived."""
    booked: set[str] = field(default_factory=set)
    """What was done: once per key."""
    next: BaseException | None = None
    """Raised after the next call was done."""
    deaf: bool = False
    """Cannot be asked what was done."""

    async def pay(self, args: PayArgs, ctx: ToolContext) -> dict[str, Any]:
        self.keys.append(ctx.key)
        self.booked.add(ctx.key)
        broken, self.next = self.next, None
        if broken is not None:
            raise broken
        return {"paid": args.amount}

    async def find(self, args: PayArgs, ctx: ToolContext) -> dict[str, Any] | None:
        if self.deaf:
            raise ToolFailed("the search is down")
        return {"paid": args.amount} if ctx.key in self.booked else None

    def tool(self, effect: Effect, **more: Any) -> Tool:
        async def pay(args: PayArgs, ctx: ToolContext) -> dict[str, Any]:
            """Pay."""
            return await self.pay(args, ctx)

        find = self.find if effect is Effect.LOOKUP else None
        return tool(effect=effect, permission="pay", find=find, **more)(pay)


@dataclass
class Desk:
    """One claimed execution and a call to make in it."""

    case: Rig
    scope: Scope

    async def call(
        self,
        spec: Tool,
        amount: int = 5,
        call_id: str = "c1",
        fence: int | None = None,
        doubted: int | None = None,
    ) -> Any:
        """`doubted`: the attempt that a person said did not happen."""
        caller = Caller("tester", {spec.name: spec}, frozenset({"pay"}))
        scope = replace(self.scope, fence=self.scope.fence if fence is None else fence)
        return await act(caller, spec.name, {"amount": amount}, call_id, scope, Consent(), doubted=doubted)

    async def happened(self, spec: Tool, reference: str, doubted: int = 1) -> Any:
        caller = Caller("tester", {spec.name: spec}, frozenset({"pay"}))
        return await confirm(caller, spec.name, {"amount": 5}, "c1", self.scope, doubted, reference)

    async def doubt(self) -> Doubt:
        found = await read_doubt(self.scope, "c1")
        assert found is not None
        return found

    async def states(self) -> list[str]:
        async with self.case.resources.engine.connect() as db:
            return list(await db.scalars(text("SELECT state FROM casework.effects ORDER BY key")))
