"""Named points where a test may break the process. Off, and next to free, unless armed when the process starts.

    CASEWORK_ALLOW_FAULTS=1 CASEWORK_FAULTS=after_effect=kill,before_checkpoint=delay:0.3@2 casework worker

    kill         the process dies at once, as of kill -9
    pause        the process freezes, heartbeats and all, until SIGCONT; `pause:2` for 2 s
    delay:0.3    the task at the point waits 0.3 s, the rest of the process goes on
    raise        RuntimeError

`@2` breaks the second passing of the point only; without it every passing breaks. Not a part of Settings, so that no
.env file can arm one.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

from casework.errors import SettingsInvalid
from casework.telemetry import logger

log = logger(__name__)

POINTS: Mapping[str, str] = {
    "after_claim": "the lease is taken and the fence raised; nothing is done yet",
    "before_beat": "the heartbeat is due; no lease is renewed",
    "before_graph": "what to feed the graph is known; it does not run yet",
    "before_checkpoint": "a step is over; its checkpoint is not saved",
    "after_checkpoint": "a step's checkpoint is saved",
    "before_writes": "a task is over; what it wrote and noted is not saved",
    "after_writes": "what a task wrote is saved",
    "before_effect": "a call passed the gate; the ledger knows nothing of it",
    "after_started": "an outside effect stands in the ledger as started; nothing is sent",
    "before_send": "the request to the payment provider is made; it is not sent",
    "after_answer": "the payment provider has answered; nobody has read it",
    "before_done": "an effect's end is written; its transaction has not committed",
    "after_effect": "an effect's end is committed; the graph does not know",
    "before_finish": "the graph waits or has ended; the execution's row still says running",
    "inside_finish": "the end of a leg that waits, or was overtaken, is written; its transaction has not committed",
    "after_finish": "the end of the leg is committed; the queue's job is still there",
    "inside_create": "an execution and its wake-up are written; their transaction has not committed",
    "after_create": "an execution and its wake-up are committed; whoever started it has no answer",
    "inside_decision": "a decision and its wake-up are written; their transaction has not committed",
    "inside_message": "a message and what it set going are written; their transaction has not committed",
    "after_message": "a message is committed; whoever sent it has no answer",
    "after_reading": "an agent has read messages; nothing of that is saved",
    "after_decision": "a decision and its wake-up are committed; whoever decided has no answer",
    "before_post": "a webhook's message is claimed; nothing is sent",
    "after_post": "a webhook's receiver has answered; what it said is not recorded",
}
"""Every point, and how things stand when it is passed."""

ENTRY = re.compile(r"(?P<point>\w+)=(?P<action>kill|raise|pause|delay)(:(?P<seconds>\d+\.?\d*))?(@(?P<nth>[1-9]\d*))?")


@dataclass
class _Fault:
    """One armed point of this process."""

    point: str
    action: str
    seconds: float | None
    """For delay, and for a pause that ends by itself."""
    nth: int | None
    """Which passing breaks, from 1; None: every one."""
    passed: int = 0

    async def meet(self) -> None:
        self.passed += 1
        if self.nth not in (None, self.passed):
            return
        log.warning("fault.hit", point=self.point, action=self.action)
        if self.action == "delay" and self.seconds is not None:
            await asyncio.sleep(self.seconds)
        else:
            self._break()

    def _break(self) -> None:
        match self.action:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "pause" if self.seconds is not None:
                time.sleep(self.seconds)
            case "pause":
                os.kill(os.getpid(), signal.SIGSTOP)
            case _:
                raise RuntimeError(f"fault injected at {self.point}")


_armed: dict[str, _Fault] = {}


async def fault(point: str) -> None:
    """Break here if this point is armed."""
    armed = _armed.get(point)
    if armed is not None:
        await armed.meet()


def arm(environ: Mapping[str, str]) -> list[str]:
    """Arm what CASEWORK_FAULTS names, and nothing else any more. Returns the points.

    Raises SettingsInvalid when one is not written as above, or without CASEWORK_ALLOW_FAULTS=1.
    """
    _armed.clear()
    wanted = environ.get("CASEWORK_FAULTS", "")
    if not wanted:
        return []
    if environ.get("CASEWORK_ALLOW_FAULTS") != "1":
        raise SettingsInvalid("CASEWORK_FAULTS breaks this process: unset it, or set CASEWORK_ALLOW_FAULTS=1 as well")
    _armed.update({parsed.point: parsed for parsed in map(_parse, wanted.split(","))})
    return list(_armed)


def _parse(entry: str) -> _Fault:
    found = ENTRY.fullmatch(entry.strip())
    if found is None or found["point"] not in POINTS:
        known = ", ".join(POINTS)
        raise SettingsInvalid(f"CASEWORK_FAULTS: {entry!r} is not point=kill|raise|pause[:s]|delay:s[@n] of {known}")
    action, seconds, nth = found["action"], found["seconds"], found["nth"]
    if (seconds is None) is (action == "delay") and action != "pause":
        raise SettingsInvalid(f"CASEWORK_FAULTS: {entry!r}: delay needs seconds, kill and raise take none")
    return _Fault(found["point"], action, float(seconds) if seconds else None, int(nth) if nth else None)
