"""Models: the only place a provider is named, and the one way a model is called.

Half an answer is no answer: a message counts only with a finish reason that says it is whole.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
from genai_prices import Usage, calc_price
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall
from langchain_core.runnables import Runnable

from casework.errors import CaseworkError, SettingsInvalid
from casework.patience import within
from casework.plain import plain
from casework.settings import OFFLINE, Settings
from casework.telemetry import logger
from casework.tokens import Speech
from nodes.offline import OfflineModel, OfflineRules, know_nothing
from tools.gate import MALFORMED

log = logger(__name__)

WHOLE = frozenset({"stop", "tool_calls", "function_call", "end_turn", "tool_use", "stop_sequence", "completed"})
"""Finish reasons of an answer that is complete; any other (length, content_filter, none at all) is no answer."""

KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
"""The variable, and in small letters the setting, that a provider's key is in."""

MALFORMED_CHARS = 2000
"""How much of broken arguments is kept, to be shown to the model again."""

INTEGER_BITS = 63
"""Of the largest integer that a checkpoint can hold, its sign apart."""

RETRIES = 2
"""Of one model call, by the provider's client, on 429, 5xx and lost connections; with backoff and Retry-After."""


class ModelUnavailable(CaseworkError):
    """The model could not be reached, or broke off. The run is tried again later."""


class ModelRefused(CaseworkError):
    """The model ended its answer early (filter or length). A person must take the case."""


@dataclass(frozen=True)
class Turn:
    """One whole answer of a model, and what it cost."""

    message: AIMessage
    """Every tool call has a fresh unique id; arguments that were not JSON stand under `MALFORMED`."""
    spent: dict[str, int]
    """model_calls, tokens, cost_microusd."""
    model: str


class Models:
    """Makes chat models by role, from the settings. One per process."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self.settings = settings
        self.http = http
        self._made: dict[str, BaseChatModel] = {}

    def get(self, role: str, persona: str, rules: OfflineRules | None) -> BaseChatModel:
        """The model for a role; offline, the one that plays `persona` by the workflow's rules.

        Raises SettingsInvalid for a spec that names no model, and for a provider without its key.
        """
        spec = self.settings.model_for(role)
        if spec == OFFLINE:
            return OfflineModel(role=persona, rules=rules or know_nothing)
        if spec not in self._made:
            self._made[spec] = self._make(spec)
        return self._made[spec]

    def _make(self, spec: str) -> BaseChatModel:
        kind, _, name = spec.partition(":")
        timeout = self.settings.model_timeout.total_seconds()
        if not name:
            raise SettingsInvalid(f"model {spec!r}: write provider:model, module:factory or {OFFLINE}")
        if kind in KEYS and getattr(self.settings, KEYS[kind].lower()) is None:
            raise SettingsInvalid(f"model {spec!r} needs {KEYS[kind]}; an endpoint without keys takes any text")
        if kind == "openai":
            provider = _load(spec, "langchain_openai", "ChatOpenAI", "is langchain-openai installed?")
            made = provider(
                model=name,
                api_key=self.settings.openai_api_key,
                base_url=self.settings.openai_base_url,
                timeout=timeout,
                max_retries=RETRIES,
                stream_usage=True,
                http_async_client=self.http,
            )
        elif kind == "anthropic":
            provider = _load(spec, "langchain_anthropic", "ChatAnthropic", "pip install 'casework[anthropic]'")
            made = provider(model=name, api_key=self.settings.anthropic_api_key, timeout=timeout, max_retries=RETRIES)
        else:
            made = _load(spec, kind, name, "is it installed, and spelt module:factory?")()
        if not isinstance(made, BaseChatModel):
            raise SettingsInvalid(f"model {spec!r} made a {type(made).__name__}, not a LangChain chat model")
        return made


def _load(spec: str, module: str, name: str, hint: str) -> Any:
    """Imported when it is chosen: providers' packages take about a second each."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SettingsInvalid(f"model {spec!r} cannot be loaded ({error}); {hint}") from error


async def call_model(
    model: BaseChatModel,
    messages: Sequence[BaseMessage],
    tools: Sequence[Any],
    timeout: timedelta,
    *,
    choice: str | None = None,
    speech: Speech | None = None,
) -> Turn:
    """Ask once, with these tools bound; `choice` forces one of them. `speech` tells its text while it comes.

    `timeout`: of one try. It holds for all tries together too, times their number: a stream that only drips ends.
    Raises ModelUnavailable (try the run again), ModelRefused (a person must take over).
    """
    bound: Runnable[Any, AIMessage] = model
    if tools:
        bound = model.bind_tools(tools, tool_choice=choice) if choice else model.bind_tools(tools)
    try:
        hearing = _heard(bound.astream(list(messages)), speech)
        parts = await within(timeout.total_seconds() * (1 + RETRIES), hearing)
    except Exception as error:
        if isinstance(error, CaseworkError):
            raise
        log.warning("model.failed", error=type(error).__name__, detail=str(error)[:300])
        raise ModelUnavailable(f"the model failed: {type(error).__name__}: {str(error)[:200]}") from error
    if not parts:
        raise ModelUnavailable("the model answered nothing")
    whole = parts[0] + parts[1:]  # at once: one by one parses all arguments again for every few characters of them
    reason = whole.response_metadata.get("finish_reason") or whole.response_metadata.get("stop_reason")
    if reason is None:
        raise ModelUnavailable("the model's answer broke off: it came without a finish reason")
    if reason not in WHOLE:
        raise ModelRefused(f"the model ended its answer early: {reason}")
    return _turn(whole, _name(model), speech.message_id if speech else f"ai_{uuid4().hex}")


async def _heard(answer: AsyncIterator[AIMessage], speech: Speech | None) -> list[AIMessageChunk]:
    """Every part of an answer, its text told before the next is asked for."""
    parts = []
    async for message in answer:
        parts.append(_part(message))
        if speech is not None:
            await speech.say(parts[-1].text)
    if speech is not None:
        await speech.end()
    return parts


def _part(message: AIMessage) -> AIMessageChunk:
    """A model that does not stream answers with one whole message."""
    return message if isinstance(message, AIMessageChunk) else AIMessageChunk(**message.model_dump(exclude={"type"}))


def _turn(whole: AIMessageChunk, model: str, message_id: str) -> Turn:
    usage = whole.usage_metadata
    tokens_in, tokens_out = (usage["input_tokens"], usage["output_tokens"]) if usage else (0, 0)
    message = AIMessage(
        content=plain(whole.text),
        tool_calls=[_call(chunk["name"], chunk["args"]) for chunk in whole.tool_call_chunks],
        usage_metadata=usage,
        response_metadata={"model_name": model},
        id=message_id,
    )
    spent = {
        "model_calls": 1,
        "tokens": tokens_in + tokens_out,
        "cost_microusd": _cost_microusd(model, tokens_in, tokens_out),
    }
    return Turn(message, spent, model)


def _call(name: str | None, written: str | None) -> ToolCall:
    # Not LangChain's own `tool_calls` of a chunk: it completes JSON that was cut off, and 4990 cut to 49 is money.
    args = _arguments(written or "{}")
    kept = args if args is not None else {MALFORMED: plain(written or "")[:MALFORMED_CHARS]}
    return ToolCall(name=plain(name or ""), args=kept, id=_fresh_id())


def _arguments(written: str) -> dict[str, Any] | None:
    """One JSON object, strictly, of values that can be stored; None for anything else."""
    try:
        args = json.loads(written, parse_int=_integer)
        return args if isinstance(args, dict) and plain(args) == args else None
    except (ValueError, RecursionError):
        return None


def _integer(digits: str) -> int:
    number = int(digits)
    if number.bit_length() > INTEGER_BITS:
        raise ValueError(f"{digits[:20]}… is more than a checkpoint can hold")
    return number


def _fresh_id() -> str:
    """Ours, unique for ever: providers repeat `call_0` from turn to turn, and some send none."""
    return f"call_{uuid4().hex}"


def _name(model: BaseChatModel) -> str:
    if isinstance(model, OfflineModel):
        return OFFLINE
    return str(getattr(model, "model_name", None) or getattr(model, "model", None) or model._llm_type)


def _cost_microusd(model: str, tokens_in: int, tokens_out: int) -> int:
    """Price of one call, in millionths of a US dollar; 0 for a model whose price is not known."""
    if model == OFFLINE:
        return 0
    try:
        price = calc_price(Usage(input_tokens=tokens_in, output_tokens=tokens_out), model_ref=model)
    except LookupError:
        return 0
    return round(price.total_price * 1_000_000)
