"""An API process killed while it records a decision: it counts once, whether or not the answer arrived."""

from __future__ import annotations

import httpx
import pytest

from casework.actor import SYSTEM, Role
from casework.approval import ApprovalState
from casework.execution import Mode, Status
from tests.forks import Forked
from tests.rig import ADA
from tests.stage import KEYED, Stage

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("point", "kept"), [("inside_decision", ApprovalState.PENDING), ("after_decision", ApprovalState.APPROVED)]
)
async def test_a_decision_whose_answer_never_came_can_be_sent_again(
    stage: Stage, survivor: Forked, point: str, kept: ApprovalState
) -> None:
    service = stage.service
    key = await service.identity.add_key("default", ADA.actor_id, frozenset({Role.APPROVER}), by=SYSTEM)
    case = await stage.begin(KEYED, Mode.COPILOT)
    asked = await stage.asked(case)
    async with stage.api(point, faults=f"{point}=kill") as (api, url):
        body = {"type": "approve", "digest": asked.digest}
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            with pytest.raises(httpx.TransportError):
                await client.post(
                    f"/approvals/{asked.approval_id}/decision", json=body, headers={"Authorization": f"Bearer {key}"}
                )
        await api.killed()
    assert (await service.decisions.get("default", asked.approval_id)).state is kept
    assert (await stage.approve(asked, ADA)).state is ApprovalState.APPROVED
    for _ in range(2):  # the letter and the note
        await stage.approve(await stage.asked(case), ADA)
    assert await stage.over(case) is Status.SUCCEEDED
    assert stage.paid_back(case) == [1780]
    assert await stage.broken() == []
