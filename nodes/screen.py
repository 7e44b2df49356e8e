"""What comes in is cleaned and looked at before any model reads it; what goes out, before anyone else does."""

from __future__ import annotations

from typing import Any

from langgraph.types import Overwrite

from nodes.context import Context
from nodes.followups import news
from nodes.state import State
from policies import content


async def screen_input(state: State, context: Context) -> dict[str, Any]:
    """Clean the request and note signs of injected instructions. Nothing is refused here: a flag makes writes ask.

    The entrance of a case that is opened again, too: what belongs to the run before is put aside.
    """
    request = state.get("request", "")
    came = await news(state, context)
    found = content.suspicions(request)
    context.journal.note("input.screened", suspicions=found, characters=len(request))
    screened = {
        "request": content.clean(request),
        "suspicions": list(dict.fromkeys([*state.get("suspicions", []), *found])),
        "case": state.get("case", {}),
        **(_anew(state) if state.get("outcome") else {}),
    }
    came.note(context, "router")
    return came.joined(state, screened)


def _anew(state: State) -> dict[str, Any]:
    """The conversation stays; how the case ended, what its last run had done and spent, no longer counts."""
    return {
        "outcome": Overwrite(None),
        "answer": "",
        "handovers": Overwrite([]),
        "succeeded": Overwrite([]),  # as with every message; in the Studio none stands behind a second run
        "missteps": 0,
        "spent_before": state.get("spent", {}),
    }


async def screen_output(state: State, context: Context) -> dict[str, Any]:
    """Clean the final answer."""
    answer = content.clean(state["messages"][-1].text).strip()
    context.journal.note("output.screened", characters=len(answer))
    return {"answer": answer}
