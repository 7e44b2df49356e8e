"""What webhooks are told: rows of the fact's own transaction, for the right tenant, with nothing of a case's text."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text

from casework import journal
from casework.approval import ApprovalState
from casework.execution import Mode, Status
from casework.journal import NewEvent, write_events
from casework.legs import Ending
from casework.outbox import Fact, FactType, fact_of, tell
from casework.settings import Settings
from casework.store import close
from server.service import Service
from tests.receivers import AMY, Office, office_of
from tests.rig import ADA, OLGA, Rig, call, rig, scripted

URL = "http://127.0.0.1:9/hook"
REPLY = call("reply_to_customer", body="We have paid it back.")


@pytest_asyncio.fixture
async def office(service: Service) -> AsyncIterator[Office]:
    yield office_of(service)


async def test_a_fact_is_told_to_the_webhooks_of_its_tenant_that_asked_for_it(office: Office) -> None:
    both, _ = await office.add(URL)
    other, _ = await office.add(URL, FactType.EXECUTION_FINISHED)
    off, _ = await office.add(URL)
    await office.webhooks.change(AMY, off.webhook_id, enabled=False)
    elsewhere = AMY.model_copy(update={"tenant": "elsewhere"})
    foreign, _ = await office.add(URL, by=elsewhere)
    execution = await office.fact()
    (told,) = await office.of(both)
    assert (told.type, told.state, told.attempts) == ("execution.created", "pending", 0)
    assert told.data == {
        "execution_id": str(execution.execution_id),
        "workflow": "support",
        "status": "queued",
        "path": f"/executions/{execution.execution_id}",
    }
    assert await office.of(other) == []
    assert await office.of(off) == []
    assert await office.of(foreign, "elsewhere") == []


class Abandoned(Exception):
    """The transaction of the fact ends here."""


async def abandon(office: Office, execution_id: UUID) -> None:
    """End an execution in a transaction that is rolled back."""
    async with office.service.resources.engine.begin() as db:
        done = NewEvent("run.finished", {"run_id": "r", "status": Status.SUCCEEDED, "error": None})
        await close(db, execution_id, Status.SUCCEEDED, {}, [done])
        raise Abandoned


async def test_a_fact_that_is_rolled_back_is_not_told(office: Office) -> None:
    execution = await office.fact()
    webhook, _ = await office.add(URL)
    with pytest.raises(Abandoned):
        await abandon(office, execution.execution_id)
    assert await office.of(webhook) == []


async def test_control_told_outside_the_facts_transaction_it_is_told_although_it_never_happened(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = await office.fact()
    webhook, _ = await office.add(URL)

    async def apart(db: object, execution_id: UUID, facts: Sequence[Fact]) -> None:
        async with office.service.resources.pool.connection() as another:
            await tell(another, execution_id, facts)

    monkeypatch.setattr(journal, "tell", apart)
    with pytest.raises(Abandoned):
        await abandon(office, execution.execution_id)
    assert (await office.service.store.get("default", execution.execution_id)).status is Status.QUEUED
    assert [told.type for told in await office.of(webhook)] == ["execution.finished"]


async def test_a_webhook_that_is_being_deleted_neither_fails_a_fact_nor_makes_it_wait(office: Office) -> None:
    webhook, _ = await office.add(URL)
    execution = await office.fact()
    async with office.service.resources.engine.connect() as fact:
        await write_events(fact, execution.execution_id, [NewEvent("execution.cancelled", {})])
        await office.webhooks.delete(AMY, webhook.webhook_id)
        await write_events(fact, execution.execution_id, [NewEvent("execution.cancelled", {})])
        await fact.commit()
    assert await office.attempts.claim({}, free=9, at_once=9) == []


async def told(case: Rig, webhook_id: UUID) -> list[dict[str, Any]]:
    """Type and data of everything a webhook was told, in order, without ids and paths that follow from them."""
    async with case.resources.engine.connect() as db:
        query = "SELECT type, data FROM casework.deliveries WHERE webhook_id = :w ORDER BY created_at"
        rows = await db.execute(text(query), {"w": webhook_id})
        return [{"type": row.type, **row.data} for row in rows]


async def test_the_story_of_a_case_is_told_thinly_and_in_order(
    settings: Settings, database_url: str, office: Office
) -> None:
    webhook, _ = await office.add(URL)
    async with rig(settings, database_url, scripted([REPLY], "Done.")) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        assert await case.advance(execution_id) is Status.WAITING
        (approval,) = await case.pending(execution_id)
        await case.decide(ADA, approval)
        assert await case.advance(execution_id) is Status.SUCCEEDED
        about = {"execution_id": str(execution_id), "workflow": "support", "path": f"/executions/{execution_id}"}
        asked = {**about, "approval_id": str(approval.approval_id), "path": f"/approvals/{approval.approval_id}"}
        assert await told(case, webhook.webhook_id) == [
            {"type": "execution.created", **about, "status": "queued"},
            {"type": "approval.requested", **asked, "state": "pending"},
            {"type": "execution.waiting", **about, "status": "waiting"},
            {"type": "approval.decided", **asked, "state": "approved"},
            {"type": "execution.finished", **about, "status": "succeeded"},
        ]


async def test_what_expires_or_is_dropped_is_told_as_such(
    settings: Settings, database_url: str, office: Office
) -> None:
    webhook, _ = await office.add(URL)
    hasty = settings.model_copy(update={"approval_deadline": timedelta(0)})
    async with rig(hasty, database_url, scripted([REPLY], "Done.")) as case:
        lapsed = await case.start("T-1042", Mode.COPILOT)
        await case.advance(lapsed)
        assert await case.decisions.expire_due() == 1
    async with rig(settings, database_url, scripted([REPLY], "Done.")) as case:
        dropped = await case.start("T-1033", Mode.COPILOT)
        await case.advance(dropped)
        await case.store.cancel(OLGA, dropped)
        every = await told(case, webhook.webhook_id)
    assert [(told["type"], told.get("state") or told["status"]) for told in every] == [
        ("execution.created", "queued"),
        ("approval.requested", "pending"),
        ("execution.waiting", "waiting"),
        ("approval.expired", "expired"),
        ("execution.created", "queued"),
        ("approval.requested", "pending"),
        ("execution.waiting", "waiting"),
        ("approval.superseded", "superseded"),
        ("execution.finished", "cancelled"),
    ]
    assert {told["execution_id"] for told in every} == {str(lapsed), str(dropped)}


async def test_what_is_still_asked_when_a_run_ends_is_told_as_dropped(
    settings: Settings, database_url: str, office: Office
) -> None:
    webhook, _ = await office.add(URL, FactType.APPROVAL_SUPERSEDED, FactType.EXECUTION_FINISHED)
    async with rig(settings, database_url, scripted([REPLY, REPLY], "Done.")) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        await case.advance(execution_id)
        decided, asked = await case.pending(execution_id)
        await case.decide(ADA, decided)
        leg = await case.legs.claim(execution_id, "tester", timedelta(seconds=60))
        assert leg is not None
        await case.store.cancel(OLGA, execution_id)
        assert await told(case, webhook.webhook_id) == []
        await case.legs.finish(leg, Ending(Status.CANCELLED), ())
        dropped, finished = await told(case, webhook.webhook_id)
        assert (dropped["type"], dropped["approval_id"]) == ("approval.superseded", str(asked.approval_id))
        assert (finished["type"], finished["status"]) == ("execution.finished", "cancelled")
        (line,) = await case.events(execution_id, "approval.superseded")
        assert line.data["approval_id"] == str(asked.approval_id)


def test_only_public_facts_are_told_at_all() -> None:
    for silent in (
        ("run.started", {"run_id": "r", "attempt": 1, "kind": "start"}),
        ("run.finished", {"run_id": "r", "status": Status.QUEUED, "error": None}),
        ("run.released", {"run_id": "r", "error": None}),
        ("execution.cancel_requested", {"by": "olga"}),
        ("approval.voted", {"approval_id": "a", "by": "ada", "votes": 1, "needed": 2}),
        ("model.answered", {"text": "secret"}),
    ):
        assert fact_of(*silent) is None
    states = set(ApprovalState) - {ApprovalState.PENDING, ApprovalState.EXPIRED, ApprovalState.SUPERSEDED}
    for state in states:
        fact = fact_of("approval.decided", {"approval_id": "a", "tool": "t", "state": state, "by": "ada"})
        assert fact == Fact(FactType.APPROVAL_DECIDED, {"approval_id": "a", "state": state, "path": "/approvals/a"})


async def test_a_case_driven_by_the_studio_is_told_to_nobody(office: Office) -> None:
    execution = await office.fact()
    await office.execute("UPDATE casework.executions SET source = 'studio'")
    webhook, _ = await office.add(URL)
    async with office.service.resources.engine.begin() as db:
        await write_events(db, execution.execution_id, [NewEvent("execution.cancelled", {})])
    assert await office.of(webhook) == []


async def test_no_statement_is_issued_for_what_is_not_public(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    execution = await office.fact()

    async def never(db: object, execution_id: UUID, facts: Sequence[Fact]) -> None:
        raise AssertionError(facts)

    monkeypatch.setattr(journal, "tell", never)
    async with office.service.resources.engine.begin() as db:
        await write_events(db, execution.execution_id, [NewEvent("run.started", {"kind": "start"})])
        with pytest.raises(AssertionError):
            await write_events(db, execution.execution_id, [NewEvent("execution.cancelled", {})])
