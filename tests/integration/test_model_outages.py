"""A model that cannot be reached, or breaks off: half an answer is never acted on, and no case hangs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import pytest
from llmock.chaos import StreamChaos
from llmock.scenarios import ToolCall

from casework.execution import Status
from casework.settings import Settings
from nodes.llm import RETRIES
from tests.model_server import (
    ROUTER,
    SPECIALIST,
    ModelServer,
    breaks,
    calls,
    fails,
    model_server,
    rest,
    route,
    says,
    support_over_http,
)
from tests.rig import Rig

refunds = ToolCall("issue_refund", {"order_id": "O-5042", "reason": "damaged", "amount_minor": 3490})
replies = ToolCall("reply_to_customer", {"body": "We have paid it back. Sorry for the trouble."})
EFFECTS = "SELECT coalesce(array_agg(tool ORDER BY started_at, tool), '{}') FROM casework.effects"
REASON = "SELECT result #>> '{outcome,reason}' FROM casework.executions"
TICKET = "SELECT status FROM shop.tickets WHERE ticket_id = 'T-1042'"
ARGUMENT_CHARS = 12
"""What llmock streams of a call's arguments in one chunk."""
WHOLE_CALL = 2 + -(-len(json.dumps(refunds.arguments)) // ARGUMENT_CHARS)
"""Chunks until a refund is wholly sent, and only the finish reason is missing."""
PAUSE = timedelta(milliseconds=200)
TRIES = 1 + RETRIES


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


async def attempts(case: Rig) -> int:
    """How often the only run of this test was tried."""
    return int(await case.scalar("SELECT attempt FROM casework.runs"))


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_refusal_that_passes_is_waited_for_within_the_run(
    status: int, settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(*[fails(status)] * RETRIES)
    models.plan(route("billing"), calls(refunds), calls(replies), says("Refunded."))
    async with support_over_http(settings, database_url, models) as case:
        assert await rest(case, await case.start("T-1042")) is Status.SUCCEEDED
        assert await attempts(case) == 1
    retried = [r.sdk_retry_count for r in models.server.state.journal.records() if r.model == SPECIALIST]
    assert retried == [0, 1, 2, 0, 0]


async def test_a_longer_outage_releases_the_run_and_the_next_attempt_goes_on_where_it_was(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(route("billing"), calls(refunds))
    async with support_over_http(settings, database_url, models) as case:
        execution_id = await case.start("T-1042")
        models.plan(fails(500, model=ROUTER, times=TRIES))
        assert await case.advance(execution_id) is Status.QUEUED
        models.plan(calls(replies), says("Refunded."))
        assert await rest(case, execution_id) is Status.SUCCEEDED
        assert await attempts(case) == 2
        assert await case.scalar(EFFECTS) == ["issue_refund", "reply_to_customer"]
    assert len(models.asked(SPECIALIST)) == 3


@pytest.mark.parametrize("model", [ROUTER, SPECIALIST])
async def test_a_model_that_stays_away_is_tried_with_growing_pauses_and_then_a_person_has_the_case(
    model: str, settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(route("billing"), fails(500, model=model, times=None))
    pauses = {"max_attempts": 3, "retry_delay": PAUSE}
    async with support_over_http(settings, database_url, models, **pauses) as case:
        execution_id = await case.start("T-1042")
        assert await rest(case, execution_id) is Status.ESCALATED
        assert str(await case.scalar(REASON)).startswith("the model failed: OpenAIAPIError: Error code: 500")
        assert await case.scalar(TICKET) == "escalated"
        turns = await case.events(execution_id, "run.started", "run.released")
        gaps = [b.at - a.at for a, b in pairwise(turns) if a.type == "run.released"]
        assert len(gaps) == 2
        assert gaps[0] > 0.7 * PAUSE  # the event is written a little after the pause has begun
        assert gaps[1] > 1.7 * PAUSE
    assert len(models.asked(model)) == 3 * TRIES


@pytest.mark.parametrize("kind", ["truncate", "disconnect", "malformed"])
@pytest.mark.parametrize("after_chunks", [1, 4, WHOLE_CALL], ids=["at once", "in mid-call", "after the whole call"])
async def test_a_stream_that_breaks_is_not_acted_on_and_the_run_is_tried_again(
    kind: str, after_chunks: int, settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(route("billing"), calls(refunds), breaks(kind, after_chunks))
    async with support_over_http(settings, database_url, models) as case:
        execution_id = await case.start("T-1042")
        assert await case.advance(execution_id) is Status.QUEUED
        assert await case.scalar(EFFECTS) == []
        models.plan(calls(refunds), calls(replies), says("Refunded."))
        assert await rest(case, execution_id) is Status.SUCCEEDED
        assert await case.scalar(EFFECTS) == ["issue_refund", "reply_to_customer"]
        assert await attempts(case) == 2


async def test_a_stream_that_always_breaks_ends_with_a_person(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(route("billing"), calls(refunds, times=None), breaks("truncate", WHOLE_CALL, times=None))
    async with support_over_http(settings, database_url, models, max_attempts=2) as case:
        assert await rest(case, await case.start("T-1042")) is Status.ESCALATED
        assert await case.scalar(REASON) == "the model's answer broke off: it came without a finish reason"
        assert await case.scalar(EFFECTS) == ["escalate_to_human"]


@pytest.mark.parametrize("finish_reason", ["length", "content_filter", "something_new"])
async def test_an_answer_that_ended_early_is_not_acted_on_and_a_person_has_the_case_at_once(
    finish_reason: str, settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(route("billing"), calls(refunds, finish_reason=finish_reason))
    async with support_over_http(settings, database_url, models) as case:
        assert await rest(case, await case.start("T-1042")) is Status.ESCALATED
        assert await case.scalar(REASON) == f"the model ended its answer early: {finish_reason}"
        assert await case.scalar(EFFECTS) == ["escalate_to_human"]
        assert await attempts(case) == 1
    assert len(models.asked(SPECIALIST)) == 1


async def test_control_the_same_call_with_its_finish_reason_is_acted_on(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(route("billing"), calls(refunds, finish_reason="tool_calls"), calls(replies), says("Refunded."))
    async with support_over_http(settings, database_url, models) as case:
        assert await rest(case, await case.start("T-1042")) is Status.SUCCEEDED
        assert await case.scalar(EFFECTS) == ["issue_refund", "reply_to_customer"]


async def test_a_model_that_falls_silent_is_given_up_after_its_time(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(route("billing"), calls(refunds), breaks("stall", 2, stall_s=3.0))
    quick = {"model_timeout": timedelta(seconds=1)}
    async with support_over_http(settings, database_url, models, **quick) as case:
        execution_id = await case.start("T-1042")
        assert await case.advance(execution_id) is Status.QUEUED
        models.plan(calls(refunds), calls(replies), says("Refunded."))
        assert await rest(case, execution_id) is Status.SUCCEEDED
        assert await case.scalar(EFFECTS) == ["issue_refund", "reply_to_customer"]


async def test_a_stream_that_only_drips_is_given_up_though_it_is_never_silent(
    settings: Settings, database_url: str, models: ModelServer
) -> None:
    models.plan(route("billing"), says("word " * 60, times=None))
    models.server.state.stream_chaos = StreamChaos(chunk_delay_ms=40)
    quick = {"model_timeout": timedelta(milliseconds=500), "max_attempts": 1}
    async with support_over_http(settings, database_url, models, **quick) as case:
        assert await rest(case, await case.start("T-1042")) is Status.ESCALATED
        assert str(await case.scalar(REASON)).startswith("the model failed: TimeoutError")
