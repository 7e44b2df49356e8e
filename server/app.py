"""The web application: the API, the pages, and what every answer of theirs has in common."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from casework.database import DATABASE_AWAY
from casework.errors import CallerError, OperatorError
from casework.telemetry import logger
from server import (
    approvals,
    audit,
    executions,
    facts,
    handing,
    keys,
    messages,
    ops,
    people,
    starting,
    webhooks,
    workflows,
)
from server.auth import refuse_undeclared
from server.middleware import RequestEdge
from server.problems import Problem, as_json, headers_of, problem_of
from server.service import Service
from server.ui import (
    account,
    cases,
    deciding,
    handed,
    inbox,
    lists,
    live,
    numbers,
    reference,
    shell,
    signing_in,
    writing,
)
from server.ui import people as people_pages
from server.ui import workflows as workflow_pages
from server.ui.errors import error_page, is_page

log = logger(__name__)

STATIC = Path(__file__).parent / "ui" / "static"
VERSION = "0.1.0"

DESCRIPTION = """\
Casework runs business processes with AI agents, and keeps people in charge of what matters.

Start an **execution** of a workflow; wait for it with `Prefer: wait=N`, poll it, or follow its events live. What is
risky stops as an **approval**; a person answers it with a decision bound to the exact arguments they saw.

Send an API key as `Authorization: Bearer cw_…`. Every error is `application/problem+json` with a stable `code`,
and `field` when one field of the request is at fault. Repeat a start or a message safely with an `Idempotency-Key`.
"""

TAGS = [
    {"name": "executions", "description": "One case going through a workflow."},
    {"name": "approvals", "description": "Questions to people about one exact tool call, and their answers."},
    {"name": "handed to people", "description": "Cases that people have: take over, assign, solve, hand back."},
    {"name": "workflows", "description": "What can be started here."},
    {"name": "people", "description": "Who works here: roles, money limits, links to choose a password."},
    {"name": "keys", "description": "API keys: made, rotated with overlap, revoked."},
    {"name": "audit", "description": "Who did what: insert-only, hash-chained."},
    {"name": "webhooks", "description": "Who is told what happens, as it happens. For admins."},
    {"name": "operations", "description": "For load balancers and orchestrators. No key needed."},
]

EXPECTED_ERRORS = (CallerError, RequestValidationError, HTTPException, OperatorError, *DATABASE_AWAY)


def create_app(service: Service) -> FastAPI:
    """Serve an open service. Raises SettingsInvalid when a route does not say whom it is for."""
    app = FastAPI(
        title="Casework",
        description=DESCRIPTION,
        version=VERSION,
        openapi_tags=TAGS,
        webhooks=facts.router,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.state.service = service
    started = starting.router(service.catalog)
    api = (executions, messages, handing, approvals, workflows, webhooks, people, keys, audit, ops)
    desk = (inbox, deciding, cases, handed, writing, lists, workflow_pages, numbers, live, shell)
    pages = (*desk, signing_in, account, people_pages, reference)
    for router in (started, people_pages.keys_router, *(module.router for module in (*api, *pages))):
        refuse_undeclared(router)
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    for kind in EXPECTED_ERRORS:
        app.add_exception_handler(kind, answer_error)
    app.add_middleware(RequestEdge, answer=answer_error)
    app.openapi = partial(_openapi, app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


async def answer_error(request: Request, error: Exception) -> Response:
    """Any error as the answer: a page for a page's path, else problem+json."""
    problem = problem_of(error, request)
    if isinstance(error, OperatorError):
        log.error("request.not_set_up", error=error.message)
    elif isinstance(error, DATABASE_AWAY):
        log.warning("request.database_away", error=type(error).__name__)
    if is_page(request.url.path):
        return error_page(request, problem)
    return as_json(problem, headers_of(error))


def _operation_id(route: APIRoute) -> str:
    return route.name.replace("-", "_")


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the schema that every error answer refers to."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            webhooks=app.webhooks.routes,
            tags=app.openapi_tags,
            license_info=app.license_info,
        )
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = document["components"]["schemas"]
        schemas.update(problem.pop("$defs"))
        schemas["Problem"] = problem
        app.openapi_schema = document
    return app.openapi_schema
