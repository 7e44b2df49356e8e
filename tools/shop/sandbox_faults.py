"""Making the sandbox payment provider fail on purpose, the ways a real one does."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from tools.shop.sandbox_book import Reply


class FaultKind(StrEnum):
    RATE_LIMITED = "429"
    """Refused before anything is done."""
    BROKEN = "500"
    """Fails before anything is done; the caller cannot tell."""
    DECLINED = "402"
    """Refused for good, before anything is done."""
    DROP = "drop"
    """Done, and then the connection breaks before the answer."""
    DELAY = "delay"
    """Done, and answered late."""


class Fault(BaseModel):
    """What the next requests meet."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: FaultKind
    count: int = Field(1, ge=1, le=10_000)
    """How many requests meet it."""
    delay_s: float = Field(0.0, ge=0.0, le=120.0)
    """For `delay`: how late the answer comes."""


INSTEAD = {
    FaultKind.RATE_LIMITED: Reply(
        status=429,
        body={"error": {"type": "invalid_request_error", "code": "rate_limit", "message": "Too many requests."}},
    ),
    FaultKind.BROKEN: Reply(
        status=500, body={"error": {"type": "api_error", "message": "Something went wrong on our end."}}
    ),
    FaultKind.DECLINED: Reply(
        status=402,
        body={"error": {"type": "card_error", "code": "card_declined", "message": "Your card was declined."}},
    ),
}
"""Answers given without carrying the request out."""


class Faults:
    """The faults still to come, in the order they were asked for."""

    def __init__(self) -> None:
        self._coming: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._coming += [fault.model_copy(update={"count": 1})] * fault.count

    def clear(self) -> None:
        self._coming.clear()

    def take(self) -> Fault | None:
        """The fault the present request meets, if any."""
        return self._coming.pop(0) if self._coming else None

    @property
    def waiting(self) -> int:
        """How many requests will still meet one."""
        return len(self._coming)
