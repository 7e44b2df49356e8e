"""A real OpenAI-compatible endpoint with a scripted model behind it: llmock on a free port, one model name per role."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any
from uuid import UUID

from llmock.scenarios import Behavior, Fail, Match, Reply, StreamFault, StreamFaultKind, ToolCall
from llmock.simulation import MockResponseSettings
from llmock.testing import LLMockServer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from casework.execution import Status
from casework.settings import Settings
from graphs.support import support
from policies.limits import Limits
from tests.rig import Rig, rig

ROUTER, SPECIALIST = "router-model", "specialist-model"
SPEC = {"router": f"openai:{ROUTER}", "specialist": f"openai:{SPECIALIST}"}
WRITTEN_ID = re.compile(rb'"id":"call_[0-9a-f]{24}"')
"""A tool call's id as llmock writes it into a stream."""
REST_S = 30.0
"""How long a case may take to come to rest before it counts as hanging."""
SOON_S = 0.01
"""What a Retry-After asks for: the client must obey it, and a test must not wait for it."""


def route(specialist: str, confidence: float = 0.9, **more: Any) -> Reply:
    """The router chooses."""
    args = {"specialist": specialist, "confidence": confidence, "reason": "as scripted", **more}
    return Reply(tool_calls=(ToolCall("route", args),), match=Match(model=ROUTER))


def calls(*made: ToolCall, times: int | None = 1, finish_reason: str | None = None) -> Reply:
    """The specialist calls tools, all in one turn. `times` None: in every turn from now on."""
    return Reply(tool_calls=made, times=times, finish_reason=finish_reason, match=Match(model=SPECIALIST))


def says(text: str, model: str = SPECIALIST, finish_reason: str | None = None, times: int | None = 1) -> Reply:
    """A model answers in prose."""
    return Reply(text=text, finish_reason=finish_reason, times=times, match=Match(model=model))


def fails(status: int, model: str = SPECIALIST, times: int | None = 1) -> Fail:
    """The endpoint refuses, and says when to come back."""
    return Fail(status, retry_after=SOON_S, times=times, match=Match(model=model))


def breaks(kind: StreamFaultKind, after_chunks: int, times: int | None = 1, stall_s: float = 0.0) -> StreamFault:
    """The specialist's stream breaks after so many chunks."""
    match = Match(model=SPECIALIST, stream=True)
    return StreamFault(kind, after_chunks=after_chunks, stall_seconds=stall_s, times=times, match=match)


def cut_short(name: str, upto: str, **args: Any) -> ToolCall:
    """A call padded so that llmock's `malformed_arguments`, which keeps one half, cuts right after `upto`."""
    kept = json.dumps(args).index(upto) + len(upto)
    padding = 2 * kept - len(json.dumps({**args, "pad": ""}))
    return ToolCall(name, {**args, "pad": "x" * padding})


@dataclass
class CallIds:
    """ASGI middleware: writes an id of the test's choice over each tool call's own; passes the stream on as it is."""

    app: ASGIApp
    server: ModelServer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def rewrite(message: Message) -> None:
            call_id = self.server.call_id
            if call_id is not None and message.get("body"):
                body = WRITTEN_ID.sub(b'"id":' + json.dumps(call_id).encode(), message["body"])
                message = {**message, "body": body}
            await send(message)

        await self.app(scope, receive, rewrite)


@dataclass
class ModelServer:
    """The endpoint, and what it was asked."""

    server: LLMockServer = field(
        default_factory=lambda: LLMockServer(responses=MockResponseSettings("static", tool_mode="off"))
    )
    call_id: str | None = None
    """The id every tool call is sent with; None: a fresh one each."""

    def plan(self, *behaviors: Behavior) -> None:
        """What comes next, per model in this order."""
        self.server.state.scenarios.add(*behaviors)

    def settings(self, base: Settings, **more: Any) -> Settings:
        """These settings, with both models at this endpoint."""
        where = {"models": SPEC, "openai_base_url": self.server.base_url("openai"), "openai_api_key": "sk-test"}
        return Settings.model_validate({**base.model_dump(), **where, **more})

    def asked(self, model: str = SPECIALIST) -> list[dict[str, Any]]:
        """Every request to a model so far, as it was sent."""
        return [r.body for r in self.server.state.journal.records(wait=5) if r.model == model]

    def told(self) -> list[str]:
        """What the specialist was answered after its last turn: tool results, or why its prose did not count."""
        messages = self.asked()[-1]["messages"]
        last_turn = max(i for i, m in enumerate(messages) if m["role"] == "assistant")
        return [m["content"] for m in messages[last_turn + 1 :]]


@contextmanager
def model_server() -> Iterator[ModelServer]:
    """Serve until left."""
    made = ModelServer()
    made.server.app.add_middleware(CallIds, server=made)
    with made.server:
        yield made


@asynccontextmanager
async def support_over_http(
    base: Settings, database_url: str, models: ModelServer, limits: Limits | None = None, **more: Any
) -> AsyncIterator[Rig]:
    """The support workflow, thinking at the endpoint."""
    workflow = support if limits is None else replace(support, limits=limits)
    async with rig(models.settings(base, **more), database_url, None, workflow) as case:
        yield case


async def rest(case: Rig, execution_id: UUID) -> Status:
    """Run until the execution waits or is over, through every retry."""
    deadline = monotonic() + REST_S
    while monotonic() < deadline:
        status = await case.advance(execution_id)
        if status not in (None, Status.QUEUED):
            return status
        await asyncio.sleep(0.005)  # not claimed before its pause is over
    raise AssertionError(f"execution {execution_id} did not come to rest in {REST_S} s")
