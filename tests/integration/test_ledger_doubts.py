"""Effects whose outcome nobody knows: begun again under a new key, or ended as done, on a person's word."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from casework.errors import CancelRequested, OutcomeUnknown, ToolFailed
from policies.verdict import APPROVERS, Consent
from tests.outside import Desk, Outside, PayArgs
from tests.rig import OLGA
from tools.gate import act
from tools.scope import Caller
from tools.spec import Effect, ToolContext, tool

OUTSIDE = [Effect.KEYED, Effect.LOOKUP, Effect.AT_MOST_ONCE]


@pytest.mark.parametrize("effect", OUTSIDE)
async def test_what_did_not_happen_is_made_again_in_the_same_row_under_a_new_key(desk: Desk, effect: Effect) -> None:
    outside = Outside(next=OutcomeUnknown("no answer"), deaf=True)
    spec = outside.tool(effect)
    with pytest.raises(OutcomeUnknown):
        await desk.call(spec)
    outside.booked.clear()
    outside.deaf = False
    key = f"{desk.scope.execution_id}:c1"
    for _ in range(2):  # the second time from the ledger
        assert await desk.call(spec, doubted=1) == {"paid": 5}
    assert outside.keys == [key, f"{key}#2"]
    assert await desk.states() == ["done"]
    assert await desk.case.scalar("SELECT attempt FROM casework.effects") == 2


@pytest.mark.parametrize(("own_key", "state"), [(True, "done"), (False, "unknown")])
async def test_a_provider_replays_its_first_answer_to_a_key_it_knows(desk: Desk, own_key: bool, state: str) -> None:
    """As Stripe does, with its failures too: the control, which sends the old key again, can never get through."""
    answers: dict[str, str] = {}

    async def pay(args: PayArgs, ctx: ToolContext) -> dict[str, Any]:
        """Pay."""
        key = ctx.key if own_key else ctx.key.partition("#")[0]
        if answers.setdefault(key, "broken" if not answers else "paid") == "broken":
            raise OutcomeUnknown("HTTP 500")
        return {"paid": args.amount}

    spec = tool(effect=Effect.KEYED, permission="pay")(pay)
    with pytest.raises(OutcomeUnknown):
        await desk.call(spec)
    with nullcontext() if own_key else pytest.raises(OutcomeUnknown):
        assert await desk.call(spec, doubted=1) == {"paid": 5}
    assert await desk.states() == [state]
    assert len(answers) == (2 if own_key else 1)


async def test_a_lookup_call_said_not_to_have_happened_is_looked_up_before_it_is_made_again(desk: Desk) -> None:
    outside = Outside(next=OutcomeUnknown("no answer"), deaf=True)
    spec = outside.tool(Effect.LOOKUP)
    with pytest.raises(OutcomeUnknown):
        await desk.call(spec)
    with pytest.raises(OutcomeUnknown, match="could not be looked up"):
        await desk.call(spec, doubted=1)
    assert len(outside.keys) == 1  # not sent as long as it cannot be asked about
    outside.deaf = False
    assert await desk.call(spec, doubted=2) == {"paid": 5}  # the person was wrong
    assert len(outside.keys) == 1
    assert await desk.states() == ["done"]


async def test_a_lookup_call_without_an_answer_is_looked_up_before_a_person_is_asked(desk: Desk) -> None:
    outside = Outside(next=OutcomeUnknown("no answer"))
    assert await desk.call(outside.tool(Effect.LOOKUP)) == {"paid": 5}
    assert await desk.states() == ["done"]
    assert len(outside.keys) == 1


async def test_an_answer_about_an_earlier_attempt_begins_nothing(desk: Desk) -> None:
    outside = Outside(next=OutcomeUnknown("no answer"))
    spec = outside.tool(Effect.KEYED)
    with pytest.raises(OutcomeUnknown):
        await desk.call(spec)
    outside.next = OutcomeUnknown("no answer again")
    with pytest.raises(OutcomeUnknown):
        await desk.call(spec, doubted=1)
    with pytest.raises(OutcomeUnknown):
        await desk.call(spec, doubted=1)
    with pytest.raises(OutcomeUnknown):
        await desk.happened(spec, "re_1")
    assert len(outside.keys) == 2
    assert (await desk.doubt()).attempt == 2


async def test_a_refusal_of_the_next_attempt_speaks_for_it(desk: Desk) -> None:
    outside = Outside(next=OutcomeUnknown("no answer"))
    spec = outside.tool(Effect.KEYED)
    with pytest.raises(OutcomeUnknown):
        await desk.call(spec)
    outside.next = ToolFailed("card expired")
    with pytest.raises(ToolFailed, match="card expired"):
        await desk.call(spec, doubted=1)
    assert await desk.states() == ["failed"]


async def test_no_attempt_begins_after_a_cancel(desk: Desk) -> None:
    outside = Outside(next=OutcomeUnknown("no answer"))
    spec = outside.tool(Effect.KEYED)
    with pytest.raises(OutcomeUnknown):
        await desk.call(spec)
    await desk.case.store.cancel(OLGA, desk.scope.execution_id)
    with pytest.raises(CancelRequested):
        await desk.call(spec, doubted=1)
    assert len(outside.keys) == 1


async def test_what_happened_is_done_under_the_reference_that_a_person_found(desk: Desk) -> None:
    outside = Outside(next=OutcomeUnknown("queued at the bank", reference="bank-7"))
    spec = outside.tool(Effect.AT_MOST_ONCE)
    with pytest.raises(OutcomeUnknown):
        await desk.call(spec)
    assert (await desk.doubt()).reference == "bank-7"
    for _ in range(2):  # the second time from the ledger
        assert await desk.happened(spec, "bank-8") == {"provider_ref": "bank-8"}
    assert await desk.call(spec) == {"provider_ref": "bank-8"}
    assert await desk.case.scalar("SELECT reference FROM casework.effects") == "bank-8"
    assert len(outside.keys) == 1


async def test_a_call_that_its_specialist_can_no_longer_make_stays_unknown(desk: Desk) -> None:
    outside = Outside(next=OutcomeUnknown("no answer"))
    with pytest.raises(OutcomeUnknown):
        await desk.call(outside.tool(Effect.KEYED))
    nobody = Caller("tester", {}, frozenset({"pay"}))
    with pytest.raises(OutcomeUnknown, match="cannot be settled here any more"):
        await act(nobody, "pay", {"amount": 5}, "c1", desk.scope, Consent(1, APPROVERS), doubted=1)
    assert await desk.states() == ["unknown"]


@pytest.mark.parametrize("effect", [Effect.READ, Effect.TRANSACTIONAL])
async def test_a_call_that_never_leaves_us_is_never_unknown(desk: Desk, effect: Effect) -> None:
    outside = Outside(next=OutcomeUnknown("no answer"))
    with pytest.raises(ToolFailed, match="nothing was changed"):
        await desk.call(outside.tool(effect))
    assert await desk.states() == []


async def test_what_breaks_before_anything_was_begun_has_failed(desk: Desk) -> None:
    async def reserve(args: Any, ctx: ToolContext) -> None:
        raise RuntimeError("bug in reserve")

    outside = Outside()
    with pytest.raises(ToolFailed, match="before anything was begun"):
        await desk.call(outside.tool(Effect.KEYED, reserve=reserve))
    assert outside.keys == []
    assert await desk.states() == []
