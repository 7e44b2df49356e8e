"""One approval as a person sees it: the exact call, what it would change, why it asks, and what may be answered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from casework.actor import Actor
from casework.approval import REJECT_CODES, Approval, ApprovalState, Decision, JsonSchema, RejectCode
from casework.errors import InputInvalid
from casework.execution import Execution
from casework.inbox import History, Similar
from casework.rights import barred, barred_from_yes, wanted
from graphs.catalog import Catalog, Entry
from server.problems import Problem
from server.service import Service
from server.ui.forms import FormField, fields_of, read
from server.ui.text import Row, rows_of
from tools.preview import Preview

TEXT: JsonSchema = {"type": "string", "minLength": 1, "maxLength": 2000}


@dataclass(frozen=True)
class Refusal:
    """An answer that was not taken."""

    problem: Problem
    typed: Mapping[str, str]
    """The form as it was sent, so that nothing must be typed twice."""


@dataclass(frozen=True)
class Context:
    """What stands around an open question."""

    preview: Preview | str | None
    """What would change; why that is not known; or None when the tool does not say."""
    similar: Similar | None
    """None for a question of a graph that was not built by our assembly."""
    history: History | None
    """None when the case names no customer."""


@dataclass(frozen=True)
class Card:
    approval: Approval
    rows: list[Row]
    """The exact arguments, in the order the tool declares them: the database keeps none."""
    bar: str | None
    """Why this person may decide nothing here; None when they may."""
    approve_bar: str | None
    """Why they may not say yes, whatever else they may; None when they may."""
    wanted: str
    """Who must agree: `an approver up to 500.00 EUR`."""
    edit: list[FormField] | None
    """Inputs for other arguments; None when these cannot be edited."""
    respond: list[FormField]
    """Inputs for an answer in the tool's place."""
    refusal: Refusal | None
    """The answer just given, when it was not taken."""
    context: Context | None = None
    """None once it is closed."""

    @property
    def open(self) -> bool:
        return self.approval.state is ApprovalState.PENDING

    @property
    def typed(self) -> Mapping[str, str]:
        """What to put back into the forms. Nothing when the arguments changed meanwhile: they must be read again."""
        if self.refusal is None or self.refusal.problem.code == "digest_stale":
            return {}
        return self.refusal.typed

    def takes(self, answer: str) -> bool:
        return self.open and self.bar is None and answer in self.approval.allowed


async def card_of(
    service: Service, actor: Actor, approval: Approval, execution: Execution, refusal: Refusal | None = None
) -> Card:
    """A card with what stands around its question, while it is open."""
    context = None
    if approval.state is ApprovalState.PENDING:
        context = Context(
            preview=await service.previewing.of(approval, execution),
            similar=await service.inbox.similar(approval) if approval.tool is not None else None,
            history=await service.inbox.history(execution),
        )
    return card(actor, approval, service.catalog, refusal, context)


def card(
    actor: Actor,
    approval: Approval,
    catalog: Catalog,
    refusal: Refusal | None = None,
    context: Context | None = None,
) -> Card:
    schema = args_schema(catalog, approval)
    edit = fields_of(schema, approval.args, "args") if schema is not None else None
    return Card(
        approval=approval,
        rows=_rows(approval, edit or []),
        bar=barred(actor, approval),
        approve_bar=_approve_bar(actor, approval),
        wanted=wanted(approval),
        edit=edit,
        respond=fields_of(_wrapped(approval), {}, "answer"),
        refusal=refusal,
        context=context,
    )


def decision_of(approval: Approval, catalog: Catalog, form: Mapping[str, str]) -> Decision:
    """The decision that a card's form holds. Raises InputInvalid."""
    answer: dict[str, Any] = {"type": form.get("type", ""), "digest": form.get("digest", "")}
    if answer["type"] == "edit":
        answer["args"] = read(args_schema(catalog, approval) or {}, form, "args")
    elif answer["type"] == "happened":
        answer["reference"] = form.get("reference", "").strip()
    elif answer["type"] == "reject":
        answer |= rejection_of(form)
    elif answer["type"] == "stop":
        answer["reason"] = form.get("reason", "").replace("\r\n", "\n").strip()
    elif answer["type"] == "respond":
        answer["message"] = _message(approval, form)
    try:
        return Decision.model_validate(answer)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][-1]) if first["loc"] else "type"
        raise InputInvalid(f"{field}: {first['msg']}", field=field) from error


def rejection_of(form: Mapping[str, str]) -> dict[str, Any]:
    """Why not: one of the short list, and words of the person's own. The list's words alone are enough but for `other`.

    Raises InputInvalid.
    """
    text = form.get("reason", "").replace("\r\n", "\n").strip()
    code = form.get("code", "")
    if not code:
        return {"reason": text}
    if code not in REJECT_CODES:
        raise InputInvalid("code: choose one of the list", field="code")
    known = RejectCode(code)
    if known is RejectCode.OTHER and not text:
        raise InputInvalid("reason: say in a few words why not", field="reason")
    said = REJECT_CODES[known]
    return {"code": code, "reason": text if known is RejectCode.OTHER else f"{said}: {text}" if text else said}


def args_schema(catalog: Catalog, approval: Approval) -> JsonSchema | None:
    """What the tool's arguments look like; None for another graph's question, or when the tool is gone by now."""
    entry = entry_of(catalog, approval.workflow)
    if entry is None or entry.workflow is None:
        return None
    for specialist in entry.workflow.specialists:
        for tool in specialist.tools:
            if (specialist.name, tool.name) == (approval.specialist, approval.tool):
                return tool.args.model_json_schema()
    return None


def entry_of(catalog: Catalog, workflow: str) -> Entry | None:
    """The workflow, if this process still has it: old cases outlive their workflows."""
    return next((entry for entry in catalog if entry.name == workflow), None)


def _rows(approval: Approval, edit: Sequence[FormField]) -> list[Row]:
    order = {field.label: i for i, field in enumerate(edit)}
    return sorted(rows_of(approval.args), key=lambda row: order.get(row.name, len(order)))


def _approve_bar(actor: Actor, approval: Approval) -> str | None:
    if actor.actor_id == approval.edited_by:
        return "You changed these arguments, so someone else must approve them."
    if actor.actor_id in approval.votes:
        return f"You have approved. {approval.votes_needed - len(approval.votes)} more must agree."
    bar = barred_from_yes(actor, approval)
    return f"You cannot approve this: {bar}." if bar is not None else None


def _wrapped(approval: Approval) -> JsonSchema:
    """A one-field object around what a response must look like."""
    schema = approval.response_schema or TEXT
    return {
        "type": "object",
        "properties": {"message": schema},
        "required": ["message"],
        "$defs": schema.get("$defs", {}),
    }


def _message(approval: Approval, form: Mapping[str, str]) -> Any:
    """Text for a tool's call. A question without a schema takes JSON, and what is no JSON as text."""
    message = read(_wrapped(approval), form, "answer")["message"]
    if approval.tool is not None or approval.response_schema is not None or not isinstance(message, str):
        return message
    try:
        return json.loads(message)
    except ValueError:
        return message
