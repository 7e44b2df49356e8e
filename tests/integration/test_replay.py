"""`casework replay`: the whole case as text, from events and checkpoints."""

from __future__ import annotations

from uuid import uuid4

import pytest

from casework.errors import NotFound
from casework.execution import Mode
from casework.settings import Settings
from graphs.replay import replay
from tests.rig import ADA, call, rig, scripted

TURNS = (
    [call("issue_refund", order_id="O-5042", amount_minor=1500, reason="damaged")],
    [call("reply_to_customer", body="We have paid it back. Sorry.")],
    "Refunded 15.00 EUR.",
)


async def test_a_case_is_told_step_by_step(settings: Settings, database_url: str) -> None:
    async with rig(settings, database_url, scripted(*TURNS)) as case:
        execution_id = await case.start("T-1042", Mode.COPILOT)
        await case.advance(execution_id)
        waiting = await replay(case.store, case.catalog, case.resources, "default", execution_id)
        for _ in range(2):
            for asked in await case.pending(execution_id):
                await case.decide(ADA, asked)
            await case.advance(execution_id)
        story = await replay(case.store, case.catalog, case.resources, "default", execution_id)
        assert "waits for 1 answer(s)" in waiting
        lines = story[story.index("Story") : story.index("Checkpoints")].splitlines()
        told = [line.split()[2] for line in lines[1:] if line]
        assert told == [event.type for event in await case.events(execution_id)]
        assert "next: handle_call" in story
        assert story.rstrip().splitlines()[-1].split()[1:3] == ["next:", "end"]
        with pytest.raises(NotFound):
            await replay(case.store, case.catalog, case.resources, "default", uuid4())
        with pytest.raises(NotFound):
            await replay(case.store, case.catalog, case.resources, "another tenant", execution_id)
