"""The support workflow saved by LangGraph's own saver, which knows no fence: the control that must fork."""

from __future__ import annotations

from typing import Any, Self

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from tests.workflows.compiled import Compiled, compiled_as


class StockSaved(Compiled):
    """Puts the stock saver in the place of the runner's."""

    def copy(self, update: dict[str, Any] | None = None) -> Self:
        ours = (update or {})["checkpointer"]
        return super().copy({"checkpointer": AsyncPostgresSaver(ours.conn, serde=ours.serde)})


builder = compiled_as(StockSaved)
