"""Calls that wait for people: one turn, several calls, each on its own; stale and doubled clicks change nothing."""

from __future__ import annotations

import pytest

from casework.actor import Role
from casework.approval import ApprovalState, Decision
from casework.errors import ApprovalDecided, DigestStale, InputInvalid, NotAllowed
from casework.execution import Mode, Status
from casework.settings import Settings
from tests.rig import ADA, BEN, OLGA, call, rig, scripted

REFUNDS = "SELECT coalesce(sum(amount_minor), 0) FROM shop.refunds WHERE order_id = 'O-5042' AND state = 'succeeded'"
REPLY = call("reply_to_customer", body="We have paid it back. Sorry for the trouble.")


def refund(amount_minor: int, reason: str = "damaged"):
    return call("issue_refund", order_id="O-5042", amount_minor=amount_minor, reason=reason)


async def test_each_call_of_a_turn_acts_as_soon_as_it_may_and_the_specialist_runs_again_once(
    settings: Settings, database_url: str
) -> None:
    turn = [call("get_order", order_id="O-5042"), refund(1500), REPLY]
    async with rig(settings, database_url, scripted(turn, "Done.")) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        assert await case.advance(execution_id) is Status.WAITING
        succeeded = await case.events(execution_id, "call.succeeded")
        assert [e.data["tool"] for e in succeeded] == ["get_order"]  # the free call did not wait for the others
        first, second = sorted(await case.pending(execution_id), key=lambda a: a.tool or "")
        assert (first.tool, second.tool) == ("issue_refund", "reply_to_customer")

        await case.decide(ADA, first)
        assert await case.advance(execution_id) is Status.WAITING
        assert await case.scalar(REFUNDS) == 1500  # paid while the reply still waits
        assert [a.approval_id for a in await case.pending(execution_id)] == [second.approval_id]
        assert len(await case.events(execution_id, "model.answered")) == 1  # the specialist has not run again

        await case.decide(BEN, second)
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert len(await case.events(execution_id, "model.answered")) == 2  # once, with all three answered
        assert await case.scalar(REFUNDS) == 1500
        assert await case.scalar("SELECT count(*) FROM casework.effects WHERE state = 'done'") == 2


async def test_a_doubled_click_is_the_same_answer_and_a_late_one_is_told_so(
    settings: Settings, database_url: str
) -> None:
    async with rig(settings, database_url, scripted([refund(1500)], [REPLY], "Done.")) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        await case.advance(execution_id)
        (asked,) = await case.pending(execution_id)
        decided = await case.decide(ADA, asked)
        assert await case.decide(ADA, asked) == decided
        with pytest.raises(ApprovalDecided):
            await case.decide(BEN, asked)
        with pytest.raises(ApprovalDecided):
            await case.decide(ADA, asked, "reject", reason="changed my mind")
        await case.advance(execution_id)
        with pytest.raises(ApprovalDecided):
            await case.decide(BEN, asked)
        # The late clicks reached neither the refund nor the question that came after it.
        (reply,) = await case.pending(execution_id)
        assert (reply.tool, reply.state) == ("reply_to_customer", ApprovalState.PENDING)
        assert await case.scalar(REFUNDS) == 1500


async def test_a_yes_to_other_arguments_than_those_shown_is_refused(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted([refund(1500)], "Done.")) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        await case.advance(execution_id)
        (asked,) = await case.pending(execution_id)
        stale = Decision.model_validate({"type": "approve", "digest": "0" * 64})
        with pytest.raises(DigestStale):
            await case.deciding.decide(ADA, asked.approval_id, stale)
        assert (await case.pending(execution_id)) == [asked]


async def test_arguments_changed_in_the_database_after_the_approval_are_not_acted_on(
    settings: Settings, database_url: str
) -> None:
    async with rig(settings, database_url, scripted([refund(1500)], [REPLY], "Done.")) as case:
        execution_id = await case.start("T-1042")
        await case.execute("UPDATE casework.executions SET mode = 'copilot'")
        await case.advance(execution_id)
        (asked,) = await case.pending(execution_id)
        await case.decide(ADA, asked)
        await case.execute("UPDATE casework.approvals SET args = jsonb_set(args, '{amount_minor}', '6290')")
        await case.advance(execution_id)
        assert await case.scalar(REFUNDS) == 0


async def test_who_may_not_decide(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted([refund(1500)], "Done.")) as case:
        await case.roles(ADA, *ADA.roles, *OLGA.roles)
        execution_id = await case.start("T-1042", Mode.COPILOT, by=ADA)
        await case.advance(execution_id)
        (asked,) = await case.pending(execution_id)
        with pytest.raises(NotAllowed, match="whoever started"):
            await case.decide(ADA, asked)
        with pytest.raises(NotAllowed, match="role approver"):
            await case.decide(OLGA, asked)
        await case.roles(BEN, *BEN.roles, Role.SERVICE)
        with pytest.raises(NotAllowed, match="service key"):
            await case.decide(BEN, asked)
        with pytest.raises(NotAllowed, match="no such person"):
            await case.decide(ADA.model_copy(update={"actor_id": "nobody"}), asked)
        assert await case.pending(execution_id) == [asked]


async def test_above_the_second_limit_two_different_people_must_agree(settings: Settings, database_url: str) -> None:
    big = call("issue_refund", order_id="O-5013", amount_minor=64900, reason="damaged")
    async with rig(settings, database_url, scripted([big], [REPLY], "Done.")) as case:
        execution_id = await case.start("T-1013")
        await case.advance(execution_id)
        (asked,) = await case.pending(execution_id)
        assert asked.votes_needed == 2
        once = await case.decide(ADA, asked)
        assert (once.state, once.votes) == (ApprovalState.PENDING, ["ada"])
        assert (await case.decide(ADA, asked)).state is ApprovalState.PENDING  # the same person twice is one person
        assert await case.advance(execution_id) is None
        assert (await case.decide(BEN, asked)).state is ApprovalState.APPROVED
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert await case.scalar("SELECT sum(amount_minor) FROM shop.refunds WHERE order_id = 'O-5013'") == 64900


async def test_an_edit_is_judged_anew_and_its_editor_may_not_approve_it(settings: Settings, database_url: str) -> None:
    middle = call("issue_refund", order_id="O-5020", amount_minor=24000, reason="damaged")
    async with rig(settings, database_url, scripted([middle], [REPLY], "Done.")) as case:
        execution_id = await case.start("T-1020")
        await case.advance(execution_id)
        (asked,) = await case.pending(execution_id)
        with pytest.raises(InputInvalid) as broken:
            await case.decide(ADA, asked, "edit", args={**asked.args, "amount_minor": -1})
        assert broken.value.field == "args"
        with pytest.raises(InputInvalid):
            await case.decide(ADA, asked, "edit", args={**asked.args, "order_id": "O-5042"})  # not this customer's
        edited = await case.decide(ADA, asked, "edit", args={**asked.args, "amount_minor": 18000})
        assert (edited.state, edited.edited_by, edited.args["amount_minor"]) == (ApprovalState.PENDING, "ada", 18000)
        with pytest.raises(NotAllowed, match="edited"):
            await case.decide(ADA, edited)
        with pytest.raises(DigestStale):
            await case.decide(BEN, asked)
        assert (await case.decide(BEN, edited)).state is ApprovalState.APPROVED
        assert await case.advance(execution_id) is Status.SUCCEEDED
        assert await case.scalar("SELECT sum(amount_minor) FROM shop.refunds WHERE order_id = 'O-5020'") == 18000
        told = next(e for e in await case.events(execution_id, "call.succeeded") if e.data["tool"] == "issue_refund")
        assert told.data["result"]["amount"]["amount_minor"] == 18000


async def test_an_edit_that_the_policies_would_let_pass_alone_is_itself_the_decision(
    settings: Settings, database_url: str
) -> None:
    middle = call("issue_refund", order_id="O-5020", amount_minor=24000, reason="damaged")
    async with rig(settings, database_url, scripted([middle], [REPLY], "Done.")) as case:
        execution_id = await case.start("T-1020")
        await case.advance(execution_id)
        (asked,) = await case.pending(execution_id)
        edited = await case.decide(ADA, asked, "edit", args={**asked.args, "amount_minor": 5000})
        assert (edited.state, edited.decided_by) == (ApprovalState.APPROVED, "ada")
        await case.advance(execution_id)
        assert await case.scalar("SELECT sum(amount_minor) FROM shop.refunds WHERE order_id = 'O-5020'") == 5000


async def test_a_rejection_is_told_and_a_response_stands_in_for_the_tool(settings: Settings, database_url: str) -> None:
    turns = ([refund(1500), REPLY], [call("update_ticket", status="pending", note="waiting for a photo")], "Waiting.")
    async with rig(settings, database_url, scripted(*turns)) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        await case.advance(execution_id)
        asked = {a.tool: a for a in await case.pending(execution_id)}
        await case.decide(ADA, asked["issue_refund"], "reject", reason="no photo yet")
        await case.decide(ADA, asked["reply_to_customer"], "respond", message="I have called her.")
        await case.advance(execution_id)
        answers = {m.name: m.text for m in await case.messages(execution_id) if m.type == "tool"}
        assert answers["issue_refund"] == "Refused: a person said no: no photo yet"
        assert answers["reply_to_customer"] == "A person answered instead: I have called her."
        assert await case.scalar("SELECT count(*) FROM casework.effects") == 0


async def test_an_approval_past_its_deadline_is_no_yes_and_the_case_goes_to_a_person(
    settings: Settings, database_url: str
) -> None:
    async with rig(settings, database_url, scripted([refund(1500)], "Done.")) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        await case.advance(execution_id)
        await case.execute("UPDATE casework.approvals SET expires_at = now() - interval '1 second'")
        assert await case.decisions.expire_due() == 1
        assert case.queue.woken.count(execution_id) == 2  # once to start, once to go on
        assert await case.advance(execution_id) is Status.ESCALATED
        assert await case.scalar(REFUNDS) == 0
        assert await case.scalar("SELECT status FROM shop.tickets WHERE ticket_id = 'T-1042'") == "escalated"
