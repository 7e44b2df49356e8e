"""The template environment, and a page made with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request

from casework.approval import REJECT_CODES
from server.ui import text

environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    finalize=text.visible,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
environment.filters.update(
    verbatim=text.verbatim,
    brief=text.brief,
    plain=text.plain,
    sentence=text.sentence,
    usd=text.usd,
    amount=text.amount,
    zipped=lambda values: [(value, value) for value in values],
    exact=text.exact,
    duration=text.duration,
)
environment.globals.update(ago=text.ago, reject_codes=REJECT_CODES)


def by_htmx(request: Request) -> bool:
    """Whether a script of ours asks for a part of a page."""
    return "hx-request" in request.headers


def render(name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A template as an answer."""
    return HTMLResponse(environment.get_template(name).render(values), status)
