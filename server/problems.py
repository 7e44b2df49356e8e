"""Every error as problem+json (RFC 9457): what went wrong, which field, and what would be right. Never a traceback."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request

from casework.database import DATABASE_AWAY
from casework.errors import CallerError, NotSignedIn, OperatorError

PROBLEM_JSON = "application/problem+json"
RETRY_AFTER_S = 2
"""When to come back while the database is away."""

CODES_BY_STATUS = {404: "no_such_path", 405: "method_not_allowed", 413: "body_too_large"}


class FieldProblem(BaseModel):
    """One thing that is wrong with the request."""

    field: str
    """Dotted path in the body, or the name of the parameter or header."""
    message: str


class Problem(BaseModel):
    """What every error answer holds."""

    type: Annotated[str, Field(examples=["urn:casework:problem:digest_stale"])]
    title: Annotated[str, Field(examples=["Conflict"])]
    status: Annotated[int, Field(examples=[409])]
    detail: Annotated[str, Field(description="For people: what is wrong and what to do next.")]
    code: Annotated[str, Field(description="For programs; stable.", examples=["digest_stale"])]
    field: Annotated[str | None, Field(description="The first request field at fault.")] = None
    errors: Annotated[list[FieldProblem] | None, Field(description="Every field at fault.")] = None
    request_id: Annotated[str, Field(description="Stands in our logs too; name it when you ask for help.")] = ""


def problem_of(error: Exception, request: Request) -> Problem:
    """What a caller is told about an error."""
    problem = _problem(error)
    return problem.model_copy(update={"request_id": getattr(request.state, "request_id", "")})


def headers_of(error: Exception) -> dict[str, str]:
    """Headers that belong to the answer."""
    if isinstance(error, NotSignedIn):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, HTTPException):
        return dict(error.headers or {})
    return {"Retry-After": str(RETRY_AFTER_S)} if isinstance(error, DATABASE_AWAY) else {}


def as_json(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer of an API route."""
    content = problem.model_dump(exclude_none=True)
    return JSONResponse(content, problem.status, headers=headers, media_type=PROBLEM_JSON)


def make(status: int, code: str, detail: str, field: str | None = None) -> Problem:
    """A problem with its type and title filled in."""
    title = HTTPStatus(status).phrase
    return Problem(
        type=f"urn:casework:problem:{code}", title=title, status=status, detail=detail, code=code, field=field
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route: which errors it may answer, for the OpenAPI document."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _MEANINGS[status], "content": {PROBLEM_JSON: {"schema": schema}}}
        for status in (401, 403, *statuses, 422, 503)
    }


_MEANINGS = {
    401: "No valid API key or session (`not_signed_in`).",
    403: "Your roles do not allow this (`not_allowed`).",
    404: "There is no such thing, or it is not yours to see (`not_found`).",
    409: "It conflicts with how things stand: `idempotency_key_reused`, `approval_decided`, `approval_expired`, "
    "`approval_superseded`, `digest_stale`, `execution_over`, `takes_no_messages`, `messages_unread` or `conflict`.",
    413: "The body is larger than 256 kB (`body_too_large`).",
    422: "The input is not valid (`input_invalid`); `field` names what to correct. Nothing was changed.",
    503: "The database is away (`unavailable`). Try again after `Retry-After` seconds.",
}


def _problem(error: Exception) -> Problem:
    match error:
        case CallerError():
            return make(error.status, error.code, error.message, error.field)
        case RequestValidationError():
            return _invalid(error.errors(), error.body)
        case HTTPException(status_code=400):  # FastAPI's word for a body that it cannot even decode
            return make(422, "input_invalid", "body: it must be JSON in UTF-8", "body")
        case HTTPException():
            code = CODES_BY_STATUS.get(error.status_code, "bad_request")
            return make(error.status_code, code, str(error.detail))
        case OperatorError():
            return make(500, "not_set_up", "The service cannot do this as it is set up. Tell whoever runs it.")
    if isinstance(error, DATABASE_AWAY):
        return make(503, "unavailable", "The database is away. Nothing was lost; try again in a moment.")
    return make(500, "internal_error", "Something went wrong on our side. It was logged under this request id.")


def _invalid(errors: Iterable[Mapping[str, Any]], body: Any) -> Problem:
    found = [_field_problem(error, body) for error in errors]
    first = found[0]
    problem = make(422, "input_invalid", f"{first.field}: {first.message}", first.field)
    return problem.model_copy(update={"errors": found})


def _field_problem(error: Mapping[str, Any], body: Any) -> FieldProblem:
    path, message = _path(error["loc"], body), error["msg"]
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):  # told of the body; meant is its `type`
        tag = error["ctx"]["discriminator"].strip("'")
        path = tag if path == "body" else f"{path}.{tag}"
        expected = error["ctx"].get("expected_tags")
        message = f"must be one of {expected}" if expected else "Field required"
    return FieldProblem(field=path, message=message)


def _path(loc: Sequence[str | int], body: Any) -> str:
    """Dotted path of a field, without pydantic's own steps (`body`, the chosen member of a union)."""
    where, *steps = loc
    if where != "body":
        return ".".join(map(str, steps))
    path: list[str] = []
    value = body
    for i, step in enumerate(steps):
        inside = isinstance(value, Mapping) and step in value
        inside = inside or (isinstance(value, list) and isinstance(step, int) and step < len(value))
        if inside:
            value = value[step]
        elif i < len(steps) - 1:
            continue
        path.append(str(step))
    return ".".join(path) or "body"
