"""What tests of messages share: prompts that are kept, and things that happen while a case is at work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from langchain_core.messages import AIMessage, BaseMessage

from casework.execution import Status
from casework.legs import Ending, Leg, Legs
from graphs.runner import Runner
from graphs.support import support
from nodes.offline import OfflineRules, Reply
from nodes.workflow import Workflow
from tests.rig import Rig, call

REFUND = call("issue_refund", order_id="O-5042", amount_minor=1500, reason="damaged")
DEAR = call("issue_refund", order_id="O-5013", amount_minor=64900, reason="not_delivered")
REPLY = call("reply_to_customer", body="We have looked at it. Sorry for the trouble.")
LOOK = call("get_order", order_id="O-5042")
STATE = "SELECT state FROM casework.approvals WHERE approval_id = :a"
PAID = "SELECT coalesce(sum(amount_minor), 0) FROM shop.refunds WHERE order_id = 'O-5042' AND state = 'succeeded'"
Deed = Callable[[], Awaitable[Any]]


@dataclass
class Prompts:
    """Rules that keep what they were asked."""

    rules: OfflineRules
    asked: list[tuple[str, list[BaseMessage]]] = field(default_factory=list)

    def __call__(self, role: str, messages: Sequence[BaseMessage], tools: frozenset[str]) -> Reply:
        self.asked.append((role, list(messages)))
        return self.rules(role, messages, tools)

    def last(self, role: str) -> str:
        """The newest prompt of a role, in one text."""
        found = [messages for asked, messages in self.asked if asked == role][-1]
        return "\n".join(m.text for m in found)


@dataclass
class Meanwhile:
    """What happens while the case is at work, once."""

    deed: Deed | None = None

    async def happens(self) -> None:
        deed, self.deed = self.deed, None
        if deed is not None:
            await deed()


class LateLegs(Legs):
    """Something happens after the graph has come to rest, before that is written down."""

    meanwhile: Meanwhile
    deaf: bool
    """Whether it does not look for messages then: what is to be shown to break."""

    async def finish(self, leg: Leg, ending: Ending, pending: Collection[str]) -> Status:
        await self.meanwhile.happens()
        return await super().finish(leg, replace(ending, messages_read=None) if self.deaf else ending, pending)


def late(case: Rig, deed: Deed, *, deaf: bool = False) -> Runner:
    """A runner that writes down how a run ended only after `deed`."""
    legs = LateLegs(case.resources.engine, case.resources.pool, case.queue)
    legs.meanwhile, legs.deaf = Meanwhile(deed), deaf
    return Runner(legs, case.catalog, case.resources, case.services, "late")


def while_looking(meanwhile: Meanwhile) -> Workflow:
    """The support workflow; something happens while its agents look an order up."""

    async def look(args: Any, ctx: Any) -> Any:
        await meanwhile.happens()
        return {"looked": True}

    def watched(tools: Any) -> Any:
        return tuple(replace(t, run=look) if t.name == "get_order" else t for t in tools)

    return replace(support, specialists=tuple(replace(s, tools=watched(s.tools)) for s in support.specialists))


async def said(case: Rig, execution_id: UUID) -> list[str]:
    """The conversation in short: who said it, and for tools and people what."""
    messages = await case.messages(execution_id)
    return [m.type if isinstance(m, AIMessage) else f"{m.type}: {m.text}" for m in messages]


def fenced(text: str) -> str:
    return f'human: <data source="message">\n{text}\n</data>'


async def kinds(case: Rig, execution_id: UUID) -> list[str]:
    return [e.data["kind"] for e in await case.events(execution_id, "run.started")]


async def read(case: Rig, execution_id: UUID) -> list[tuple[int, str]]:
    """Which messages were read, and by whom."""
    return [(e.data["number"], e.data["by"]) for e in await case.events(execution_id, "message.read")]
