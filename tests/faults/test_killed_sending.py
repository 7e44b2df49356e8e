"""A worker killed or frozen while it sends to a webhook: another sends it again under the same id."""

from __future__ import annotations

import pytest

from casework.deliveries import DeliveryState
from tests.forks import Forked
from tests.processes import eventually
from tests.receivers import ids, office_of, receiving
from tests.stage import Stage

pytestmark = pytest.mark.long


@pytest.mark.parametrize(("point", "arrived"), [("before_post", 0), ("after_post", 1)])
async def test_a_message_whose_sender_is_killed_is_sent_again_under_the_same_id(
    stage: Stage, survivor: Forked, point: str, arrived: int
) -> None:
    office = office_of(stage.service)
    async with receiving() as receiver:
        webhook, secret = await office.add(receiver.url)
        with stage.worker(f"killed-{point}", faults=f"{point}=kill") as doomed:
            await doomed.ready()
            with survivor.frozen():
                message = await office.deliveries.test("default", webhook.webhook_id)
                await doomed.killed()
            assert len(receiver.got) == arrived
        (delivery,) = await office.settled(webhook, DeliveryState.DELIVERED)
        assert delivery.attempts == 2
        assert ids(receiver.got) == [message.delivery_id] * (arrived + 1)
        assert [got.verified(secret)["type"] for got in receiver.got] == ["webhook.test"] * (arrived + 1)


async def test_a_sender_frozen_past_its_claim_has_nothing_more_to_say(stage: Stage, survivor: Forked) -> None:
    office = office_of(stage.service)
    async with receiving() as receiver:
        webhook, _ = await office.add(receiver.url)
        with stage.worker("frozen-sender", faults="after_post=pause") as zombie:
            await zombie.ready()
            with survivor.frozen():
                await office.deliveries.test("default", webhook.webhook_id)
                await zombie.meets("after_post")
            (settled,) = await office.settled(webhook, DeliveryState.DELIVERED)
            zombie.thaw()
            await eventually(lambda: "webhook.answered" in zombie.said(), zombie.said)
            assert '"state": null' in zombie.said()
            await zombie.stop()
        assert await office.of(webhook) == [settled]
        assert settled.attempts == 2
