"""Which model a spec names, and what counts as an answer of one."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import httpx
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI

from casework.errors import SettingsInvalid
from casework.settings import Settings
from nodes.llm import RETRIES, ModelRefused, Models, ModelUnavailable, Turn, call_model
from nodes.offline import OfflineModel, know_nothing
from tools.gate import MALFORMED

SOON = timedelta(milliseconds=20)
LONG = timedelta(seconds=20)
QUESTION = [HumanMessage("What now?")]


class Fake(BaseChatModel):
    """Streams these parts; `model_name` is what its prices are looked up by."""

    parts: list[AIMessageChunk] = []
    model_name: str = "nobody-sells-this"
    fails: Exception | None = None
    """Raised after the last part."""

    @property
    def _llm_type(self) -> str:
        return "fake"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for part in self.parts:
            yield ChatGenerationChunk(message=part.model_copy())
        if self.fails:
            raise self.fails


class Silent(Fake):
    """Never answers."""

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        await asyncio.Event().wait()
        yield ChatGenerationChunk(message=AIMessageChunk(content=""))


class Unstreamed(BaseChatModel):
    """Answers with one whole message."""

    @property
    def _llm_type(self) -> str:
        return "unstreamed"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        made = {"name": "get_order", "args": {"order_id": "O-5042"}, "id": ""}
        message = AIMessage("One moment.", tool_calls=[made], response_metadata={"stop_reason": "tool_use"})
        return ChatResult(generations=[ChatGeneration(message=message)])


def factory() -> Fake:
    """What a `module:factory` spec may name."""
    return Fake()


def end(reason: str | None = "tool_calls", usage: UsageMetadata | None = None) -> AIMessageChunk:
    metadata = {"finish_reason": reason} if reason else {}
    return AIMessageChunk(content="", response_metadata=metadata, usage_metadata=usage)


def piece(args: str, index: int = 0, name: str | None = None, call_id: str | None = None) -> AIMessageChunk:
    chunk = tool_call_chunk(name=name, args=args, id=call_id, index=index)
    return AIMessageChunk(content="", tool_call_chunks=[chunk])


async def answer(*parts: AIMessageChunk, model_name: str = "nobody-sells-this") -> Turn:
    return await call_model(Fake(parts=list(parts), model_name=model_name), QUESTION, [], LONG)


async def arguments(written: str) -> dict[str, Any]:
    """How arguments are read that stream in as these characters."""
    cuts = [*range(0, len(written), 5), len(written)]
    pieces = [piece(written[a:b]) for a, b in pairwise(cuts)]
    turn = await answer(piece("", name="issue_refund", call_id="call_0"), *pieces, end())
    return turn.message.tool_calls[0]["args"]


@pytest_asyncio.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


def settings(**given_: Any) -> Settings:
    return Settings.model_validate({"openai_api_key": None, "anthropic_api_key": None, "model": None, **given_})


async def test_without_a_key_every_role_is_played_offline(http: httpx.AsyncClient) -> None:
    made = Models(settings(), http).get("specialist", "billing", None)
    assert made == OfflineModel(role="billing", rules=know_nothing)


async def test_a_key_alone_chooses_openais_and_a_role_may_have_a_model_of_its_own(http: httpx.AsyncClient) -> None:
    models = Models(settings(openai_api_key="sk-test", models={"router": "openai:gpt-5-nano"}), http)
    router, specialist = models.get("router", "router", None), models.get("specialist", "billing", None)
    assert isinstance(router, ChatOpenAI)
    assert isinstance(specialist, ChatOpenAI)
    assert (router.model_name, specialist.model_name) == ("gpt-5-nano", "gpt-5-mini")
    assert (specialist.max_retries, specialist.request_timeout) == (RETRIES, 60.0)
    assert models.get("specialist", "shipping", None) is specialist


async def test_a_provider_a_factory_and_offline_can_be_named(http: httpx.AsyncClient) -> None:
    specs = {"a": "anthropic:claude-sonnet-4-5", "b": "tests.unit.test_models:factory", "c": "offline"}
    models = Models(settings(models=specs, anthropic_api_key="sk-ant"), http)
    assert [type(models.get(role, role, None)).__name__ for role in specs] == [
        ChatAnthropic.__name__,
        Fake.__name__,
        OfflineModel.__name__,
    ]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("gpt-5-mini", "write provider:model, module:factory or offline"),
        ("openai:", "write provider:model"),
        ("openai:gpt-5-mini", "needs OPENAI_API_KEY"),
        ("anthropic:claude-sonnet-4-5", "needs ANTHROPIC_API_KEY"),
        ("no.such.module:factory", "is it installed, and spelt module:factory"),
        ("tests.unit.test_models:no_such_factory", "is it installed, and spelt module:factory"),
        ("builtins:dict", "made a dict, not a LangChain chat model"),
    ],
)
async def test_a_spec_that_names_no_model_is_refused_with_what_to_write(
    spec: str, said: str, http: httpx.AsyncClient
) -> None:
    with pytest.raises(SettingsInvalid, match=said):
        Models(settings(model=spec), http).get("router", "router", None)


async def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "langchain_anthropic", None)  # as if it were not installed
    models = Models(settings(model="anthropic:claude-sonnet-4-5", anthropic_api_key="sk-ant"), http)
    with pytest.raises(SettingsInvalid, match=r"pip install 'casework\[anthropic\]'"):
        models.get("router", "router", None)


async def test_a_streamed_answer_is_put_together_with_ids_and_costs_of_our_own() -> None:
    usage = UsageMetadata(input_tokens=1_000_000, output_tokens=100_000, total_tokens=1_100_000)
    turn = await answer(
        AIMessageChunk(content="One "),
        AIMessageChunk(content="moment."),
        piece('{"order_id": ', 0, "get_order", "call_0"),
        piece("", 1, "list_orders", "call_0"),
        piece('"O-5042"}', 0),
        end(usage=usage),
        model_name="gpt-4o-mini",
    )
    first, second = turn.message.tool_calls
    assert (first["name"], first["args"]) == ("get_order", {"order_id": "O-5042"})
    assert (second["name"], second["args"]) == ("list_orders", {})
    assert len({first["id"], second["id"], "call_0"}) == 3
    assert turn.message.text == "One moment."
    assert turn.spent == {"model_calls": 1, "tokens": 1_100_000, "cost_microusd": 210_000}  # 0.15 + 0.06 USD
    assert turn.model == "gpt-4o-mini"


async def test_a_model_without_a_known_price_costs_nothing_that_we_know_of() -> None:
    usage = UsageMetadata(input_tokens=10, output_tokens=5, total_tokens=15)
    assert (await answer(end("stop", usage))).spent == {"model_calls": 1, "tokens": 15, "cost_microusd": 0}


async def test_a_model_that_does_not_stream_is_read_the_same() -> None:
    turn = await call_model(Unstreamed(), QUESTION, [], LONG)
    (made,) = turn.message.tool_calls
    assert (turn.message.text, made["name"], made["args"]) == ("One moment.", "get_order", {"order_id": "O-5042"})
    assert str(made["id"]).startswith("call_")


@given(st.dictionaries(st.text(max_size=5), st.integers(-(2**63) + 1, 2**63 - 1) | st.booleans(), max_size=4))
async def test_whole_arguments_are_read_as_they_were_written(args: dict[str, Any]) -> None:
    storable = {k.replace("\0", "").encode("utf-8", "replace").decode(): v for k, v in args.items()}
    assert await arguments(json.dumps(storable)) == storable


@given(st.integers(1, len('{"order_id": "O-5042", "amount_minor": 4990}') - 1))
async def test_arguments_cut_off_anywhere_are_malformed(length: int) -> None:
    cut = '{"order_id": "O-5042", "amount_minor": 4990}'[:length]
    assert await arguments(cut) == {MALFORMED: cut}


def test_control_langchain_itself_completes_them_to_another_amount() -> None:
    chunk = piece('{"order_id": "O-5042", "amount_minor": 49', name="issue_refund", call_id="call_0")
    assert chunk.tool_calls[0]["args"] == {"order_id": "O-5042", "amount_minor": 49}


@pytest.mark.parametrize(
    "written",
    [
        "null",
        "[1]",
        '"text"',
        "4990",
        '{"a": 1}{"b": 2}',
        "{'a': 1}",
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": 18446744073709551616}',
        '{"a": "\\u0000"}',
        '{"a": "\\ud800"}',
        '{"\\ud800": 1}',
        '{"a": ' + "[" * 2000 + "]" * 2000 + "}",
        '{"a": ' + "9" * 5000 + "}",
    ],
    ids=lambda written: written[:24],
)
async def test_what_is_no_object_of_storable_values_is_malformed(written: str) -> None:
    assert await arguments(written) == {MALFORMED: written[:2000]}


async def test_text_and_names_that_no_database_takes_are_mended() -> None:
    turn = await answer(AIMessageChunk(content="a\0b\ud800c"), piece("{}", name="get\0_order\ud800"), end())
    assert (turn.message.text, turn.message.tool_calls[0]["name"]) == ("a\ufffdb\ufffdc", "get\ufffd_order\ufffd")


async def test_an_answer_without_a_finish_reason_is_none() -> None:
    with pytest.raises(ModelUnavailable, match="without a finish reason"):
        await answer(piece("{}", name="get_order"), end(None))


@pytest.mark.parametrize("reason", ["length", "max_tokens", "content_filter", "refusal", "safety", "something_new"])
async def test_an_answer_that_ended_early_is_for_a_person(reason: str) -> None:
    with pytest.raises(ModelRefused, match=f"ended its answer early: {reason}"):
        await answer(piece("{}", name="get_order"), end(reason))


@pytest.mark.parametrize("error", [RuntimeError("gone"), json.JSONDecodeError("bad chunk", "{", 1), OSError("reset")])
async def test_a_model_that_breaks_off_is_unavailable_whatever_it_had_said(error: Exception) -> None:
    model = Fake(parts=[piece("{}", name="get_order"), end()], fails=error)
    with pytest.raises(ModelUnavailable, match=type(error).__name__):
        await call_model(model, QUESTION, [], LONG)


async def test_a_model_that_never_answers_is_unavailable_after_its_time() -> None:
    with pytest.raises(ModelUnavailable, match="TimeoutError"):
        await call_model(Silent(), QUESTION, [], SOON)
