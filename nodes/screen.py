"""What comes in is cleaned and looked at before any model reads it; what goes out, before anyone else does."""

from __future__ import annotations

from typing import Any

from nodes.context import Context
from nodes.state import State
from policies import content


async def screen_input(state: State, context: Context) -> dict[str, Any]:
    """Clean the request and note signs of injected instructions. Nothing is refused here: a flag makes writes ask."""
    request = state.get("request", "")
    found = content.suspicions(request)
    context.journal.note("input.screened", suspicions=found, characters=len(request))
    return {"request": content.clean(request), "suspicions": found, "case": state.get("case", {})}


async def screen_output(state: State, context: Context) -> dict[str, Any]:
    """Clean the final answer."""
    answer = content.clean(state["messages"][-1].text).strip()
    context.journal.note("output.screened", characters=len(answer))
    return {"answer": answer}
