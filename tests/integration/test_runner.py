"""Who may run an execution, what a run is fed, and how it ends: each rule with the window it closes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import BaseMessage
from sqlalchemy import text

from casework.errors import ExecutionOver, LostLease
from casework.execution import Mode, Status
from casework.legs import Ending, Leg, Legs
from casework.settings import Settings
from graphs.assembly import assemble
from graphs.catalog import Catalog
from graphs.support import support
from nodes.offline import OfflineRules, Reply
from policies.limits import Limits
from tests.rig import ADA, OLGA, Rig, call, rig, scripted
from tests.soundness import broken

REFUND = call("issue_refund", order_id="O-5042", amount_minor=1500, reason="damaged")
REPLY = call("reply_to_customer", body="We have paid it back. Sorry for the trouble.")
REFUNDED = "SELECT coalesce(sum(amount_minor), 0) FROM shop.refunds WHERE order_id = 'O-5042' AND state = 'succeeded'"
CHILDREN = """SELECT max(n) FROM (SELECT count(*) n FROM checkpoints WHERE thread_id = :t
              GROUP BY checkpoint_ns, parent_checkpoint_id) x"""


def failing(times: int, then: OfflineRules) -> OfflineRules:
    """A model that breaks off so many times before it works."""
    left = [times]

    def rules(role: str, messages: Sequence[BaseMessage], tools: frozenset[str]) -> Reply:
        if role != "router" and left[0] > 0:
            left[0] -= 1
            raise ConnectionError("the model went away")
        return then(role, messages, tools)

    return rules


def with_slow_reads(seconds: float) -> Any:
    """The support workflow with a `get_order` that takes its time."""

    async def slow(args: Any, ctx: Any) -> Any:
        await asyncio.sleep(seconds)
        return {"slept": seconds}

    def slowed(tools: Any) -> Any:
        return tuple(replace(t, run=slow) if t.name == "get_order" else t for t in tools)

    return replace(support, specialists=tuple(replace(s, tools=slowed(s.tools)) for s in support.specialists))


async def test_only_one_of_many_wake_ups_runs_an_execution(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted([REFUND, REPLY], "Done.")) as case:
        execution_id = await case.start("T-1042")
        results = await asyncio.gather(*(case.runner(f"w{i}").advance(execution_id) for i in range(8)))
        assert sorted(results, key=str) == [None] * 7 + [Status.SUCCEEDED]
        assert await case.scalar(REFUNDED) == 1500
        assert await case.scalar(CHILDREN, t=str(execution_id)) == 1
        assert await case.advance(execution_id) is None  # over: a late wake-up does nothing


async def test_a_worker_that_lost_its_lease_writes_nothing_more(settings: Settings, database_url: str) -> None:
    rules = scripted([call("get_order", order_id="O-5042")], [REFUND, REPLY], "Done.")
    async with rig(settings, database_url, rules, with_slow_reads(0.6)) as case:
        execution_id = await case.start("T-1042")
        zombie = asyncio.create_task(case.runner("zombie").advance(execution_id))
        await _until_event(case, execution_id, "call.checked")
        await case.execute("UPDATE casework.executions SET lease_until = now() - interval '1 second'")
        assert await case.runner("new").advance(execution_id) is Status.SUCCEEDED
        story = await case.events(execution_id)
        assert await zombie is None
        assert await case.events(execution_id) == story
        assert await case.scalar(REFUNDED) == 1500
        assert await case.scalar(CHILDREN, t=str(execution_id)) == 1


async def test_a_finish_under_an_old_fence_is_refused_whole(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted("Done.")) as case:
        execution_id = await case.start("T-1042")
        old = await case.legs.claim(execution_id, "old", timedelta(seconds=-1))
        new = await case.legs.claim(execution_id, "new", timedelta(seconds=30))
        assert old is not None
        assert new is not None
        assert (old.run_id, new.run_id, new.attempt) == (new.run_id, old.run_id, 2)  # the same leg, tried again
        before = await case.events(execution_id)
        with pytest.raises(LostLease):
            await case.legs.finish(old, Ending(Status.FAILED, error="stale"), ())
        assert (await case.get(execution_id)).status is Status.RUNNING
        assert await case.events(execution_id) == before
        await case.legs.finish(new, Ending(Status.SUCCEEDED, result={}), ())
        assert (await case.get(execution_id)).status is Status.SUCCEEDED


async def test_leases_are_renewed_and_a_lost_one_is_reported(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted("Done.")) as case:
        kept, lost = await case.start("T-1042"), await case.start("T-1003")
        lease = timedelta(seconds=30)
        first = await case.legs.claim(kept, "me", timedelta(seconds=1))
        await case.legs.claim(lost, "me", timedelta(seconds=-1))
        await case.legs.claim(lost, "other", lease)
        assert first is not None
        assert await case.legs.beat("me", lease, {kept: first.fence, lost: 1}) == {lost}
        left = await case.scalar(
            "SELECT extract(epoch FROM lease_until - now()) FROM casework.executions WHERE execution_id = :e", e=kept
        )
        assert left > 25


async def test_a_decision_that_lands_while_the_run_is_under_way_is_not_lost(
    settings: Settings, database_url: str
) -> None:
    rules = scripted([REFUND, REPLY], "Done.")
    async with rig(settings, database_url, rules) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        await case.advance(execution_id)
        refund, reply = sorted(await case.pending(execution_id), key=lambda a: a.tool or "")
        await case.decide(ADA, refund)
        leg = await case.legs.claim(execution_id, "slow", timedelta(seconds=30))
        assert leg is not None
        await case.decide(ADA, reply)  # while the leg runs: nothing is woken by this
        woken = case.queue.woken.count(execution_id)
        ending = Ending(Status.WAITING)
        still_asked = set(await _interrupts(case, execution_id))
        assert await case.legs.finish(leg, ending, still_asked) is Status.QUEUED
        assert case.queue.woken.count(execution_id) == woken + 1
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert await case.scalar(REFUNDED) == 1500


class Unseeing(Legs):
    """Ends a leg as if nothing could have arrived meanwhile."""

    async def finish(self, leg: Leg, ending: Ending, pending: Collection[str]) -> Status:
        await super().finish(leg, ending, pending)
        async with self.engine.begin() as db:
            await db.execute(text("UPDATE casework.executions SET status = 'waiting'"))
        return ending.status


async def test_without_a_second_look_it_is_lost(settings: Settings, database_url: str, payments_book: Path) -> None:
    async with rig(settings, database_url, scripted([REFUND, REPLY], "Done.")) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        await case.advance(execution_id)
        refund, reply = await case.pending(execution_id)
        await case.decide(ADA, refund)
        leg = await case.legs.claim(execution_id, "slow", timedelta(seconds=30))
        assert leg is not None
        await case.decide(ADA, reply)
        still_asked = set(await _interrupts(case, execution_id))
        await Unseeing(**vars(case.legs)).finish(leg, Ending(Status.WAITING), still_asked)
        assert await case.advance(execution_id) is None
        assert await case.legs.forgotten(timedelta(0)) == []
        found = await broken(case.resources.engine, payments_book)
        assert f"an execution that nobody will carry on: {execution_id}" in found


async def test_a_broken_run_is_tried_again_and_goes_on_from_its_checkpoint(
    settings: Settings, database_url: str
) -> None:
    async with rig(settings, database_url, failing(2, scripted([REFUND, REPLY], "Done."))) as case:
        execution_id = await case.start("T-1042")
        assert await case.advance(execution_id) is Status.QUEUED
        await _past_the_pause(case)
        assert await case.advance(execution_id) is Status.QUEUED
        await _past_the_pause(case)
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert [e.data["attempt"] for e in await case.events(execution_id, "run.started")] == [1, 2, 3]
        assert len(await case.events(execution_id, "case.routed")) == 1  # finished steps are not run again
        assert await case.scalar("SELECT count(*) FROM casework.runs") == 1


async def test_on_its_last_attempt_a_case_without_a_model_goes_to_a_person(
    settings: Settings, database_url: str
) -> None:
    async with rig(settings, database_url, failing(99, scripted("Done."))) as case:
        execution_id = await case.start("T-1042")
        for _ in range(settings.max_attempts - 1):
            assert await case.advance(execution_id) is Status.QUEUED
            await _past_the_pause(case)
        assert await case.advance(execution_id) is Status.ESCALATED
        assert await case.scalar("SELECT status FROM shop.tickets WHERE ticket_id = 'T-1042'") == "escalated"


async def test_a_poison_execution_fails_after_its_attempts_with_its_reason(
    settings: Settings, database_url: str
) -> None:
    async with rig(settings, database_url, scripted("Done.")) as case:
        execution_id = await case.start("T-1042")
        await case.execute("UPDATE casework.executions SET workflow = 'gone'")
        for _ in range(settings.max_attempts):
            await case.advance(execution_id)
            await _past_the_pause(case)
        ended = await case.get(execution_id)
        assert ended.status is Status.FAILED
        assert "there is no workflow 'gone'" in (ended.error or "")


async def test_a_drained_run_is_free_for_another_worker_at_once(settings: Settings, database_url: str) -> None:
    rules = scripted([call("get_order", order_id="O-5042")], [REFUND, REPLY], "Done.")
    async with rig(settings, database_url, rules, with_slow_reads(0.3)) as case:
        execution_id = await case.start("T-1042")
        stopping = case.runner("stopping")
        run = asyncio.create_task(stopping.advance(execution_id))
        await _until_event(case, execution_id, "call.checked")
        stopping.drain()
        assert await run is Status.QUEUED
        assert await case.runner("next").advance(execution_id) is Status.SUCCEEDED
        assert [e.data["attempt"] for e in await case.events(execution_id, "run.started")] == [1, 1]
        checked = [e.data["tool"] for e in await case.events(execution_id, "call.checked")]
        assert checked.count("get_order") == 1  # it went on where the first one stopped


async def test_no_effect_begins_after_a_cancel_was_answered(settings: Settings, database_url: str) -> None:
    rules = scripted([call("get_order", order_id="O-5042")], [REFUND], "Done.")
    async with rig(settings, database_url, rules, with_slow_reads(0.4)) as case:
        execution_id = await case.start("T-1042")
        run = asyncio.create_task(case.advance(execution_id))
        await _until_event(case, execution_id, "call.checked")
        await case.store.cancel(OLGA, execution_id)
        assert await run is Status.CANCELLED
        assert await case.scalar("SELECT count(*) FROM casework.effects") == 0
        with pytest.raises(ExecutionOver):
            await case.store.cancel(OLGA, execution_id)


async def test_cancelling_a_waiting_execution_supersedes_its_questions(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted([REFUND], "Done.")) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        await case.advance(execution_id)
        assert (await case.store.cancel(OLGA, execution_id)).status is Status.CANCELLED
        assert await case.scalar("SELECT state FROM casework.approvals") == "superseded"
        assert await case.advance(execution_id) is None


async def test_cancelling_between_two_tries_ends_the_leg(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, failing(1, scripted("Done."))) as case:
        execution_id = await case.start("T-1042")
        assert await case.advance(execution_id) is Status.QUEUED
        assert (await case.store.cancel(OLGA, execution_id)).status is Status.CANCELLED
        assert await case.scalar("SELECT status FROM casework.runs WHERE finished_at IS NOT NULL") == "cancelled"


async def test_a_paused_node_that_is_gone_refuses_to_resume_and_keeps_the_decision(
    settings: Settings, database_url: str
) -> None:
    async with rig(settings, database_url, scripted([REFUND], [REPLY], "Done.")) as case:
        execution_id = await case.start("T-1042")
        await case.execute("UPDATE casework.executions SET mode = 'copilot'")
        await case.advance(execution_id)
        (asked,) = await case.pending(execution_id)
        await case.decide(ADA, asked)
        builder = assemble(replace(support, offline=scripted("Done.")))
        renamed = builder.nodes.pop("handle_call")
        builder.nodes["carry_out_call"] = renamed
        builder.branches["carry_out_call"] = builder.branches.pop("handle_call")
        for branch in builder.branches["check_calls"].values():
            assert branch.ends is not None
            branch.ends.pop("handle_call", None)
        now = case.catalog
        case.catalog = Catalog.of({"support": builder})
        assert await case.advance(execution_id) is Status.WAITING
        assert "no such node" in ((await case.get(execution_id)).error or "")
        assert await case.scalar(REFUNDED) == 0
        assert await case.legs.reopen({case.catalog.get("support").version}) == []
        case.catalog = now
        assert await case.legs.reopen({now.get("support").version}) == [execution_id]
        assert await case.advance(execution_id) is Status.WAITING  # the refund was made; the reply asks
        assert await case.scalar(REFUNDED) == 1500


async def test_a_used_up_budget_escalates_instead_of_failing(settings: Settings, database_url: str) -> None:
    endless = scripted([call("list_orders")])
    frugal = replace(support, limits=Limits(model_calls=4))
    async with rig(settings, database_url, endless, frugal) as case:
        execution_id = await case.start("T-1042")
        assert await case.advance(execution_id) is Status.ESCALATED
        ended = await case.get(execution_id)
        assert ended.model_calls == 4
        assert ended.result is not None
        assert ended.result["outcome"]["reason"] == "the budget of 4 model calls is used up"


async def test_the_reconciler_finds_what_nobody_runs(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted("Done.")) as case:
        queued, held, dropped = [await case.start(t) for t in ("T-1042", "T-1003", "T-1004")]
        await case.legs.claim(held, "alive", timedelta(seconds=30))
        await case.legs.claim(dropped, "dead", timedelta(seconds=-1))
        assert set(await case.legs.forgotten(timedelta(0))) == {queued, dropped}
        assert await case.legs.forgotten(timedelta(minutes=1)) == [dropped]


async def _until_event(case: Rig, execution_id: Any, type_: str) -> None:
    async with asyncio.timeout(10):
        while not await case.events(execution_id, type_):  # noqa: ASYNC110 - what is awaited lies in the database
            await asyncio.sleep(0.02)


async def _past_the_pause(case: Rig) -> None:
    """What waiting for the retry would do."""
    await case.execute("UPDATE casework.executions SET wake_at = now()")


async def _interrupts(case: Rig, execution_id: Any) -> list[str]:
    async with case.resources.engine.connect() as db:
        rows = await db.exec_driver_sql("SELECT interrupt_id FROM casework.approvals")
        return [row[0] for row in rows]
