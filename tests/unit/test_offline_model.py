"""The offline model answers through the same interface as a real one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from pydantic import BaseModel

from nodes.offline import CHARS_PER_TOKEN, OfflineModel, Reply, ToolCallRequest, know_nothing


class look_up(BaseModel):
    """Look something up."""

    word: str


class note_down(BaseModel):
    """Write something down."""

    text: str
    pages: list[int]


CALLS = (ToolCallRequest("look_up", {"word": "vase"}), ToolCallRequest("note_down", {"text": "é „x“", "pages": [1, 2]}))


def replying(reply: Reply) -> OfflineModel:
    def rules(role: str, messages: Sequence[BaseMessage], tools: frozenset[str]) -> Reply:
        return reply

    return OfflineModel(role="billing", rules=rules)


async def streamed(model: OfflineModel, text: str) -> AIMessageChunk:
    chunks = [chunk async for chunk in model.astream([HumanMessage(text)])]
    return reduce(lambda whole, part: whole + part, (c for c in chunks if isinstance(c, AIMessageChunk)))


def calls_of(message: AIMessage) -> list[tuple[str, dict[str, object]]]:
    return [(call["name"], call["args"]) for call in message.tool_calls]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(text="The customer was told."),
        Reply(calls=CALLS),
        Reply(text="Looking it up first.", calls=CALLS),
        Reply(),
    ],
    ids=["prose", "calls", "prose and calls", "nothing"],
)
async def test_streaming_and_invoking_give_the_same_answer(reply: Reply) -> None:
    model = replying(reply)

    whole, parts = await model.ainvoke("hello"), await streamed(model, "hello")

    assert parts.text.strip() == whole.text == reply.text
    assert calls_of(parts) == calls_of(whole) == [(call.name, call.args) for call in reply.calls]
    assert parts.usage_metadata == whole.usage_metadata
    assert parts.response_metadata == whole.response_metadata
    assert not parts.invalid_tool_calls


@pytest.mark.parametrize(("reply", "reason"), [(Reply(text="Done."), "stop"), (Reply(calls=CALLS), "tool_calls")])
async def test_every_answer_has_a_finish_reason(reply: Reply, reason: str) -> None:
    answer = await replying(reply).ainvoke("hello")

    assert answer.response_metadata == {"finish_reason": reason, "model_name": "offline"}


async def test_every_call_has_an_id_of_its_own() -> None:
    model = replying(Reply(calls=CALLS))

    first, second = await model.ainvoke("hello"), await model.ainvoke("hello")

    ids = {call["id"] for message in (first, second) for call in message.tool_calls}
    assert len(ids) == 4


async def test_usage_grows_with_what_is_read_and_written() -> None:
    short = await replying(Reply(text="x" * 8 * CHARS_PER_TOKEN)).ainvoke("y" * 4 * CHARS_PER_TOKEN)
    assert short.usage_metadata == {"input_tokens": 5, "output_tokens": 9, "total_tokens": 14}


async def test_the_rules_are_told_the_role_the_messages_and_the_bound_tools() -> None:
    seen: list[tuple[str, list[str], frozenset[str]]] = []

    def rules(role: str, messages: Sequence[BaseMessage], tools: frozenset[str]) -> Reply:
        seen.append((role, [m.text for m in messages], tools))
        return Reply(text="ok")

    model = OfflineModel(role="shipping", rules=rules)
    await model.bind_tools([look_up, note_down]).ainvoke("one")
    await model.ainvoke("two")

    assert seen == [("shipping", ["one"], frozenset({"look_up", "note_down"})), ("shipping", ["two"], frozenset())]


async def test_a_workflow_without_rules_gets_an_answer_that_calls_nothing() -> None:
    answer = await OfflineModel(role="router", rules=know_nothing).ainvoke("hello")

    assert answer.tool_calls == []
    assert answer.text == "The offline model has no rules for this workflow."
