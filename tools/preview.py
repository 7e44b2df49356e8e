"""What a call would change, shown to whoever decides about it. Made by the tool's own code from the real arguments."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Change(BaseModel):
    """One thing that would be different afterwards."""

    model_config = ConfigDict(frozen=True)

    what: str
    before: str
    after: str


class MoneyMoved(BaseModel):
    """Money that would leave us."""

    model_config = ConfigDict(frozen=True)

    amount_minor: int
    """In the currency's minor units; below 0: it would come in."""
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    to: str
    """Where it goes, for people."""


class Preview(BaseModel):
    """The effect of one call, before it is made."""

    model_config = ConfigDict(frozen=True)

    changes: tuple[Change, ...] = ()
    money: MoneyMoved | None = None
    touches: tuple[str, ...] = ()
    """Who and what is concerned, e.g. `Ada Byron (C-1005)`."""
    reversible: bool
    undo: str
    """How it could be undone, or why it cannot."""
