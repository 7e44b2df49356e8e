"""Amounts of money as people write them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from casework.actor import LARGEST_MINOR
from casework.errors import InputInvalid

NO_MINOR = re.compile("BIF|CLP|DJF|GNF|ISK|JPY|KMF|KRW|PYG|RWF|UGX|UYI|VND|VUV|XAF|XOF|XPF")
THREE_DIGITS = re.compile("BHD|IQD|JOD|KWD|LYD|OMR|TND")
"""Currencies whose minor unit is not a hundredth (ISO 4217)."""
WRITTEN = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,3}))?")


def digits_of(currency: str) -> int:
    """How many digits stand behind the point."""
    return 0 if NO_MINOR.fullmatch(currency) else 3 if THREE_DIGITS.fullmatch(currency) else 2


def amount(minor: int, currency: str) -> str:
    """`64900`, `EUR` → `649.00 EUR`; thousands with a comma."""
    digits = digits_of(currency)
    whole, rest = divmod(abs(minor), 10**digits)
    fraction = f".{rest:0{digits}d}" if digits else ""
    return f"{'-' if minor < 0 else ''}{whole:,}{fraction} {currency}"


def amounts(money: Mapping[str, int]) -> str:
    """`500.00 EUR and 20.00 USD`; empty for no money."""
    return " and ".join(amount(minor, currency) for currency, minor in sorted(money.items()))


def minor_of(written: str, currency: str) -> int:
    """`649.00` or `1,649` → minor units. Raises InputInvalid for anything else, and for parts of a minor unit."""
    digits = digits_of(currency)
    found = WRITTEN.fullmatch(written.strip().replace(",", ""))
    fraction = (found[2] or "") if found else ""
    if found is None or len(fraction) > digits or re.search(r",(?!\d{3}(?!\d))", written):
        shown = amount(5 * 10 ** (digits + 2), currency)
        raise InputInvalid(f"{written!r} is no amount; write it like {shown}", field=f"limits.{currency}")
    minor = int(f"{found[1]}{fraction.ljust(digits, '0')}")
    if minor > LARGEST_MINOR:
        raise InputInvalid(f"{written} is more than any limit can be", field=f"limits.{currency}")
    return minor
