"""JSON that Postgres cannot keep is refused where it comes in, by the name of its field."""

from __future__ import annotations

import math
import re
from typing import Any

from casework.errors import InputInvalid

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""NUL and lone surrogates: JSON can write them, Postgres's jsonb refuses them."""


def refuse_unstorable(value: Any, field: str = "") -> None:
    """Raises InputInvalid naming the first field that holds NUL, half a character, NaN or an infinite number."""
    match value:
        case str() if UNSTORABLE.search(value):
            raise InputInvalid(f"{field}: remove the NUL or broken character", field=field)
        case float() if not math.isfinite(value):
            raise InputInvalid(f"{field}: must be a finite number", field=field)
        case dict():
            for name, inner in value.items():
                refuse_unstorable(name, field)
                refuse_unstorable(inner, f"{field}.{name}".lstrip("."))
        case list():
            for i, inner in enumerate(value):
                refuse_unstorable(inner, f"{field}.{i}")
