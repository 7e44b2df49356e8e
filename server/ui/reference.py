"""The API's reference at /docs, rendered from the OpenAPI document: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from markupsafe import Markup, escape

from server.ui.rendering import render

router = APIRouter(include_in_schema=False)

REF = "#/components/schemas/"
CODE, BOLD = re.compile(r"`([^`]+)`"), re.compile(r"\*\*([^*]+)\*\*")
WRAP = re.compile(r"(?<!\n)\n(?!\n)")
EXAMPLE_DEPTH = 4
"""How far an example follows nested schemas."""


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    summary: str
    description: str
    tag: str
    parameters: list[Mapping[str, Any]]
    bodies: list[tuple[str, str]]
    """What the body may look like: a few words, and JSON."""
    responses: list[tuple[str, str]]
    """Status, and what it means."""
    answer: str
    """The usual answer's shape, as JSON; empty when it has none."""


@router.get("/docs")
async def reference(request: Request) -> Response:
    document = request.app.openapi()
    operations = list(_operations(document))
    return render(
        "reference.html",
        actor=None,
        document=document,
        prose=prose,
        groups=[(tag, [o for o in operations if o.tag == tag["name"]]) for tag in document["tags"]],
    )


def prose(text: str) -> Markup:
    """The little Markdown that our own descriptions use: code, bold, and lines that only wrap."""
    coded = CODE.sub(r"<code>\1</code>", WRAP.sub(" ", str(escape(text))))
    return Markup(BOLD.sub(r"<b>\1</b>", coded))  # escaped above


def _operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    schemas = document["components"]["schemas"]
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            yield Operation(
                method=method.upper(),
                path=path,
                summary=told["summary"],
                description=told.get("description", ""),
                tag=told["tags"][0],
                parameters=told.get("parameters", []),
                bodies=_bodies(told.get("requestBody", {}), schemas),
                responses=[(status, answer["description"]) for status, answer in sorted(told["responses"].items())],
                answer=_answer(told["responses"], schemas),
            )


def _bodies(body: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[tuple[str, str]]:
    content = body.get("content", {}).get("application/json")
    if content is None:
        return []
    named = content.get("examples", {}).values()
    if named:
        return [(example["summary"], _json(example["value"])) for example in named]
    return [("", _json(_example(content["schema"], schemas)))]


def _answer(responses: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    for status in sorted(responses):
        content = responses[status].get("content", {}).get("application/json", {})
        if status.startswith("2") and "schema" in content:
            return _json(_example(content["schema"], schemas))
    return ""


def _example(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int = 0) -> Any:
    """A value of the schema's shape: its own example where it has one, else its type's name."""
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].removeprefix(REF)], schemas, depth)
    if schema.get("examples"):
        return schema["examples"][0]
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return _example(options[0], schemas, depth)
    if schema.get("properties") and depth < EXAMPLE_DEPTH:
        return {name: _example(inner, schemas, depth + 1) for name, inner in schema["properties"].items()}
    if schema.get("type") == "array":
        return [_example(schema.get("items", {}), schemas, depth + 1)]
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    return {} if schema.get("type") == "object" else schema.get("format") or schema.get("type", "any")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
