"""Every effect class, tried again after each way a first try can break off."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from casework.errors import CancelRequested, LedgerMismatch, LostLease, OutcomeUnknown, ToolFailed
from tests.outside import Crash, Desk, Outside, PayArgs
from tests.rig import OLGA
from tools.ledger import PROVIDER_WINDOW
from tools.spec import Effect, ToolContext, tool


async def test_a_transactional_call_happens_once_and_its_result_is_kept(desk: Desk) -> None:
    await desk.case.execute("CREATE TABLE paid (amount int)")

    async def write(args: PayArgs, ctx: ToolContext) -> dict[str, Any]:
        """Write it down."""
        await ctx.transaction.execute(text("INSERT INTO paid VALUES (:a)"), {"a": args.amount})
        return {"paid": args.amount}

    spec = tool(effect=Effect.TRANSACTIONAL, permission="pay")(write)
    assert await desk.call(spec) == await desk.call(spec) == {"paid": 5}
    assert await desk.case.scalar("SELECT count(*) FROM paid") == 1
    assert await desk.states() == ["done"]


async def test_a_transactional_call_that_breaks_off_leaves_nothing_and_can_be_made_again(desk: Desk) -> None:
    await desk.case.execute("CREATE TABLE paid (amount int)")
    crashes = [Crash()]

    async def write(args: PayArgs, ctx: ToolContext) -> dict[str, Any]:
        """Write it down."""
        await ctx.transaction.execute(text("INSERT INTO paid VALUES (:a)"), {"a": args.amount})
        if crashes:
            raise crashes.pop()
        return {"paid": args.amount}

    spec = tool(effect=Effect.TRANSACTIONAL, permission="pay")(write)
    with pytest.raises(Crash):
        await desk.call(spec)
    assert await desk.states() == []
    await desk.call(spec)
    assert await desk.case.scalar("SELECT count(*) FROM paid") == 1


@pytest.mark.parametrize("effect", [Effect.KEYED, Effect.LOOKUP])
async def test_an_outside_call_cut_off_after_it_was_done_is_done_once(desk: Desk, effect: Effect) -> None:
    outside = Outside(next=Crash())
    spec = outside.tool(effect)
    with pytest.raises(Crash):
        await desk.call(spec)
    assert await desk.states() == ["started"]
    assert await desk.call(spec) == {"paid": 5}
    assert outside.booked == {f"{desk.scope.execution_id}:c1"}
    assert len(outside.keys) == (2 if effect is Effect.KEYED else 1)  # asked again with its key, or looked up
    assert await desk.states() == ["done"]


async def test_a_lookup_call_that_never_arrived_is_made_on_the_second_try(desk: Desk) -> None:
    outside = Outside(next=Crash())
    spec = outside.tool(Effect.LOOKUP)
    with pytest.raises(Crash):
        await desk.call(spec)
    outside.booked.clear()  # it had not arrived after all
    assert await desk.call(spec) == {"paid": 5}
    assert len(outside.keys) == 2


async def test_an_at_most_once_call_is_never_sent_again_and_a_person_must_look(desk: Desk) -> None:
    outside = Outside(next=Crash())
    spec = outside.tool(Effect.AT_MOST_ONCE)
    with pytest.raises(Crash):
        await desk.call(spec)
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            await desk.call(spec)
    assert len(outside.keys) == 1
    assert await desk.states() == ["unknown"]


async def test_a_keyed_call_older_than_the_providers_memory_is_not_sent_again(desk: Desk) -> None:
    outside = Outside(next=Crash())
    spec = outside.tool(Effect.KEYED)
    with pytest.raises(Crash):
        await desk.call(spec)
    hours = PROVIDER_WINDOW.total_seconds() / 3600 + 1
    await desk.case.execute("UPDATE casework.effects SET started_at = now() - make_interval(hours => :h)", h=int(hours))
    with pytest.raises(OutcomeUnknown):
        await desk.call(spec)
    assert len(outside.keys) == 1


@pytest.mark.parametrize("broken", [RuntimeError("bug"), TimeoutError(), OutcomeUnknown("no answer")])
async def test_what_may_have_happened_is_unknown_never_failed(desk: Desk, broken: Exception) -> None:
    outside = Outside(next=broken)
    with pytest.raises(OutcomeUnknown):
        await desk.call(outside.tool(Effect.KEYED))
    assert await desk.states() == ["unknown"]


async def test_a_slow_outside_call_is_unknown_at_its_time_out(desk: Desk) -> None:
    async def never(args: PayArgs, ctx: ToolContext) -> dict[str, Any]:
        """Wait for ever."""
        await asyncio.Event().wait()
        return {}

    spec = tool(effect=Effect.KEYED, permission="pay", timeout_s=0.05)(never)
    with pytest.raises(OutcomeUnknown):
        await desk.call(spec)
    assert await desk.states() == ["unknown"]


async def test_a_definite_refusal_is_failed_and_told(desk: Desk) -> None:
    outside = Outside(next=ToolFailed("card expired"))
    spec = outside.tool(Effect.KEYED)
    for _ in range(2):  # the second time from the ledger
        with pytest.raises(ToolFailed, match="card expired"):
            await desk.call(spec)
    assert len(outside.keys) == 1
    assert await desk.states() == ["failed"]


async def test_a_refusal_on_the_second_try_says_nothing_about_the_first(desk: Desk) -> None:
    outside = Outside(next=Crash())
    spec = outside.tool(Effect.KEYED)
    with pytest.raises(Crash):
        await desk.call(spec)
    outside.next = ToolFailed("connection refused; nothing was sent")
    with pytest.raises(OutcomeUnknown):
        await desk.call(spec)
    assert await desk.states() == ["unknown"]


@pytest.mark.parametrize("broken", [RuntimeError("bug in settle"), TimeoutError(), ToolFailed("no such row")])
async def test_a_result_that_cannot_be_settled_is_unknown_not_failed(desk: Desk, broken: Exception) -> None:
    async def settle(args: Any, result: Any, ctx: ToolContext) -> None:
        raise broken

    spec = Outside().tool(Effect.KEYED, settle=settle)
    with pytest.raises(OutcomeUnknown):
        await desk.call(spec)
    assert await desk.states() == ["unknown"]


async def test_the_same_key_with_other_arguments_is_refused_and_alarms(desk: Desk) -> None:
    outside = Outside()
    spec = outside.tool(Effect.KEYED)
    await desk.call(spec, amount=5)
    with pytest.raises(LedgerMismatch):
        await desk.call(spec, amount=5000)
    assert len(outside.keys) == 1


@pytest.mark.parametrize("effect", [Effect.TRANSACTIONAL, Effect.KEYED, Effect.AT_MOST_ONCE])
async def test_no_effect_begins_under_a_fence_that_is_not_ours(desk: Desk, effect: Effect) -> None:
    outside = Outside()
    with pytest.raises(LostLease):
        await desk.call(outside.tool(effect), fence=desk.scope.fence + 1)
    assert outside.keys == []
    assert await desk.states() == []


@pytest.mark.parametrize("effect", [Effect.TRANSACTIONAL, Effect.KEYED])
async def test_no_effect_begins_after_a_cancel_but_a_begun_one_is_finished(desk: Desk, effect: Effect) -> None:
    outside = Outside(next=Crash())
    begun = outside.tool(Effect.KEYED)
    with pytest.raises(Crash):
        await desk.call(begun, call_id="begun")
    await desk.case.store.cancel(OLGA, desk.scope.execution_id)
    with pytest.raises(CancelRequested):
        await desk.call(outside.tool(effect), call_id=uuid4().hex)
    assert await desk.call(begun, call_id="begun") == {"paid": 5}
    assert await desk.states() == ["done"]
