"""A model behind a real HTTP endpoint calls wrongly: no broken call reaches a tool, and it is told at most twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from llmock.scenarios import Match, Reply, ToolCall, ToolFault

from casework.execution import Status
from casework.settings import Settings
from nodes import llm
from nodes.closing import STUCK
from policies.limits import Limits
from tests.model_server import (
    ROUTER,
    SPECIALIST,
    ModelServer,
    calls,
    cut_short,
    model_server,
    rest,
    route,
    says,
    support_over_http,
)
from tests.rig import Rig

REFUND = {"order_id": "O-5042", "reason": "damaged", "amount_minor": 3490}
PAID = "SELECT coalesce(sum(amount_minor), 0) FROM shop.refunds WHERE order_id = 'O-5042'"
SENT = "SELECT count(*) FROM shop.ticket_messages WHERE ticket_id = 'T-1042' AND direction = 'outbound'"
EFFECTS = "SELECT coalesce(array_agg(tool ORDER BY started_at, tool), '{}') FROM casework.effects"
TICKET = "SELECT status FROM shop.tickets WHERE ticket_id = 'T-1042'"
TOLD_TWICE = 3
"""Turns of a model that is told twice and does not learn."""

replies = ToolCall("reply_to_customer", {"body": "We have paid it back. Sorry for the trouble."})
solves = ToolCall("update_ticket", {"status": "solved", "note": "Refunded the vase."})
refunds = ToolCall("issue_refund", REFUND)
malformed = ToolFault("malformed_arguments", match=Match(model=SPECIALIST, tools=True))


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


async def reason(case: Rig) -> str:
    """Why a person has the only execution of this test."""
    return str(await case.scalar("SELECT result #>> '{outcome,reason}' FROM casework.executions"))


async def test_a_ticket_is_routed_worked_and_closed_over_streams(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    reads = ToolCall("get_order", {"order_id": "O-5042"})
    models.plan(route("billing"), calls(reads), calls(refunds), calls(replies, solves), says("Refunded the vase."))
    async with support_over_http(settings, database_url, models) as case:
        execution_id = await case.start("T-1042")
        assert await rest(case, execution_id) is Status.SUCCEEDED
        assert await case.scalar(PAID) == 3490
        assert await case.scalar(EFFECTS) == ["issue_refund", "reply_to_customer", "update_ticket"]
        ended = await case.get(execution_id)
        assert ended.result is not None
        assert ended.result["answer"] == "Refunded the vase."
        assert (ended.model_calls, ended.tool_calls) == (5, 4)
        assert ended.tokens > 0
    (routing,) = models.asked(ROUTER)
    assert routing["tool_choice"] == {"type": "function", "function": {"name": "route"}}
    assert all(asked["stream"] for asked in [routing, *models.asked()])
    offered = {tool["function"]["name"] for tool in models.asked()[0]["tools"]}
    assert {"issue_refund", "hand_over"} <= offered
    assert "change_shipping_address" not in offered


async def test_arguments_cut_off_in_mid_amount_pay_nothing_and_the_model_may_send_them_again(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    # LangChain completes what is left, `{"order_id": …, "amount_minor": 34`, to a valid refund of 0.34 EUR.
    models.plan(route("billing"), calls(cut_short("issue_refund", '"amount_minor": 34', **REFUND)), malformed)
    models.plan(calls(refunds), calls(replies), says("Refunded."))
    async with support_over_http(settings, database_url, models) as case:
        assert await rest(case, await case.start("T-1042")) is Status.SUCCEEDED
        assert await case.scalar("SELECT array_agg(amount_minor) FROM shop.refunds WHERE order_id = 'O-5042'") == [3490]
    corrected = models.asked()[1]["messages"][-1]
    assert (
        corrected["content"] == "Error: the arguments of issue_refund are not a JSON object; send them again, complete"
    )


def nested(depth: int) -> list[object]:
    inner: list[object] = []
    for _ in range(depth):
        inner = [inner]
    return inner


@dataclass(frozen=True)
class Broken:
    """A call that must not reach its tool."""

    call: ToolCall
    told: str
    """What the model is told, at least."""


BROKEN = {
    "a wrong type": Broken(ToolCall("issue_refund", {**REFUND, "amount_minor": "3490"}), "amount_minor: Input should"),
    "a fraction of a cent": Broken(ToolCall("issue_refund", {**REFUND, "amount_minor": 34.9}), "valid integer"),
    "a field too many": Broken(ToolCall("issue_refund", {**REFUND, "customer_id": "C-1003"}), "customer_id: Extra"),
    "a field too few": Broken(ToolCall("issue_refund", {"order_id": "O-5042"}), "amount_minor: Field required"),
    "a field nested deeply": Broken(ToolCall("issue_refund", {**REFUND, "note": nested(200)}), "note: Extra inputs"),
    "a field nested absurdly": Broken(ToolCall("issue_refund", {**REFUND, "note": nested(950)}), "issue_refund"),
    "a field without end": Broken(ToolCall("issue_refund", {**REFUND, "note": "x" * 2**13}), "note: Extra inputs"),
    "nothing at all": Broken(ToolCall("issue_refund"), "order_id: Field required"),
    "no number": Broken(ToolCall("issue_refund", {**REFUND, "amount_minor": float("nan")}), "not a JSON object"),
    "an endless number": Broken(ToolCall("issue_refund", {**REFUND, "amount_minor": 10**40}), "not a JSON object"),
    "a NUL": Broken(ToolCall("issue_refund", {**REFUND, "order_id": "O-5042\0"}), "not a JSON object"),
    "half a character": Broken(ToolCall("issue_refund", {**REFUND, "order_id": "O-5042\ud800"}), "not a JSON object"),
    "a tool of another specialist": Broken(ToolCall("change_shipping_address", REFUND), "there is no tool"),
    "a tool of nobody": Broken(ToolCall("delete_all_orders", REFUND), "there is no tool"),
    "a tool without a name": Broken(ToolCall("", REFUND), "there is no tool"),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_call_reaches_no_tool_and_the_model_is_told_twice_before_a_person_has_the_case(
    broken: Broken, settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(route("billing"), calls(broken.call, times=None))
    async with support_over_http(settings, database_url, models) as case:
        execution_id = await case.start("T-1042")
        assert await rest(case, execution_id) is Status.ESCALATED
        assert await reason(case) == STUCK
        assert await case.scalar(EFFECTS) == ["escalate_to_human"]
        assert await case.scalar(TICKET) == "escalated"
        assert [event.data["attempt"] for event in await case.events(execution_id, "run.started")] == [1]
    assert len(models.asked()) == TOLD_TWICE
    (told,) = models.told()
    assert told.startswith("Error:")
    assert broken.told in told


async def test_a_good_turn_between_broken_ones_starts_the_count_anew(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    wrong = BROKEN["a wrong type"].call
    models.plan(route("billing"), calls(wrong, times=2), calls(ToolCall("list_orders")), calls(wrong, times=2))
    models.plan(calls(refunds), calls(replies), says("Refunded."))
    async with support_over_http(settings, database_url, models) as case:
        assert await rest(case, await case.start("T-1042")) is Status.SUCCEEDED
        assert await case.scalar(PAID) == 3490


@pytest.mark.parametrize("call_id", ["call_0", ""])
async def test_calls_that_share_an_id_within_a_turn_and_across_turns_are_each_made(
    call_id: str, settings: Settings, database_url: str, models: ModelServer
) -> None:
    async with support_over_http(settings, database_url, models) as case:
        assert await _three_equal_replies(case, models, call_id) is Status.SUCCEEDED
        assert await case.scalar(SENT) == 3
        assert await case.scalar("SELECT count(DISTINCT key) FROM casework.effects") == 3


async def test_control_with_the_providers_own_ids_equal_calls_would_be_one(
    settings: Settings, database_url: str, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm, "_fresh_id", lambda: "call_0")
    async with support_over_http(settings, database_url, models) as case:
        await _three_equal_replies(case, models, "call_0")
        assert await case.scalar(SENT) == 1


async def _three_equal_replies(case: Rig, models: ModelServer, call_id: str) -> Status:
    models.call_id = call_id
    models.plan(route("billing"), calls(replies, replies), calls(replies), says("Told them thrice."))
    return await rest(case, await case.start("T-1042"))


async def test_a_router_that_talks_instead_of_choosing_is_told_twice_and_then_a_person_sorts(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(says("I would say billing.", ROUTER, times=None))
    async with support_over_http(settings, database_url, models) as case:
        assert await rest(case, await case.start("T-1042")) is Status.ESCALATED
        assert await reason(case) == "the router did not choose a specialist"
        assert await case.scalar(TICKET) == "escalated"
    assert len(models.asked(ROUTER)) == TOLD_TWICE
    assert models.asked(SPECIALIST) == []


@pytest.mark.parametrize(
    "wrong", [route("treasury"), route("billing", 7.0), route("billing", -1.0), says("billing", ROUTER)], ids=str
)
async def test_a_router_may_correct_a_choice_that_is_none(
    wrong: Reply, settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(wrong, route("billing"), calls(replies), says("Done."))
    async with support_over_http(settings, database_url, models) as case:
        assert await rest(case, await case.start("T-1042")) is Status.SUCCEEDED
    told = models.asked(ROUTER)[1]["messages"][-1]["content"]
    assert told.startswith("Error: call `route` with specialist, confidence and reason.")


async def test_a_specialist_that_does_not_exist_is_never_run(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(*[route("handle_call")] * TOLD_TWICE)  # a node of the graph, and no specialist
    async with support_over_http(settings, database_url, models) as case:
        assert await rest(case, await case.start("T-1042")) is Status.ESCALATED
        assert await case.scalar(EFFECTS) == ["escalate_to_human"]
    assert models.asked(SPECIALIST) == []


async def test_a_router_that_is_not_sure_leaves_the_case_to_a_person(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(route("billing", 0.59))
    async with support_over_http(settings, database_url, models) as case:
        assert await rest(case, await case.start("T-1042")) is Status.ESCALATED
        assert await reason(case) == "the router was not sure enough (0.59): as scripted"
    assert models.asked(SPECIALIST) == []


async def test_prose_closes_no_case_in_which_nobody_was_answered(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(route("billing"), says("All done, the customer is happy.", times=None))
    async with support_over_http(settings, database_url, models) as case:
        assert await rest(case, await case.start("T-1042")) is Status.ESCALATED
        assert await reason(case) == STUCK
    assert len(models.asked()) == TOLD_TWICE
    assert models.told() == [
        "Error: the case is not done: nothing has been done with `reply_to_customer`. Call a tool."
    ]


async def test_an_endless_loop_of_calls_ends_with_the_budget(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(route("billing"), calls(ToolCall("list_orders"), times=None))
    async with support_over_http(settings, database_url, models) as case:
        execution_id = await case.start("T-1042")
        assert await rest(case, execution_id) is Status.ESCALATED
        assert await reason(case) == f"the budget of {Limits().model_calls} model calls is used up"
        assert [event.data["attempt"] for event in await case.events(execution_id, "run.started")] == [1]
    assert len(models.asked(ROUTER)) + len(models.asked()) == Limits().model_calls


async def test_more_calls_at_once_than_the_budget_has_left_are_not_made_at_all(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(route("billing"), calls(*[replies] * 50))
    async with support_over_http(settings, database_url, models) as case:
        assert await rest(case, await case.start("T-1042")) is Status.ESCALATED
        assert await case.scalar(SENT) == 0
        assert await reason(case) == "50 tool calls at once, and of the budget of 40 only 40 are left"


async def test_fifty_calls_at_once_within_the_budget_are_each_made_once(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(route("billing"), calls(*[replies] * 50), says("Told them fifty times."))
    async with support_over_http(settings, database_url, models, Limits(tool_calls=60)) as case:
        assert await rest(case, await case.start("T-1042")) is Status.SUCCEEDED
        assert await case.scalar(SENT) == 50
    assert len(models.told()) == 50
