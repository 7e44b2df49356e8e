"""Starting an execution: the workflow's own intake is validated and its case opened before anything is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from casework.actor import Actor
from casework.errors import InputInvalid
from casework.execution import Execution, Mode
from casework.resources import Resources
from casework.store import Store
from graphs.catalog import Catalog, Entry
from nodes.workflow import OpenedCase


async def start(
    store: Store,
    catalog: Catalog,
    resources: Resources,
    actor: Actor,
    workflow: str,
    input_: Mapping[str, Any],
    idempotency_key: str | None = None,
    mode: Mode | None = None,
) -> tuple[Execution, bool]:
    """Accept an execution. Returns it, and whether it is new.

    `mode`: None is the workflow's own; a caller may ask for a more careful one, never for a freer one.
    Raises NotFound (no such workflow, or the input names what is not there), InputInvalid, IdempotencyKeyReused.
    """
    entry = catalog.get(workflow)
    own = resources.settings.mode(workflow)
    if mode is Mode.AUTONOMOUS and own is Mode.COPILOT:
        raise InputInvalid(f"workflow {workflow} runs in copilot mode; ask for that, or for no mode", field="mode")
    opened = await _open(entry, resources, input_)
    return await store.create(actor, workflow, entry.version, mode or own, opened, idempotency_key)


async def _open(entry: Entry, resources: Resources, input_: Mapping[str, Any]) -> Mapping[str, Any]:
    """The graph's input. A foreign graph takes what it is given."""
    if entry.workflow is None:
        return input_
    try:
        intake = entry.workflow.intake.model_validate(dict(input_))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["input", *map(str, first["loc"])])
        raise InputInvalid(f"{field}: {first['msg']}", field=field) from error
    async with resources.engine.connect() as db:
        opened = await entry.workflow.open_case(intake, db)
    return OpenedCase.model_validate(opened).model_dump(mode="json")
