"""Every wait ends: a tool's, a model's, a run's, an execution's; and what is cut off does nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langgraph.graph import END, START, StateGraph
from sqlalchemy import text
from sqlalchemy.exc import InvalidRequestError
from typing_extensions import TypedDict

from casework.approval import Approval
from casework.errors import CallRefused, LostLease, OutcomeUnknown, SettingsInvalid, ToolFailed
from casework.execution import Mode, Status
from casework.journal import hold_fence
from casework.legs import Ending
from casework.settings import Settings
from graphs import runner
from graphs.catalog import Catalog
from graphs.support import support
from nodes.llm import RETRIES, ModelUnavailable, call_model
from nodes.offline import OfflineModel, OfflineRules
from nodes.workflow import Workflow
from policies.limits import Limits
from policies.verdict import Allow
from server.service import open_service
from tests.outside import Desk, PayArgs
from tests.rig import ADA, OLGA, Rig, call, rig, scripted
from tests.soundness import broken
from tools.spec import Effect, ToolContext, tool

REFUND = call("issue_refund", order_id="O-5042", amount_minor=1500, reason="damaged")
REPLY = call("reply_to_customer", body="We have paid it back. Sorry for the trouble.")
REASON = "SELECT result #>> '{outcome,reason}' FROM casework.executions"
AT_ONCE = 0.05
"""A time-out nobody waits for, in seconds."""


class Stubborn:
    """What cannot be stopped; it goes on when it is let go, and says how that went."""

    def __init__(self) -> None:
        self.begun, self.let_go = asyncio.Event(), asyncio.Event()
        self.ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def hold(self) -> None:
        self.begun.set()
        while not self.let_go.is_set():
            try:
                await self.let_go.wait()
            except asyncio.CancelledError:
                continue

    async def hear(self, going_on: Any) -> None:
        """Note how what it did afterwards ended."""
        try:
            self.ended.set_result(await going_on)
        except Exception as error:
            self.ended.set_result(error)
            raise


# Tools


async def test_a_write_that_cannot_be_stopped_in_time_is_undone_and_can_write_nothing_more(desk: Desk) -> None:
    await desk.case.execute("CREATE TABLE paid (amount int)")
    stubborn, insert = Stubborn(), text("INSERT INTO paid VALUES (5)")

    async def write(args: PayArgs, ctx: ToolContext) -> None:
        """Write it down, and go on when told to stop."""
        await ctx.transaction.execute(insert)
        await stubborn.hold()
        await stubborn.hear(ctx.transaction.execute(insert))

    spec = tool(effect=Effect.TRANSACTIONAL, permission="pay", timeout_s=AT_ONCE)(write)
    with pytest.raises(ToolFailed, match=r"took longer than 0\.05 s; nothing was changed"):
        await desk.call(spec)
    async with desk.case.resources.engine.begin() as db, asyncio.timeout(5):
        await hold_fence(db, desk.scope.execution_id, desk.scope.fence)  # the row is free at once
    stubborn.let_go.set()
    assert isinstance(await stubborn.ended, InvalidRequestError)
    assert await desk.case.scalar("SELECT count(*) FROM paid") == 0
    assert await desk.states() == []


@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.LOOKUP, Effect.AT_MOST_ONCE])
async def test_an_outside_call_that_cannot_be_stopped_is_unknown_never_failed(desk: Desk, effect: Effect) -> None:
    stubborn = Stubborn()

    async def pay(args: PayArgs, ctx: ToolContext) -> None:
        """Pay, and go on when told to stop."""
        await stubborn.hold()

    async def find(args: PayArgs, ctx: ToolContext) -> None:
        await stubborn.hold()

    found = {"find": find} if effect is Effect.LOOKUP else {}
    spec = tool(effect=effect, permission="pay", timeout_s=AT_ONCE, **found)(pay)
    with pytest.raises(OutcomeUnknown, match="did not answer within"):
        await desk.call(spec)
    assert await desk.states() == ["unknown"]
    stubborn.let_go.set()


async def test_a_read_that_cannot_be_stopped_is_an_error_to_the_model(desk: Desk) -> None:
    stubborn = Stubborn()

    async def look(args: PayArgs, ctx: ToolContext) -> None:
        """Look."""
        await stubborn.hold()

    spec = tool(effect=Effect.READ, permission="pay", timeout_s=AT_ONCE)(look)
    with pytest.raises(ToolFailed, match=r"took longer than 0\.05 s"):
        await desk.call(spec)
    stubborn.let_go.set()


async def test_facts_that_do_not_come_are_a_refusal_and_begin_nothing(desk: Desk) -> None:
    stubborn = Stubborn()

    async def facts(args: PayArgs, ctx: ToolContext) -> None:
        await stubborn.hold()

    async def pay(args: PayArgs, ctx: ToolContext) -> dict[str, Any]:
        """Pay."""
        return {}

    judged = {"facts": facts, "policy": lambda args, actor, facts: Allow("fine")}
    for effect in (Effect.TRANSACTIONAL, Effect.KEYED):
        spec = tool(effect=effect, permission="pay", timeout_s=AT_ONCE, **judged)(pay)
        with pytest.raises(CallRefused, match="could not be loaded in time"):
            await desk.call(spec)
    assert await desk.states() == []
    stubborn.let_go.set()


@pytest.mark.parametrize(("part", "state"), [("reserve", []), ("settle", ["unknown"])])
async def test_what_goes_with_an_outside_call_is_bounded_too(desk: Desk, part: str, state: list[str]) -> None:
    async def for_ever(*_: Any) -> None:
        await asyncio.Event().wait()

    async def pay(args: PayArgs, ctx: ToolContext) -> dict[str, Any]:
        """Pay."""
        return {}

    hanging: Any = {part: for_ever}
    spec = tool(effect=Effect.KEYED, permission="pay", timeout_s=AT_ONCE, **hanging)(pay)
    with pytest.raises((ToolFailed, OutcomeUnknown)):
        await desk.call(spec)
    assert await desk.states() == state


# Models


async def test_a_model_that_cannot_be_stopped_is_given_up() -> None:
    stubborn = Stubborn()

    class Deaf(OfflineModel):
        async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
            await stubborn.hold()
            yield ChatGenerationChunk(message=AIMessageChunk(content="too late"))

    deaf: BaseChatModel = Deaf(role="x", rules=scripted("Done."))
    with pytest.raises(ModelUnavailable, match="the model failed: LeftBehind"):
        await call_model(deaf, [], [], timedelta(seconds=AT_ONCE) / (1 + RETRIES))
    assert stubborn.begun.is_set()
    stubborn.let_go.set()


# Runs


class Asked(TypedDict):
    said: str


async def slow_graph(first: Any, second: Any) -> Any:
    """A foreign graph of two steps."""
    builder = StateGraph(Asked)
    builder.add_node("first", first)
    builder.add_node("second", second)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    builder.add_edge("second", END)
    return builder


@pytest_asyncio.fixture
async def case(settings: Settings, database_url: str) -> AsyncIterator[Rig]:
    hurried = settings.model_copy(update={"run_timeout": timedelta(seconds=AT_ONCE)})
    async with rig(hurried, database_url, scripted("Done.")) as opened:
        yield opened


async def begun(case: Rig, first: Any, second: Any) -> Any:
    case.catalog = Catalog.of({"slow": await slow_graph(first, second)})
    entry = case.catalog.get("slow")
    execution, _ = await case.store.create(OLGA, "slow", entry.version, Mode.COPILOT, {"said": ""})
    return execution.execution_id


async def again(case: Rig) -> None:
    """What waiting for the pause would do."""
    await case.execute("UPDATE casework.executions SET wake_at = now()")


async def test_a_run_that_takes_too_long_stops_at_its_next_step_and_goes_on_from_there(case: Rig) -> None:
    passed: list[str] = []

    async def first(state: Asked) -> dict[str, str]:
        passed.append("first")
        await asyncio.sleep(2 * AT_ONCE)
        return {"said": "first"}

    async def second(state: Asked) -> dict[str, str]:
        passed.append("second")
        return {"said": state["said"] + ", second"}

    execution_id = await begun(case, first, second)
    assert await case.advance(execution_id) is Status.QUEUED
    (released,) = await case.events(execution_id, "run.released")
    assert released.data["error"] == "RunTimedOut: the run took longer than 0.05 s, and was stopped"
    case.resources.settings.run_timeout = timedelta(minutes=1)
    await again(case)
    assert await case.advance(execution_id) is Status.SUCCEEDED
    assert passed == ["first", "second"]
    assert [e.data["attempt"] for e in await case.events(execution_id, "run.started")] == [1, 2]


async def test_a_step_that_does_not_end_is_cut_off_and_fails_the_execution_after_its_tries(
    case: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "LAST_STEP_S", 0.0)

    async def for_ever(state: Asked) -> None:
        await asyncio.Event().wait()

    execution_id = await begun(case, for_ever, for_ever)
    for _ in range(case.resources.settings.max_attempts):
        assert (await case.get(execution_id)).status is Status.QUEUED
        await case.advance(execution_id)
        await again(case)
    ended = await case.get(execution_id)
    assert (ended.status, ended.error) == (
        Status.FAILED,
        "RunTimedOut: the run took longer than 0.05 s, and was stopped",
    )


async def test_a_run_that_cannot_be_stopped_is_left_behind_and_writes_nothing_more(
    case: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "LAST_STEP_S", 0.0)
    monkeypatch.setattr(runner, "CUT_OFF_S", AT_ONCE)
    stubborn = Stubborn()
    tries: list[str] = []

    async def first(state: Asked) -> dict[str, str]:
        tries.append("first")
        if len(tries) == 1:
            await stubborn.hold()
        return {"said": f"try {len(tries)}"}

    async def second(state: Asked) -> dict[str, str]:
        tries.append("second")
        return {"said": state["said"] + ", whole"}

    execution_id = await begun(case, first, second)
    assert await case.advance(execution_id) is Status.QUEUED  # its slot in the worker is free again
    case.resources.settings.run_timeout = timedelta(minutes=1)
    await again(case)
    assert await case.advance(execution_id) is Status.SUCCEEDED
    story = await case.events(execution_id)
    stubborn.let_go.set()
    left = [t for t in asyncio.all_tasks() if "Runner._run" in getattr(t.get_coro(), "__qualname__", "")]
    for ended in await asyncio.gather(*left, return_exceptions=True):
        assert isinstance(ended, LostLease | asyncio.CancelledError)
    assert left
    assert await case.events(execution_id) == story
    assert (await case.get(execution_id)).result == {"said": "try 2, whole"}
    forks = """SELECT max(n) FROM (SELECT count(*) n FROM checkpoints GROUP BY thread_id, checkpoint_ns,
               parent_checkpoint_id) x"""
    assert await case.scalar(forks) == 1


async def test_an_effect_under_way_when_its_run_is_cut_off_happens_once(
    settings: Settings, database_url: str, payments_book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "LAST_STEP_S", 0.0)
    keys: list[str] = []
    paying = asyncio.Event()

    def holding(workflow: Workflow) -> Workflow:
        """The first call of the provider is done, and its answer does not come."""
        (refund,) = {t for s in workflow.specialists for t in s.tools if t.name == "issue_refund"}

        async def pay(args: Any, ctx: ToolContext) -> Any:
            keys.append(ctx.key)
            result = await refund.run(args, ctx)
            if len(keys) == 1:
                paying.set()
                await asyncio.Event().wait()
            return result

        held = replace(refund, run=pay)
        tools = {s.name: tuple(held if t is refund else t for t in s.tools) for s in workflow.specialists}
        return replace(workflow, specialists=tuple(replace(s, tools=tools[s.name]) for s in workflow.specialists))

    hurried = settings.model_copy(update={"run_timeout": timedelta(seconds=2)})
    async with rig(hurried, database_url, scripted([REFUND, REPLY], "Done."), holding(support)) as case:
        execution_id = await case.start("T-1042")
        while not paying.is_set():  # on a slow machine the time may be over before
            assert await case.advance(execution_id) is Status.QUEUED
            await again(case)
        case.resources.settings.run_timeout = timedelta(minutes=1)
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert keys == [keys[0]] * 2
        assert await broken(case.resources.engine, payments_book) == []


async def test_an_effect_whose_execution_fails_without_it_is_unknown_and_on_the_audit_log(desk: Desk) -> None:
    leg_fence = desk.scope.fence

    async def pay(args: PayArgs, ctx: ToolContext) -> None:
        """Pay."""
        raise asyncio.CancelledError

    with pytest.raises((asyncio.CancelledError, OutcomeUnknown)):
        await desk.call(tool(effect=Effect.AT_MOST_ONCE, permission="pay")(pay))
    await desk.case.execute("UPDATE casework.effects SET state = 'started', finished_at = NULL")
    await desk.case.execute("UPDATE casework.executions SET lease_until = now() - interval '1 second'")
    leg = await desk.case.legs.claim(desk.scope.execution_id, "next", timedelta(seconds=30))
    assert leg is not None
    assert leg.fence == leg_fence + 1
    await desk.case.legs.finish(leg, Ending(Status.FAILED, error="it is broken"), ())
    assert await desk.states() == ["unknown"]
    told = (await desk.case.events(desk.scope.execution_id, "effect.unknown"))[-1]
    why = "the execution ended before this was known: it is broken"
    assert told.data == {"call_id": "c1", "tool": "pay", "attempt": 1, "args": {"amount": 5}, "error": why}
    line = "SELECT body::jsonb ->> 'call' FROM casework.audit ORDER BY seq DESC LIMIT 1"
    assert await desk.case.scalar(line) == "c1"


async def test_a_run_whose_workers_die_again_and_again_is_given_up(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted("Done.")) as case:
        execution_id = await case.start("T-1042")
        for _ in range(settings.max_attempts):
            assert await case.legs.claim(execution_id, "dies", timedelta(seconds=-1)) is not None
        assert await case.advance(execution_id) is Status.FAILED
        assert "No try of this run came to an end" in ((await case.get(execution_id)).error or "")


async def test_a_leg_that_has_ended_is_neither_given_back_nor_ended_again(
    settings: Settings, database_url: str
) -> None:
    async with rig(settings, database_url, scripted("Done.")) as case:
        execution_id = await case.start("T-1042")
        leg = await case.legs.claim(execution_id, "me", timedelta(seconds=30))
        assert leg is not None
        await case.legs.finish(leg, Ending(Status.SUCCEEDED, result={}), ())
        story = await case.events(execution_id)
        for late in (
            case.legs.release(leg, None, timedelta(0)),
            case.legs.take_back(leg),
            case.legs.finish(leg, Ending(Status.FAILED, error="its answer was lost"), ()),
        ):
            with pytest.raises(LostLease):
                await late
        assert (await case.get(execution_id)).status is Status.SUCCEEDED
        assert await case.events(execution_id) == story


async def test_a_run_timeout_below_a_workflows_budget_is_refused(settings: Settings, database_url: str) -> None:
    short = settings.model_copy(update={"run_timeout": timedelta(seconds=support.limits.working_s)})
    with pytest.raises(SettingsInvalid, match="CASEWORK_RUN_TIMEOUT must be longer than the 900 s"):
        async with open_service(short, database_url):
            pass


# Executions: budgets


def spending(rules: OfflineRules, **spent: int) -> Workflow:
    """The support workflow with these limits."""
    return replace(support, limits=Limits(**spent), offline=rules)


async def outcome(case: Rig, execution_id: Any) -> tuple[Status, str]:
    return (await case.get(execution_id)).status, str(await case.scalar(REASON))


async def approve_all(case: Rig, execution_id: Any) -> None:
    asked: Sequence[Approval] = await case.pending(execution_id)
    for approval in asked:
        await case.decide(ADA, approval)


PASSED = """
    UPDATE casework.runs SET started_at = started_at - make_interval(secs => :worked + :waited),
        finished_at = finished_at - make_interval(secs => :waited)"""
"""As if every run so far had taken so long, and people so long to answer it."""


@pytest.mark.parametrize(
    ("worked", "waited", "ends"),
    [
        pytest.param(50, 10**6, (Status.WAITING, "None"), id="people may take days"),
        pytest.param(101, 0, (Status.ESCALATED, "the budget of 100 seconds of work is used up"), id="agents may not"),
    ],
)
async def test_working_time_counts_over_all_runs_and_waiting_does_not(
    worked: int, waited: int, ends: tuple[Status, str], settings: Settings, database_url: str
) -> None:
    rules = scripted([REFUND], [REPLY], "Done.")
    async with rig(settings, database_url, rules, spending(rules, working_s=100)) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        assert await case.advance(execution_id) is Status.WAITING
        await approve_all(case, execution_id)
        await case.execute(PASSED, worked=worked, waited=waited)
        await case.advance(execution_id)
        assert await outcome(case, execution_id) == ends
        assert await case.scalar("SELECT state FROM casework.effects WHERE tool = 'issue_refund'") == "done"


async def test_resuming_gives_no_new_time(settings: Settings, database_url: str) -> None:
    rules = scripted([REPLY])  # in every turn anew
    async with rig(settings, database_url, rules, spending(rules, working_s=100)) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        while await case.advance(execution_id) is Status.WAITING:
            last = "WHERE started_at = (SELECT max(started_at) FROM casework.runs)"
            await case.execute(f"{PASSED} {last}", worked=40, waited=10**6)
            await approve_all(case, execution_id)
        assert await outcome(case, execution_id) == (
            Status.ESCALATED,
            "the budget of 100 seconds of work is used up",
        )
        assert await case.scalar("SELECT count(*) FROM casework.runs") == 4  # 40, 80, 120: the fourth hands it over


async def test_a_reopened_execution_has_its_whole_time_again(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted("Done.")) as case:
        execution_id = await case.start("T-1042")
        leg = await case.legs.claim(execution_id, "me", timedelta(seconds=30))
        assert leg is not None
        await case.execute(PASSED, worked=500, waited=0)
        assert await case.legs.worked(execution_id) >= timedelta(seconds=500)
        await case.legs.finish(leg, Ending(Status.SUCCEEDED, result={}), ())
        await case.execute("UPDATE casework.executions SET status = 'queued', finished_at = NULL")
        assert await case.legs.claim(execution_id, "me", timedelta(seconds=30)) is not None
        assert await case.legs.worked(execution_id) < timedelta(seconds=400)


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"tokens": 1}, "the budget of 1 tokens is used up"),
        ({"cost_microusd": 0}, "the budget of 0 cost microusd is used up"),
        ({"working_s": 0}, "the budget of 0 seconds of work is used up"),
        ({"model_calls": 1}, "the budget of 1 model calls is used up"),
    ],
)
async def test_a_budget_that_is_used_up_from_the_start_asks_no_model_for_more(
    limit: dict[str, int], reason: str, settings: Settings, database_url: str
) -> None:
    rules = scripted([REFUND])
    async with rig(settings, database_url, rules, spending(rules, **limit)) as case:
        execution_id = await case.start("T-1042")
        assert await case.advance(execution_id) is Status.ESCALATED
        assert await outcome(case, execution_id) == (Status.ESCALATED, reason)
        assert await case.scalar("SELECT count(*) FROM casework.effects WHERE tool = 'issue_refund'") == 0


async def test_a_budget_that_the_models_answer_used_up_stops_its_calls(settings: Settings, database_url: str) -> None:
    rules = scripted([REFUND, REPLY], "Done.")
    async with rig(settings, database_url, rules) as case:
        execution_id = await case.start("T-1042")
        await case.advance(execution_id)
        (routed,) = await case.events(execution_id, "case.routed")
        assert len(await case.events(execution_id, "effect.done")) == 2
    limit = routed.data["tokens"] + 1  # enough to ask the specialist, not for its answer
    async with rig(settings, database_url, rules, spending(rules, tokens=limit)) as case:
        execution_id = await case.start("T-1042")
        assert await case.advance(execution_id) is Status.ESCALATED
        reason = f"the budget of {limit} tokens is used up"
        assert [e.data for e in await case.events(execution_id, "budget.exhausted")] == [{"reason": reason}]
        assert len(await case.events(execution_id, "model.answered")) == 1
        assert await case.events(execution_id, "effect.started", "call.checked") == []
        answers = [m.text for m in await case.messages(execution_id) if m.type == "tool"]
        assert answers == [f"Not made: {reason}."] * 2


async def test_a_large_budget_is_reached_before_langgraphs_own_limit(settings: Settings, database_url: str) -> None:
    rules = scripted([call("list_orders")])
    workflow = spending(rules, model_calls=70, tool_calls=1000, tokens=10**9)
    async with rig(settings, database_url, rules, workflow) as case:
        execution_id = await case.start("T-1042")
        assert await case.advance(execution_id) is Status.ESCALATED
        assert await outcome(case, execution_id) == (Status.ESCALATED, "the budget of 70 model calls is used up")
        steps = await case.scalar("SELECT max((metadata ->> 'step')::int) FROM checkpoints")
        assert steps > runner.STEPS_PER_RUN
