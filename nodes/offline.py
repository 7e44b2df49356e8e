"""The offline model: a rule-based stand-in that needs no key and no network.

It plays router and specialists by hand-written rules over the real messages and tool results, through the same
interface as a real model: tool calls, streaming, token usage. It is for trying, testing and rehearsing, not a
product; where its rules are unsure, it escalates.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool

CHARS_PER_TOKEN = 4
"""Rough size of a token, for usage figures that behave like a real model's."""


@dataclass(frozen=True)
class ToolCallRequest:
    """A call the rules want made."""

    name: str
    args: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What the rules answer with: text, calls, or both."""

    text: str = ""
    calls: Sequence[ToolCallRequest] = field(default_factory=tuple)


OfflineRules = Callable[[str, Sequence[BaseMessage], frozenset[str]], Reply]
"""(role: `router` or a specialist's name, the messages as sent, names of the bound tools) → reply. Pure."""


def know_nothing(role: str, messages: Sequence[BaseMessage], tools: frozenset[str]) -> Reply:
    """The rules of a workflow that brings none: unsure about everything, so it says nothing that could count."""
    return Reply(text="The offline model has no rules for this workflow.")


class OfflineModel(BaseChatModel):
    """Answers by rules. Logs and traces name it `offline`."""

    role: str
    """`router`, or the specialist it plays."""
    rules: OfflineRules = know_nothing
    tool_names: frozenset[str] = frozenset()

    @property
    def _llm_type(self) -> str:
        return "casework-offline"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        names = frozenset(convert_to_openai_tool(t)["function"]["name"] for t in tools)
        return self.model_copy(update={"tool_names": names})

    def _answer(self, messages: Sequence[BaseMessage]) -> AIMessage:
        reply = self.rules(self.role, messages, self.tool_names)
        calls = [{"name": c.name, "args": c.args, "id": f"call_{uuid4().hex}"} for c in reply.calls]
        written = len(reply.text) + sum(len(json.dumps(c["args"])) for c in calls)
        tokens_in = sum(len(m.text) for m in messages) // CHARS_PER_TOKEN + 1
        tokens_out = written // CHARS_PER_TOKEN + 1
        return AIMessage(
            content=reply.text,
            tool_calls=calls,
            usage_metadata=UsageMetadata(
                input_tokens=tokens_in, output_tokens=tokens_out, total_tokens=tokens_in + tokens_out
            ),
            response_metadata={"finish_reason": "tool_calls" if calls else "stop", "model_name": "offline"},
        )

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        """Word by word, then the calls, then the end with usage: the shape a real endpoint streams."""
        whole = self._answer(messages)
        for word in re.findall(r"\S+\s*|\s+", whole.text):
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        for index, call in enumerate(whole.tool_calls):
            chunk = tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=index)
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[chunk]))
        end = AIMessageChunk(content="", usage_metadata=whole.usage_metadata, response_metadata=whole.response_metadata)
        yield ChatGenerationChunk(message=end)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages, stop):
            yield chunk
