"""Fault points: off unless armed by the environment, refused when mistyped, and each one really in the code."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from casework.errors import SettingsInvalid
from casework.faults import POINTS, arm, fault
from server.cli import run
from tests.conftest import ROOT

ALLOWED = {"CASEWORK_ALLOW_FAULTS": "1"}
CALL = re.compile(r'await fault\("(\w+)"\)')


@pytest.fixture(autouse=True)
def nothing_armed() -> Iterator[None]:
    yield
    arm({})


def test_faults_are_refused_unless_they_are_allowed() -> None:
    with pytest.raises(SettingsInvalid, match="CASEWORK_ALLOW_FAULTS=1"):
        arm({"CASEWORK_FAULTS": "after_effect=kill"})
    assert arm({"CASEWORK_FAULTS": "after_effect=kill,before_send=delay:0.3@2", **ALLOWED}) == [
        "after_effect",
        "before_send",
    ]
    assert arm(ALLOWED) == []


def test_the_command_refuses_to_start_with_faults_that_are_not_allowed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CASEWORK_FAULTS", "after_effect=kill")
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("casework: CASEWORK_FAULTS breaks this process")


@pytest.mark.parametrize(
    "wanted",
    [
        "after_effects=kill",
        "after_effect",
        "after_effect=explode",
        "after_effect=delay",
        "after_effect=kill:3",
        "after_effect=kill@0",
        "after_effect=kill,",
    ],
)
def test_a_mistyped_fault_is_refused_instead_of_never_met(wanted: str) -> None:
    with pytest.raises(SettingsInvalid, match="CASEWORK_FAULTS"):
        arm({"CASEWORK_FAULTS": wanted, **ALLOWED})


async def test_an_armed_point_breaks_each_time_or_only_the_nth() -> None:
    arm({"CASEWORK_FAULTS": "after_claim=raise,after_effect=raise@2", **ALLOWED})
    for _ in range(2):
        with pytest.raises(RuntimeError, match="fault injected at after_claim"):
            await fault("after_claim")
    await fault("after_effect")
    with pytest.raises(RuntimeError, match="after_effect"):
        await fault("after_effect")
    await fault("after_effect")
    await fault("before_effect")


@pytest.mark.parametrize("action", ["delay", "pause"])
async def test_a_delay_or_a_pause_takes_its_time(action: str) -> None:
    arm({"CASEWORK_FAULTS": f"after_claim={action}:0.05", **ALLOWED})
    begun = time.monotonic()
    await fault("after_claim")
    assert time.monotonic() - begun >= 0.05


def test_every_point_is_in_the_code_and_no_other() -> None:
    packages = ("casework", "tools", "nodes", "graphs", "server")
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    found = Counter(point for path in files for point in CALL.findall(path.read_text()))
    assert found.keys() == POINTS.keys()
