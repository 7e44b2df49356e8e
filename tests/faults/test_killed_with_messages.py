"""Processes killed or frozen around a further message: it is there or it is not, and is read once."""

from __future__ import annotations

import re
from itertools import count

import httpx
import pytest

from casework.actor import SYSTEM, Role
from casework.approval import ApprovalState
from casework.execution import Mode, Status
from tests.faults.test_zombies import everything, gave_up
from tests.forks import Forked, forked
from tests.processes import eventually
from tests.rig import ADA, OLGA
from tests.stage import KEYED, TRANSACTIONAL, Case, Stage, at

pytestmark = pytest.mark.long

POINTS = (
    "after_claim",
    "before_graph",
    "after_reading",
    "before_writes",
    "after_writes",
    "before_checkpoint",
    "after_checkpoint",
    "before_checkpoint@2",
    "after_checkpoint@2",
    "before_effect",
    "before_done",
    "after_effect",
    "before_finish",
    "after_finish",
)
WAITING = ("after_claim", "after_reading", "before_writes", "after_writes", "before_finish", "inside_finish")

NUMBERS = count(1)


async def read(stage: Stage, case: Case) -> int:
    """How often messages of the case were read."""
    query = "SELECT count(*) FROM casework.events WHERE execution_id = :e AND type = 'message.read'"
    return int(await stage.scalar(query, e=case.execution_id))


@pytest.mark.parametrize("point", POINTS)
async def test_a_case_whose_worker_is_killed_after_it_was_opened_again(
    stage: Stage, survivor: Forked, point: str
) -> None:
    case = await stage.begin(TRANSACTIONAL)
    assert await stage.over(case) is Status.SUCCEEDED
    with survivor.frozen(), stage.worker(f"reopened-{next(NUMBERS)}", faults=at(point, "kill")) as doomed:
        await doomed.ready()
        await stage.service.messages.add(OLGA, case.execution_id, "Thank you very much!")
        await doomed.killed()
    assert await stage.over(case) is Status.SUCCEEDED
    assert await read(stage, case) == 1
    assert await stage.messages(case) == 4  # a letter and a note for the ticket, and for the message
    assert await stage.broken() == []


@pytest.mark.parametrize("point", WAITING)
async def test_a_case_whose_worker_is_killed_after_its_question_was_superseded(
    stage: Stage, survivor: Forked, point: str
) -> None:
    case = await stage.begin(KEYED, Mode.COPILOT)
    refund = await stage.asked(case)
    with survivor.frozen(), stage.worker(f"superseded-{next(NUMBERS)}", faults=at(point, "kill")) as doomed:
        await doomed.ready()
        await stage.service.messages.add(OLGA, case.execution_id, "Never mind, I do not need it any more.")
        await doomed.killed()
    for _ in range(2):  # the letter and the note
        await stage.approve(await stage.asked(case), ADA)
    assert await stage.over(case) is Status.SUCCEEDED
    assert (await stage.service.decisions.get("default", refund.approval_id)).state is ApprovalState.SUPERSEDED
    assert await read(stage, case) == 1
    assert stage.paid_back(case) == []
    assert await stage.broken() == []


@pytest.mark.parametrize("point", ["after_reading", "before_finish"])
async def test_a_worker_that_wakes_up_after_it_read_a_message_writes_nothing(
    stage: Stage, survivor: Forked, point: str
) -> None:
    case = await stage.begin(TRANSACTIONAL)
    assert await stage.over(case) is Status.SUCCEEDED
    with stage.worker(f"frozen-{next(NUMBERS)}", faults=at(point, "pause")) as zombie:
        with survivor.frozen():
            await zombie.ready()
            await stage.service.messages.add(OLGA, case.execution_id, "Thank you very much!")
            await zombie.meets(point)
        assert await stage.over(case) is Status.SUCCEEDED
        finished = await everything(stage, case)
        zombie.thaw()
        await eventually(lambda: gave_up(zombie), zombie.said)
        await zombie.stop()
    assert await everything(stage, case) == finished
    assert await read(stage, case) == 1
    assert await stage.broken() == []


@pytest.mark.parametrize(("point", "kept"), [("inside_message", 0), ("after_message", 1)])
async def test_a_message_whose_answer_never_came_can_be_sent_again(
    stage: Stage, survivor: Forked, point: str, kept: int
) -> None:
    service = stage.service
    key = await service.identity.add_key("default", OLGA.actor_id, frozenset({Role.OPERATOR}), by=SYSTEM)
    case = await stage.begin(TRANSACTIONAL)
    assert await stage.over(case) is Status.SUCCEEDED
    armed = {"CASEWORK_FAULTS": f"{point}=kill", "CASEWORK_ALLOW_FAULTS": "1", "CASEWORK_PORT": "0"}
    headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "thanks"}
    path, body = f"/executions/{case.execution_id}/messages", {"text": "Thank you very much!"}
    with forked("api", stage.folder / f"{point}.log", {**stage.env, **armed}) as api:
        await api.ready("listens on")
        (url,) = re.findall(r"listens on (\S+)", api.said())
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            with pytest.raises(httpx.TransportError):
                await client.post(path, json=body, headers=headers)
        await api.killed()
    assert (await service.store.get("default", case.execution_id)).messages == kept
    _, _, new = await service.messages.add(OLGA, case.execution_id, "Thank you very much!", "thanks")
    assert new is (kept == 0)
    assert await stage.over(case) is Status.SUCCEEDED
    assert await read(stage, case) == 1
    assert await stage.messages(case) == 4
    assert await stage.broken() == []
