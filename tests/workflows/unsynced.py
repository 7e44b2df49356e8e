"""The support workflow saved behind the run, as LangGraph does by default: the control that must act twice."""

from __future__ import annotations

from typing import Any

from tests.workflows.compiled import Compiled, compiled_as


class SavedLater(Compiled):
    """Goes on before what it did is saved, whatever the runner asks for."""

    async def ainvoke(self, *args: Any, **kwargs: Any) -> Any:
        return await super().ainvoke(*args, **{**kwargs, "durability": "async"})


builder = compiled_as(SavedLater)
