"""Values as JSON that Postgres can hold: what tools, models and other people's graphs return is not always that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python


def plain(value: Any) -> Any:
    """`value` as plain JSON. NUL and lone surrogates become U+FFFD, NaN and infinities null, unknown objects text."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "\ufffd")
        case float():
            return value if math.isfinite(value) else None
        case BaseModel():
            return plain(value.model_dump())
        case Mapping():
            return {plain(str(name)): plain(item) for name, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(item) for item in value]
    return plain(to_jsonable_python(value, fallback=str))
