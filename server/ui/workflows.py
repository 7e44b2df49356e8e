"""What can be started here, and who and what may act in it."""

from __future__ import annotations

from dataclasses import fields

from fastapi import APIRouter
from fastapi.responses import Response

from policies.limits import Limits
from server.auth import Live, Person
from server.ui.cases import picture_of
from server.ui.shell import page
from tools.spec import Effect, Tool

router = APIRouter(prefix="/desk/workflows", include_in_schema=False)

EFFECT_WORDS = {
    Effect.READ: "reads only",
    Effect.TRANSACTIONAL: "writes here, exactly once",
    Effect.KEYED: "acts outside, under a key",
    Effect.LOOKUP: "acts outside, can be looked up",
    Effect.AT_MOST_ONCE: "acts outside, never twice",
}


@router.get("")
async def workflows(service: Live, actor: Person) -> Response:
    modes = {entry.name: service.resources.settings.mode(entry.name) for entry in service.catalog}
    return await page(service, actor, "workflows.html", here="workflows", entries=list(service.catalog), modes=modes)


@router.get("/{workflow}")
async def workflow(service: Live, actor: Person, workflow: str) -> Response:
    entry = service.catalog.get(workflow)
    ours = entry.workflow
    return await page(
        service,
        actor,
        "workflow.html",
        here="workflows",
        entry=entry,
        mode=service.resources.settings.mode(entry.name),
        picture=picture_of(entry),
        limits={f.name: getattr(ours.limits, f.name) for f in fields(Limits)} if ours is not None else {},
        models={s.name: str(service.resources.settings.model_for(s.model_role)) for s in ours.specialists}
        if ours is not None
        else {},
        effect_words=EFFECT_WORDS,
        first_line=_first_line,
        policy_words=_policy_words,
    )


def _first_line(tool: Tool) -> str:
    return tool.description.partition("\n")[0]


def _policy_words(tool: Tool) -> str:
    """What the tool's own policy says of itself."""
    if tool.policy is None:
        return ""
    return (tool.policy.__doc__ or tool.policy.__name__).strip().partition("\n")[0]
