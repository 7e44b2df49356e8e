"""Money in the shop: whole cents, one currency."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, computed_field

Currency = Literal["EUR"]
CURRENCY: Currency = "EUR"
"""Every price, charge and refund of Larkspur Home."""


def display(amount_minor: int) -> str:
    """Cents as people write them: 4990 → `49.90 EUR`."""
    sign = "-" if amount_minor < 0 else ""
    whole, cents = divmod(abs(amount_minor), 100)
    return f"{sign}{whole}.{cents:02d} {CURRENCY}"


class Money(BaseModel):
    """An amount as a tool shows it: exact for calculating, and readable."""

    model_config = ConfigDict(frozen=True)

    amount_minor: int
    """Whole cents."""
    currency: Currency = CURRENCY

    @computed_field  # type: ignore[prop-decorator]  # mypy cannot see through a decorated property
    @property
    def display(self) -> str:
        return display(self.amount_minor)

    @classmethod
    def of(cls, amount_minor: int) -> Self:
        return cls(amount_minor=amount_minor)
