"""Forms from JSON Schemas: one simple input per property, and back from what was typed to JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from casework.approval import JsonSchema
from casework.errors import InputInvalid

LONG_CHARS = 160
"""Text that may be longer gets a text area."""


@dataclass(frozen=True)
class FormField:
    """One input."""

    name: str
    """Dotted path: the property's, below the form's prefix."""
    label: str
    help: str
    kind: str
    """text, long, number, choice or json."""
    value: str
    required: bool
    choices: list[str] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)
    """HTML attributes that let the browser check it first."""


def fields_of(schema: JsonSchema, values: Mapping[str, Any], prefix: str) -> list[FormField]:
    """The inputs of an object schema, filled with its present values."""
    return list(_fields(schema, schema, values, prefix))


def read(schema: JsonSchema, form: Mapping[str, str], prefix: str) -> dict[str, Any]:
    """What was typed, as the schema's JSON. Raises InputInvalid for what is no number or no JSON.

    Only the shape is made here; whoever takes the value checks it against the schema.
    """
    return _read(schema, schema, form, prefix)


def _fields(root: JsonSchema, schema: JsonSchema, values: Mapping[str, Any], prefix: str) -> Iterator[FormField]:
    required = schema.get("required", [])
    for name, raw in schema.get("properties", {}).items():
        inner = _resolved(root, raw)
        path = f"{prefix}.{name}"
        value = values.get(name)
        if _nested(inner):
            yield from _fields(root, inner, value if isinstance(value, Mapping) else {}, path)
        else:
            yield _field(path, inner, value, name in required)


def _field(path: str, schema: JsonSchema, value: Any, required: bool) -> FormField:
    kind = _kind(schema, value)
    return FormField(
        name=path,
        label=path.partition(".")[2],
        help=schema.get("description", ""),
        kind=kind,
        value=_shown(value, kind),
        required=required,
        choices=_choices(schema),
        attributes=_attributes(schema, kind),
    )


def _read(root: JsonSchema, schema: JsonSchema, form: Mapping[str, str], prefix: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    required = schema.get("required", [])
    for name, raw in schema.get("properties", {}).items():
        inner = _resolved(root, raw)
        path = f"{prefix}.{name}"
        if _nested(inner):
            values[name] = _read(root, inner, form, path)
            continue
        typed = form.get(path, "").replace("\r\n", "\n")
        if typed or name in required:
            values[name] = _value(path, inner, typed)
    return values


def _value(path: str, schema: JsonSchema, typed: str) -> Any:
    kind = _kind(schema, typed)
    try:
        if kind == "json" or (kind == "choice" and schema.get("type") != "string"):
            return json.loads(typed)
        if kind == "number":
            return int(typed) if schema["type"] == "integer" else float(typed)
    except ValueError as error:
        what = {"number": "a whole number" if schema.get("type") == "integer" else "a number"}.get(kind, "JSON")
        raise InputInvalid(f"{path}: write {what}", field=path) from error
    return typed


def _resolved(root: JsonSchema, schema: JsonSchema) -> JsonSchema:
    """Without references, and without the null of an optional property; descriptions nearest the property win."""
    options = [option for option in schema.get("anyOf", []) if option.get("type") != "null"]
    target = schema.get("$ref")
    if isinstance(target, str) and target.startswith("#/$defs/"):
        found = root.get("$defs", {}).get(target.removeprefix("#/$defs/"), {})
    elif len(options) == 1:
        found = options[0]
    else:
        return schema
    own = {name: value for name, value in schema.items() if name not in ("$ref", "anyOf")}
    return _resolved(root, found) | own


def _nested(schema: JsonSchema) -> bool:
    return schema.get("type") == "object" and bool(schema.get("properties"))


def _kind(schema: JsonSchema, value: Any) -> str:
    match schema.get("type"):
        case _ if _choices(schema):
            return "choice"
        case "integer" | "number":
            return "number"
        case "string":
            long = schema.get("maxLength", 0) > LONG_CHARS or len(str(value or "")) > LONG_CHARS or "\n" in str(value)
            return "long" if long else "text"
    return "json"


def _choices(schema: JsonSchema) -> list[str]:
    if schema.get("type") == "boolean":
        return ["true", "false"]
    known = [schema["const"]] if "const" in schema else schema.get("enum", [])
    return [choice if isinstance(choice, str) else json.dumps(choice) for choice in known]


def _shown(value: Any, kind: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and kind != "json":
        return value
    return json.dumps(value, ensure_ascii=False, indent=2 if kind == "json" else None)


def _attributes(schema: JsonSchema, kind: str) -> dict[str, str]:
    names = {
        "text": {"minLength": "minlength", "maxLength": "maxlength", "pattern": "pattern"},
        "long": {"minLength": "minlength", "maxLength": "maxlength"},
        "number": {"minimum": "min", "maximum": "max"},
    }.get(kind, {})
    found = {html: str(schema[name]) for name, html in names.items() if name in schema}
    if kind == "number":
        found["step"] = "1" if schema["type"] == "integer" else "any"
    return found
