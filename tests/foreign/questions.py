"""Two graphs that ask one question each, and publish what an answer looks like: as JSON Schema, and as a model."""

from __future__ import annotations

from typing import Any, Literal

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

DATE_SCHEMA = {
    "type": "object",
    "properties": {"date": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}},
    "required": ["date"],
    "additionalProperties": False,
}


class Parcel(TypedDict, total=False):
    parcel: str
    note: str


class Choice(BaseModel):
    """How a parcel goes on."""

    carrier: Literal["DPD", "DHL"]
    insured_minor: int = Field(ge=0)


class Routed(TypedDict, total=False):
    parcel: str
    choice: Choice


async def ask_for_a_date(state: Any) -> dict[str, Any]:
    answer = interrupt({"question": "When may we deliver?", "parcel": state["parcel"]}, response_schema=DATE_SCHEMA)
    return {"note": f"{state['parcel']} on {answer['date']}"}


async def ask_for_a_choice(state: Any) -> dict[str, Any]:
    choice = interrupt(f"How shall {state['parcel']} go on?", response_schema=Choice)
    return {"choice": choice}


def _asking(schema: type[Any], node: Any) -> StateGraph[Any]:
    graph: StateGraph[Any] = StateGraph(schema)
    graph.add_node("ask", node)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return graph


json_schema_builder = _asking(Parcel, ask_for_a_date)
model_builder = _asking(Routed, ask_for_a_choice)
