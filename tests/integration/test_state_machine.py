"""Thousands of steps in any order over store, legs, decisions and ledger: the database does what a plain model does.

And the proof that this can fail: with a fault planted in the code, the machine finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import func, update
from sqlalchemy.ext.asyncio import AsyncConnection

from casework import decisions, journal, legs
from casework.execution import Status
from casework.legs import Ending, Leg, Legs
from casework.settings import Settings
from casework.tables import executions
from tests.conftest import Template
from tests.machine import machine_on
from tests.playing import Parts, parts
from tools import ledger

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
"""Said of a machine whose steps are transactions on a busy computer."""
ANY_TIME = settings(stateful_step_count=50, database=None, print_blob=True, suppress_health_check=SLOW)
EACH_TIME_ALIKE = settings(ANY_TIME, max_examples=50, derandomize=True)
AT_LENGTH = settings(EACH_TIME_ALIKE, max_examples=150)
UNTIL_FOUND = settings(EACH_TIME_ALIKE, max_examples=300, phases=[Phase.generate], report_multiple_bugs=False)
"""Nothing is made smaller: that it is found is all that matters."""


@pytest.fixture
def opened(database_url: str, template: Template) -> Iterator[Parts]:
    with parts(Settings.model_validate({"database_url": database_url}), template.book) as made:
        yield made


def test_whatever_happens_the_database_does_what_the_model_does(opened: Parts) -> None:
    run_state_machine_as_test(machine_on(opened), settings=EACH_TIME_ALIKE)


@pytest.mark.long
def test_whatever_else_happens_it_does_too(opened: Parts) -> None:
    run_state_machine_as_test(machine_on(opened), settings=AT_LENGTH)


class GreedyLegs(Legs):
    """Claims what another worker has."""

    async def claim(self, execution_id: UUID, owner: str, lease: timedelta) -> Leg | None:
        taken = (executions.c.execution_id == execution_id) & (executions.c.status == Status.RUNNING)
        async with self.engine.begin() as db:
            await db.execute(update(executions).where(taken).values(lease_until=func.now() - lease))
        return await super().claim(execution_id, owner, lease)


class HastyLegs(Legs):
    """Does not look for what arrived while the leg ran: takes every decision as taken up."""

    async def finish(self, leg: Leg, ending: Ending, pending: Collection[str]) -> Status:
        return await super().finish(leg, ending, ())


class StillPending:
    """A locked approval that always says it is open."""

    state = "pending"

    def __init__(self, row: Any) -> None:
        self.row = row

    def __getattr__(self, name: str) -> Any:
        return getattr(self.row, name)


def without_compare_and_set(patch: pytest.MonkeyPatch) -> None:
    lock = decisions._lock

    async def blind(db: AsyncConnection, tenant: str, approval_id: UUID) -> Any:
        return StillPending(await lock(db, tenant, approval_id))

    patch.setattr(decisions, "_lock", blind)


def without_fence(patch: pytest.MonkeyPatch) -> None:
    async def believe(db: AsyncConnection, execution_id: UUID, fence: int) -> None:
        """Whoever writes is trusted to own the execution."""

    for module in (journal, legs, ledger):
        patch.setattr(module, "hold_fence", believe)
    for statement in ("LOOK", "END"):
        patch.setattr(legs, statement, getattr(legs, statement).replace(" AND fence = %(fence)s", ""))


def as_it_is(patch: pytest.MonkeyPatch) -> None:
    """Nothing is patched."""


PLANTED: dict[str, tuple[type[Legs], Callable[[pytest.MonkeyPatch], None]]] = {
    "a claim that ignores the lease": (GreedyLegs, as_it_is),
    "a leg that ends without looking for what arrived": (HastyLegs, as_it_is),
    "a decision that does not look whether there is one": (Legs, without_compare_and_set),
    "writers that do not look at the fence": (Legs, without_fence),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_fault_is_found(
    planted: str, database_url: str, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, plant = PLANTED[planted]
    plant(monkeypatch)
    where = Settings.model_validate({"database_url": database_url})
    with parts(where, template.book, kind) as opened, pytest.raises(AssertionError):
        run_state_machine_as_test(machine_on(opened), settings=UNTIL_FOUND)
