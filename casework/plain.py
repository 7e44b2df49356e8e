"""Values as JSON that Postgres can hold: what tools, models and other people's graphs return is not always that."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_jsonable_python


def plain(value: Any) -> Any:
    """`value` as plain JSON. NUL and lone surrogates become U+FFFD, NaN and infinities null, unknown objects text."""
    return _storable(to_jsonable_python(value, fallback=str, inf_nan_mode="null"))


def _storable(value: Any) -> Any:
    match value:
        case str():
            whole = value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
            return whole.replace("\x00", "\ufffd")
        case float() if value != value or value in (float("inf"), float("-inf")):
            return None
        case dict():
            return {_storable(str(name)): _storable(item) for name, item in value.items()}
        case list():
            return [_storable(item) for item in value]
    return value
