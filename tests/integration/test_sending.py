"""Messages to receivers that are slow, broken, gone, busy or hostile: each arrives, and none holds up the others."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import pytest_asyncio
import structlog
from standardwebhooks import WebhookVerificationError

from casework import attempts
from casework.deliveries import DeliveryState
from casework.egress import Answer
from casework.errors import Conflict
from server import sending
from server.service import Service
from tests.processes import eventually
from tests.receivers import AMY, PATIENCE_S, QUICK, Got, Office, Reply, ids, office_of, receiving

PENDING, DELIVERED, FAILED = DeliveryState.PENDING, DeliveryState.DELIVERED, DeliveryState.FAILED
DISTANT = timedelta(hours=1)
"""What is not looked at before has not been looked for, but been notified."""


@pytest_asyncio.fixture
async def office(service: Service) -> AsyncIterator[Office]:
    yield office_of(service)


async def test_a_fact_is_told_at_once_signed_as_the_standard_has_it(office: Office) -> None:
    async with receiving() as receiver, office.sender(look_every=DISTANT).running():
        webhook, secret = await office.add(receiver.url)
        execution = await office.fact()
        (got,) = await receiver.received(1)
        (delivery,) = await office.settled(webhook, DELIVERED)
    assert got.verified(secret) == json.loads(got.body)
    message = json.loads(got.body)
    assert list(message) == ["type", "timestamp", "data"]
    assert (message["type"], message["data"]["execution_id"]) == ("execution.created", str(execution.execution_id))
    assert datetime.fromisoformat(message["timestamp"]) == delivery.created_at
    assert got.headers["content-type"] == "application/json"
    assert (ids([got]), delivery.attempts, delivery.last_status) == ([delivery.delivery_id], 1, 204)
    assert (delivery.last_error, delivery.next_at) == (None, None)
    assert (await office.webhooks.get("default", webhook.webhook_id)).delivered_at is not None
    assert "planted" not in got.body.decode()


async def test_what_was_changed_or_signed_with_another_secret_does_not_verify(office: Office) -> None:
    async with receiving() as receiver, office.sender().running():
        _, secret = await office.add(receiver.url)
        _, another = await office.add(receiver.url)
        await office.fact()
        received = await receiver.received(2)
        verified = Counter(key for got in received for key in (secret, another) if _verifies(got, key))
        assert verified == {secret: 1, another: 1}
        changed = replace(received[0], body=received[0].body + b" ")
        assert not any(_verifies(changed, key) for key in (secret, another))


def _verifies(got: Got, secret: str) -> bool:
    try:
        got.verified(secret)
    except WebhookVerificationError:
        return False
    return True


async def test_while_a_secret_is_replaced_both_sign_and_afterwards_the_new_one_only(office: Office) -> None:
    async with receiving() as receiver, office.sender().running():
        webhook, old = await office.add(receiver.url)
        _, new = await office.webhooks.rotate(AMY, webhook.webhook_id)
        await office.deliveries.test("default", webhook.webhook_id)
        (got,) = await receiver.received(1)
        assert (_verifies(got, old), _verifies(got, new)) == (True, True)
        await office.execute("UPDATE casework.webhooks SET old_until = now()")
        await office.deliveries.test("default", webhook.webhook_id)
        got = (await receiver.received(2))[1]
        assert (_verifies(got, old), _verifies(got, new)) == (False, True)


async def test_a_failure_is_tried_again_with_the_same_id_and_body_until_it_arrives(office: Office) -> None:
    async with receiving() as receiver, office.sender().running():
        receiver.replies.extend([Reply(500), Reply(302, {"Location": receiver.url}), Reply(404)])
        webhook, secret = await office.add(receiver.url)
        await office.fact()
        received = await receiver.received(4)
        (delivery,) = await office.settled(webhook, DELIVERED)
    assert set(ids(received)) == {delivery.delivery_id}
    assert len({got.body for got in received}) == 1
    assert [_verifies(got, secret) for got in received] == [True] * 4
    assert (delivery.attempts, delivery.last_status, delivery.last_error) == (4, 204, None)


async def test_what_never_arrives_fails_switches_the_webhook_off_and_can_be_sent_by_hand(office: Office) -> None:
    async with receiving(Reply(500)) as receiver, office.sender().running():
        webhook, _ = await office.add(receiver.url)
        await office.fact()
        await office.settled(webhook, FAILED)
        (delivery,) = await office.of(webhook)
        assert (delivery.attempts, delivery.last_status, delivery.last_error) == (len(QUICK) + 1, 500, "HTTP 500")
        off = await office.webhooks.get("default", webhook.webhook_id)
        assert (off.enabled, off.off_because) == (False, "nothing arrived there for days")
        assert await office.audited() == ["webhook.add", "webhook.switch_off"]
        with pytest.raises(Conflict, match="switch it on first"):
            await office.deliveries.retry("default", webhook.webhook_id, delivery.delivery_id)

        on = await office.webhooks.change(AMY, webhook.webhook_id, enabled=True)
        assert (on.enabled, on.off_because) == (True, None)
        await office.deliveries.retry("default", webhook.webhook_id, delivery.delivery_id)
        again = await receiver.received(len(QUICK) + 2)
        await office.settled(webhook, FAILED)  # once more by hand, not four times
        assert (await office.webhooks.get("default", webhook.webhook_id)).enabled

        receiver.usual = Reply()
        await office.deliveries.retry("default", webhook.webhook_id, delivery.delivery_id)
        again = await receiver.received(len(QUICK) + 3)
        await office.settled(webhook, DELIVERED)
        assert set(ids(again)) == {delivery.delivery_id}


async def test_a_message_that_never_arrives_does_not_switch_off_a_webhook_where_others_do(office: Office) -> None:
    async with receiving() as receiver, office.sender().running():
        webhook, _ = await office.add(receiver.url)
        receiver.replies.extend([Reply(500)] * 100)
        await office.fact()
        await office.attempted(webhook, 1)
        await office.execute("UPDATE casework.webhooks SET delivered_at = now() + interval '1 minute'")
        await office.execute("UPDATE casework.deliveries SET attempts = :n, state = 'pending'", n=len(QUICK))
        await office.settled(webhook, FAILED)
        assert (await office.webhooks.get("default", webhook.webhook_id)).enabled


async def test_410_switches_the_webhook_off_at_once_with_all_that_waits_for_it(office: Office) -> None:
    async with receiving(Reply(410)) as receiver:
        webhook, _ = await office.add(receiver.url)
        for _ in range(9):
            await office.fact()
        async with office.sender().running():
            deliveries = await office.settled(webhook, *[FAILED] * 9)
        assert len(receiver.got) <= 2 * sending.AT_ONCE_PER_WEBHOOK
        assert {delivery.last_error for delivery in deliveries} == {"HTTP 410", "the webhook was switched off"}
        off = await office.webhooks.get("default", webhook.webhook_id)
        assert (off.enabled, off.off_because) == (False, "the receiver answered 410 Gone")
        assert (await office.audited()).count("webhook.switch_off") == 1
        await office.fact()
        assert len(await office.of(webhook)) == 9


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_that_asks_for_a_pause_gets_it_for_all_its_messages(office: Office, status: int) -> None:
    async with receiving() as receiver, office.sender().running():
        receiver.replies.append(Reply(status, {"Retry-After": "3600"}))
        webhook, _ = await office.add(receiver.url)
        await office.fact()
        tried = await office.attempted(webhook, 1)
        assert tried.next_at is not None
        assert timedelta(minutes=59) < tried.next_at - datetime.now(UTC) < timedelta(minutes=61)
        paused = await office.webhooks.get("default", webhook.webhook_id)
        assert paused.paused_until is not None
        await office.fact()
        assert await office.attempts.claim({}, free=9, at_once=9) == []
        assert len(receiver.got) == 1
        await office.execute("UPDATE casework.webhooks SET paused_until = now()")
        await receiver.received(2)


async def test_nobody_is_left_alone_for_longer_than_a_day(office: Office) -> None:
    async with receiving(Reply(503, {"Retry-After": "999999999"})) as receiver, office.sender().running():
        webhook, _ = await office.add(receiver.url)
        await office.fact()
        tried = await office.attempted(webhook, 1)
    assert tried.next_at is not None
    assert tried.next_at - datetime.now(UTC) < timedelta(hours=24)


async def test_a_receiver_that_hangs_has_its_time_and_no_more(service: Service) -> None:
    office = office_of(service, timeout=timedelta(milliseconds=100))
    async with receiving(Reply(hangs=True)) as receiver, office.sender().running():
        webhook, _ = await office.add(receiver.url)
        await office.fact()
        (delivery,) = await office.settled(webhook, FAILED)
    assert (delivery.last_status, delivery.last_error) == (None, "no answer within 0.1 s")


async def test_an_endless_answer_is_a_delivery(office: Office) -> None:
    async with receiving(Reply(200, endless=True)) as receiver, office.sender().running():
        webhook, _ = await office.add(receiver.url)
        await office.fact()
        await office.settled(webhook, DELIVERED)


async def test_a_redirect_inwards_is_not_followed(office: Office) -> None:
    async with receiving() as inner, receiving(Reply(307, {"Location": inner.url})) as receiver:
        async with office.sender().running():
            webhook, _ = await office.add(receiver.url)
            await office.fact()
            (delivery,) = await office.settled(webhook, FAILED)
        assert (delivery.last_error, inner.got) == ("HTTP 307", [])


async def test_dead_receivers_with_much_waiting_take_their_share_and_no_more(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight places for everybody, two dead receivers of four each would take them all; the pace is set by the dead."""
    monkeypatch.setattr(sending, "AT_ONCE", 9)
    async with receiving(Reply(hangs=True)) as dead, receiving() as alive:
        for _ in range(2):
            await office.add(dead.url)
        for _ in range(20):
            await office.fact()
        webhook, _ = await office.add(alive.url)
        async with office.sender().running():
            await dead.received(2 * sending.AT_ONCE_PER_WEBHOOK)
            for _ in range(5):
                await office.fact()
            await office.settled(webhook, *[DELIVERED] * 5)
            assert len(dead.got) == 2 * sending.AT_ONCE_PER_WEBHOOK
            assert dead.most_at_once == 2 * sending.AT_ONCE_PER_WEBHOOK


async def test_two_senders_share_the_work_and_send_nothing_twice(office: Office) -> None:
    async with receiving() as receiver:
        webhook, _ = await office.add(receiver.url)
        for _ in range(60):
            await office.fact()
        async with office.sender().running(), office.sender().running():
            await office.settled(webhook, *[DELIVERED] * 60)
        assert Counter(ids(receiver.got)).most_common(1)[0][1] == 1


async def test_a_claimed_message_is_nobody_elses_until_the_claim_runs_out_and_a_late_word_counts_nothing(
    service: Service,
) -> None:
    office = office_of(service)
    webhook, _ = await office.add("http://127.0.0.1:9/")
    await office.fact()
    (first,) = await office.attempts.claim({}, free=9, at_once=9)
    assert await office.attempts.claim({}, free=9, at_once=9) == []
    with pytest.raises(Conflict, match="right now"):
        await office.deliveries.retry("default", webhook.webhook_id, first.delivery_id)
    held = await office.scalar("SELECT claimed_until - now() FROM casework.deliveries")
    assert office.attempts.timeout < held <= office.attempts.timeout * attempts.CLAIM_TIMEOUTS

    await office.execute("UPDATE casework.deliveries SET claimed_until = now()")
    (second,) = await office.attempts.claim({}, free=9, at_once=9)
    assert (second.delivery_id, second.attempt) == (first.delivery_id, 2)
    assert await office.attempts.settle(first, Answer(410)) is None
    (delivery,) = await office.of(webhook)
    assert (delivery.state, delivery.last_status) == (PENDING, None)
    assert (await office.webhooks.get("default", webhook.webhook_id)).enabled
    assert await office.attempts.settle(second, Answer(200)) is DELIVERED


async def test_what_comes_of_a_message_whose_webhook_is_gone_or_off_by_now(service: Service) -> None:
    office = office_of(service)
    webhook, _ = await office.add("http://127.0.0.1:9/")
    await office.fact()
    await office.fact()
    arrived, lost = await office.attempts.claim({}, free=9, at_once=9)
    await office.webhooks.change(AMY, webhook.webhook_id, enabled=False)
    assert await office.attempts.settle(arrived, Answer(200)) is DELIVERED
    assert await office.attempts.settle(lost, Answer(500)) is FAILED
    await office.webhooks.delete(AMY, webhook.webhook_id)
    assert await office.attempts.settle(lost, Answer(500)) is None
    assert await office.scalar("SELECT count(*) FROM casework.deliveries") == 0


def test_the_schedule_is_the_standards_over_three_days() -> None:
    whole = sum(attempts.SCHEDULE, timedelta())
    assert timedelta(days=3) < whole < timedelta(days=3.5)
    assert attempts.SCHEDULE[0] == timedelta(seconds=5)


async def test_each_pause_is_the_schedules_with_a_little_more_by_chance(service: Service) -> None:
    office = office_of(service, schedule=attempts.SCHEDULE)
    webhook, _ = await office.add("http://127.0.0.1:9/")
    await office.fact()
    for planned in attempts.SCHEDULE:
        (claimed,) = await office.attempts.claim({}, free=9, at_once=9)
        assert await office.attempts.settle(claimed, Answer(error="no")) is PENDING
        pause = await office.scalar("SELECT next_at - now() FROM casework.deliveries")
        assert planned * 0.99 < pause <= planned * (1 + attempts.JITTER)
        await office.execute("UPDATE casework.deliveries SET next_at = now()")
    (claimed,) = await office.attempts.claim({}, free=9, at_once=9)
    assert await office.attempts.settle(claimed, Answer(error="no")) is FAILED
    assert not (await office.webhooks.get("default", webhook.webhook_id)).enabled


async def test_a_sender_whose_database_connections_are_cut_hears_again(office: Office) -> None:
    async with receiving() as receiver, office.sender(look_every=DISTANT).running():
        webhook, _ = await office.add(receiver.url)
        await office.fact()
        await office.settled(webhook, DELIVERED)
        cut = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND query LIKE 'LISTEN casework_deliveries%'"""
        assert await office.scalar(cut)
        await office.fact()  # while it hears nothing
        await office.settled(webhook, DELIVERED, DELIVERED)


async def test_a_stopping_sender_waits_for_an_answer_and_takes_nothing_more(office: Office) -> None:
    async with receiving() as receiver:
        webhook, _ = await office.add(receiver.url)
        await office.fact()
        async with office.sender().running():
            await receiver.received(1)
        (delivery,) = await office.of(webhook)
        assert delivery.state is DELIVERED
        await office.fact()
        assert [delivery.attempts for delivery in await office.of(webhook)] == [1, 0]


async def test_no_transaction_is_open_while_a_receiver_takes_its_time(office: Office) -> None:
    async with receiving(Reply(hangs=True)) as receiver, office.sender().running():
        await office.add(receiver.url)
        await office.fact()
        await receiver.received(1)
        with psycopg.connect(office.service.resources.database_url, autocommit=True) as db:
            query = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                       AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"""
            await eventually(lambda: db.execute(query).fetchone() == (0,), lambda: "a transaction is open")


async def test_neither_secret_nor_address_nor_text_stands_in_a_log(office: Office) -> None:
    with structlog.testing.capture_logs() as logged:
        async with receiving() as receiver, office.sender().running():
            receiver.replies.extend([Reply(500), Reply(410)])
            webhook, secret = await office.add(f"{receiver.url}?token=in-the-address")
            await office.fact()
            await office.settled(webhook, FAILED)
    seed = await office.scalar("SELECT seed FROM casework.webhooks")
    assert [line["event"] for line in logged].count("webhook.answered") == 2
    for hidden in (secret, secret.removeprefix("whsec_"), seed, "in-the-address", "planted words"):
        assert hidden not in str(logged)


async def test_old_messages_are_forgotten(office: Office) -> None:
    webhook, _ = await office.add("http://127.0.0.1:9/")
    await office.fact()
    await office.fact()
    old = "UPDATE casework.deliveries SET created_at = now() - interval '31 days' WHERE delivery_id = :d"
    kept, gone = await office.of(webhook)
    await office.execute(old, d=gone.delivery_id)
    assert await office.deliveries.prune(timedelta(days=30)) == 1
    assert [delivery.delivery_id for delivery in await office.of(webhook)] == [kept.delivery_id]


async def test_a_burst_is_sent_no_more_than_some_at_a_time(office: Office) -> None:
    async with receiving() as receiver:
        webhook, _ = await office.add(receiver.url)
        for _ in range(40):
            await office.fact()
        async with asyncio.timeout(PATIENCE_S), office.sender(look_every=DISTANT).running():
            await office.settled(webhook, *[DELIVERED] * 40)
        assert receiver.most_at_once <= sending.AT_ONCE_PER_WEBHOOK
