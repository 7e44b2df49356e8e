"""Every use of a part of LangGraph that it does not promise to keep, in one place. tests pin each of them."""

from __future__ import annotations

from typing import Any

from langgraph._internal._constants import CONFIG_KEY_STRICT_RESUME
from langgraph.checkpoint.serde import _msgpack
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph.state import CompiledStateGraph

from casework.errors import SettingsInvalid

STRICT_RESUME: dict[str, Any] = {CONFIG_KEY_STRICT_RESUME: True}
"""In `configurable`: an answer to a question that is not pending raises, instead of answering another one."""


def strict_serializer(compiled: CompiledStateGraph[Any, Any, Any, Any]) -> JsonPlusSerializer:
    """Reads only what the graph's own state schemas name; no pickle.

    `graph.copy()` drops the compiled graph's allowlist, so the serializer carries it.
    Raises SettingsInvalid when LangGraph was imported without LANGGRAPH_STRICT_MSGPACK.
    """
    if not _msgpack.STRICT_MSGPACK_ENABLED:
        raise SettingsInvalid("set LANGGRAPH_STRICT_MSGPACK=true: LangGraph was imported before casework, without it")
    allowed = list(compiled._serde_allowlist or ())
    return JsonPlusSerializer(pickle_fallback=False, allowed_json_modules=None, allowed_msgpack_modules=allowed)
