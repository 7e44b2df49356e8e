"""An API process killed while it starts a case: sent again with its key, the case is started once."""

from __future__ import annotations

import pytest

from casework.actor import SYSTEM, Role
from casework.execution import Status
from tests.callers import Caller
from tests.forks import Forked
from tests.rig import OLGA
from tests.stage import KEYED, Case, Stage

pytestmark = pytest.mark.long


@pytest.mark.parametrize(
    ("point", "kept", "status"),
    [
        pytest.param("inside_create", 0, 202, id="before the commit: started by the second request"),
        pytest.param("after_create", 1, 200, id="after it: the second request finds it"),
    ],
)
async def test_a_start_whose_answer_never_came_can_be_sent_again(
    stage: Stage, survivor: Forked, point: str, kept: int, status: int
) -> None:
    key = await stage.service.identity.add_key("default", OLGA.actor_id, frozenset({Role.OPERATOR}), by=SYSTEM)
    ids = await stage.copy(KEYED)
    started = "SELECT count(*) FROM casework.executions WHERE input #>> '{case,ticket_id}' = :t"
    async with stage.api(point, faults=f"{point}=kill") as (api, url):
        assert await Caller(url, key).start_once(ids) is None
        await api.killed()
    assert await stage.scalar(started, t=ids["ticket"]) == kept
    async with stage.api(f"after-{point}") as (_, url):
        first, again = [await Caller(url, key).start_once(ids) for _ in range(2)]
    assert first is not None
    assert again is not None
    assert (first.status_code, again.status_code) == (status, 200)
    assert first.json()["execution_id"] == again.json()["execution_id"]
    assert await stage.scalar(started, t=ids["ticket"]) == 1
    case = Case(first.json()["execution_id"], ids["ticket"], ids["order"])
    assert await stage.over(case) is Status.SUCCEEDED
    assert stage.paid_back(case) == [1780]
    assert await stage.broken() == []
