"""What an execution starts with: the caller's input validated by the workflow's own intake, and its case opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from casework.errors import InputInvalid
from casework.execution import Mode
from casework.resources import Resources
from casework.settings import Settings
from graphs.catalog import Entry
from nodes.workflow import OpenedCase


async def open_case(entry: Entry, resources: Resources, input_: Mapping[str, Any]) -> Mapping[str, Any]:
    """The graph's input. A foreign graph takes what it is given.

    Raises InputInvalid, and NotFound when the input names what does not exist or is not the caller's.
    """
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


def mode_of(entry: Entry, settings: Settings, asked: Mode | None) -> Mode:
    """The workflow's own mode, or the more careful one a caller asked for. Raises InputInvalid for a freer one."""
    own = settings.mode(entry.name)
    if asked is Mode.AUTONOMOUS and own is Mode.COPILOT:
        raise InputInvalid(f"workflow {entry.name} runs in copilot mode; ask for that, or for no mode", field="mode")
    return asked or own
