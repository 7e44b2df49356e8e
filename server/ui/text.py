"""How values read on a page. Nothing here is trusted to be harmless: what hides or reorders text is made visible."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from markupsafe import Markup, escape

DECEIVING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, but for tab and line feed
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # reorder the text around them
    "\u00ad\u115f\u1160\u17b4\u17b5\u180e\u200b\u2028\u2029\u2060-\u2064\u206a-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"  # show as nothing
    # Joiners belong to emoji and to scripts that need them; next to ASCII they only hide.
    "|(?<=[\x00-\x7f])[\u200c\u200d]|[\u200c\u200d](?=[\x00-\x7f])"
)
BRIEF_CHARS = 160
NO_DIGITS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
THREE_DIGITS = "BHD IQD JOD KWD LYD OMR TND"
MINOR_DIGITS = {**dict.fromkeys(NO_DIGITS.split(), 0), **dict.fromkeys(THREE_DIGITS.split(), 3)}
"""Decimal digits of currencies that do not have two, by ISO 4217."""


@dataclass(frozen=True)
class Row:
    """One value of a tool call's arguments."""

    name: str
    """Dotted path."""
    value: str
    note: str = ""
    """The value as people write it, e.g. money; empty when that is what it is already."""


def visible(value: object) -> object:
    """A string with every deceiving character written out as ⟨U+202E⟩; anything else as it is.

    The template environment passes every value through here before it is escaped.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return DECEIVING.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", value.replace("\r\n", "\n"))


def verbatim(value: str) -> Markup:
    """Escaped, and otherwise untouched: for form fields, which send back what they hold."""
    return escape(value)


def brief(value: str, limit: int = BRIEF_CHARS) -> str:
    """One line. A cut says how much is missing."""
    line = " ".join(value.split())
    return line if len(line) <= limit else f"{line[:limit].rstrip()} … ({len(line) - limit} more characters)"


def rows_of(args: Mapping[str, Any], prefix: str = "") -> Iterator[Row]:
    """Arguments as a flat table, every value in full."""
    for name, value in args.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from rows_of(value, f"{path}.")
        else:
            yield Row(path, plain(value), money(name, value, args))


def money(name: str, value: object, beside: Mapping[str, Any]) -> str:
    """`4990` under a name like amount_minor as `49.90`, with the currency that stands beside it."""
    if not name.endswith("_minor") or not isinstance(value, int) or isinstance(value, bool):
        return ""
    currency = beside.get("currency")
    return amount(value, currency if isinstance(currency, str) else None)


def amount(minor: int, currency: str | None) -> str:
    """Minor units as people write them: `1,234.50 EUR`, `1,234 JPY`, `1.234 KWD`; two digits when it is not known."""
    digits = MINOR_DIGITS.get(currency or "", 2)
    whole, rest = divmod(abs(minor), 10**digits)
    fraction = f".{rest:0{digits}d}" if digits else ""
    return f"{'-' if minor < 0 else ''}{whole:,}{fraction}" + (f" {currency}" if currency else "")


def plain(value: object) -> str:
    """Text as it is; anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)


def sentence(value: str) -> str:
    """An error's message as a sentence of its own."""
    return f"{value[:1].upper()}{value[1:]}{'' if value.endswith(('.', '?', '!')) else '.'}"


def usd(microusd: int) -> str:
    """Model cost; small ones keep the digits that count."""
    return "$0" if not microusd else f"${microusd / 1_000_000:.4f}"


def ago(at: datetime, now: datetime) -> str:
    """`3 min ago`, `in 2 d 4 h`."""
    apart = now - at
    if abs(apart) < timedelta(seconds=10):
        return "just now"
    text = duration(abs(apart))
    return f"{text} ago" if apart > timedelta(0) else f"in {text}"


def duration(span: timedelta) -> str:
    """The two largest units: `2 d 4 h`, `3 min 20 s`, `0.4 s`."""
    seconds = span.total_seconds()
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    parts = [(days, "d"), (h, "h"), (m, "min"), (s, "s")]
    first = next(i for i, (amount, _) in enumerate(parts) if amount)
    return " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount)


def exact(at: datetime) -> str:
    return at.strftime("%a %d %b %Y, %H:%M:%S %Z")
