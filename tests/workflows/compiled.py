"""The support workflow compiled as another class: how a test takes one of the runner's rules away."""

from __future__ import annotations

from typing import Any

from langgraph.graph.state import CompiledStateGraph

from graphs.assembly import CaseGraph, assemble
from graphs.support import support

Compiled = CompiledStateGraph[Any, Any, Any, Any]


def compiled_as(kind: type[Compiled]) -> CaseGraph:
    """A builder of the support workflow whose compiled graph is a `kind`."""

    class Builder(CaseGraph):
        def compile(self, *args: Any, **kwargs: Any) -> Compiled:
            made = vars(super().compile(*args, **kwargs))
            return kind(**{name: value for name, value in made.items() if name != "__orig_class__"})

    builder = assemble(support)
    builder.__class__ = Builder
    return builder
