"""What every answer of the API has in common: ids, headers, limits, errors, and a document a stranger can use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from html import unescape
from typing import Any, cast

import jsonschema
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from casework.store import Store
from server.app import create_app
from tests.web import DAMAGED, Web

PROBLEM = "application/problem+json"


async def test_the_process_is_alive_and_ready_without_a_key(web: Web) -> None:
    assert (await web.call(None, "GET", "/healthz")).json() == {"status": "alive"}
    assert (await web.call(None, "GET", "/readyz")).json() == {"status": "ready"}


async def test_an_unknown_path_and_a_wrong_method_are_problems_too(web: Web) -> None:
    missing = await web.call("ada", "GET", "/nothing/here")
    assert (missing.status_code, missing.headers["content-type"], missing.json()["code"]) == (
        404,
        PROBLEM,
        "no_such_path",
    )
    wrong = await web.call("ada", "DELETE", "/executions")
    assert (wrong.status_code, wrong.json()["code"], wrong.headers["allow"]) == (405, "method_not_allowed", "GET")


async def test_a_request_id_is_kept_when_it_is_harmless(web: Web) -> None:
    for given, kept in (("crm-4711", True), ("bad id\nwith a line", False), ("x" * 101, False), ("", False)):
        response = await web.call(None, "GET", "/executions", headers={"X-Request-Id": given})
        assert (response.headers["x-request-id"] == given) is kept
        assert response.json()["request_id"] == response.headers["x-request-id"]


async def test_every_answer_carries_the_security_headers(web: Web) -> None:
    for path in ("/healthz", "/executions", "/nothing", "/sign-in", "/static/desk.css"):
        headers = (await web.call(None, "GET", path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


async def test_a_body_above_the_limit_is_refused_announced_or_not(web: Web) -> None:
    big = b'{"input": "' + b"x" * 300_000 + b'"}'

    async def unannounced() -> AsyncIterator[bytes]:
        for at in range(0, len(big), 50_000):
            yield big[at : at + 50_000]

    for content in (big, unannounced()):
        response = await web.call(
            "olga",
            "POST",
            "/workflows/support/executions",
            content=content,
            headers={"Content-Type": "application/json"},
        )
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert (await web.get("/executions"))["executions"] == []


async def test_an_unexpected_error_tells_nothing_but_its_request_id(web: Web) -> None:
    class Broken:
        async def page(self, *_: object, **__: object) -> None:
            raise RuntimeError("the secret is 1234")

    web.app = create_app(replace(web.service, store=cast(Store, Broken())))
    response = await web.call("ada", "GET", "/executions")
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "1234" not in response.text
    assert response.json()["request_id"] == response.headers["x-request-id"]
    page = await web.call("ada", "GET", "/")
    assert (page.status_code, page.headers["content-type"]) == (500, "text/html; charset=utf-8")
    assert "1234" not in page.text


@pytest.fixture
def away(web: Web, postgres_url: str, database_url: str) -> Iterator[None]:
    """The database is gone, for everybody, until the test is over."""
    name = make_url(database_url).database or ""
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        yield
        server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))


@pytest.mark.usefixtures("away")
async def test_a_database_that_is_away_is_a_503_that_says_when_to_come_back(web: Web) -> None:
    for method, path, how in (
        ("GET", "/executions", {}),
        ("POST", "/workflows/support/resolve", {"json": DAMAGED}),
    ):
        response = await web.call("olga", method, path, **how)
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert int(response.headers["retry-after"]) > 0
    assert (await web.call("olga", "GET", "/")).status_code == 503
    ready = await web.call(None, "GET", "/readyz")
    assert (ready.status_code, ready.json()["code"]) == (503, "not_ready")
    assert "does not answer" in ready.json()["detail"]
    assert (await web.call(None, "GET", "/healthz")).status_code == 200


async def test_an_old_or_empty_database_is_not_ready(web: Web, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as db:
        db.execute("UPDATE casework.alembic_version SET version_num = '0001'")
        assert "older than this version" in (await web.call(None, "GET", "/readyz")).json()["detail"]
        db.execute("UPDATE casework.alembic_version SET version_num = '9999'")
        assert (await web.call(None, "GET", "/readyz")).status_code == 200
        db.execute("DROP TABLE casework.alembic_version")
        assert "never migrated" in (await web.call(None, "GET", "/readyz")).json()["detail"]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


async def test_the_openapi_document_is_whole(web: Web) -> None:
    document = (await web.call(None, "GET", "/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert {ref.rpartition("/")[2] for ref in references(document)} <= set(schemas)
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids)) == 40
    for path, _, operation in operations(document):
        assert operation["summary"]
        assert operation["tags"][0] in {tag["name"] for tag in document["tags"]}
        if path not in ("/healthz", "/readyz"):
            assert operation["security"] == [{"API key": []}]
            assert {"401", "403", "422", "503"} <= set(operation["responses"])
        for status, answer in operation["responses"].items():
            assert answer["description"]
            if status >= "400":
                assert list(answer["content"]) == [PROBLEM]
    assert document["components"]["securitySchemes"]["API key"]["scheme"] == "bearer"
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_the_documented_examples_fit_their_schemas(web: Web) -> None:
    document = (await web.call(None, "GET", "/openapi.json")).json()
    body = document["paths"]["/approvals/{approval_id}/decision"]["post"]["requestBody"]["content"]["application/json"]
    schema = {**body["schema"], "components": document["components"]}
    assert set(body["examples"]) == {
        *("approve", "edit", "reject", "respond"),
        *("happened", "did_not_happen", "stop"),
    }
    for example in body["examples"].values():
        jsonschema.validate(example["value"], schema)
    start = document["paths"]["/workflows/support/executions"]["post"]
    assert {p["name"] for p in start["parameters"]} == {"Idempotency-Key", "Prefer"}
    intake = document["components"]["schemas"]["SupportIntake"]
    assert set(intake["properties"]) == {"ticket_id", "user_id"}


async def test_the_reference_shows_every_operation(web: Web) -> None:
    document = (await web.call(None, "GET", "/openapi.json")).json()
    page = await web.call(None, "GET", "/docs")
    assert page.status_code == 200
    for path, method, operation in operations(document):
        assert f'id="{method.upper()}{path}"' in page.text
        assert operation["summary"] in unescape(page.text)


async def test_workflows_are_described(web: Web) -> None:
    (summary,) = await web.get("/workflows")
    assert (summary["name"], summary["owner"], summary["mode"]) == ("support", "customer-care", "autonomous")
    workflow = await web.get("/workflows/support")
    assert [s["name"] for s in workflow["specialists"]] == ["billing", "shipping", "general"]
    tools = {t["name"]: t for s in workflow["specialists"] for t in s["tools"]}
    assert (tools["issue_refund"]["effect"], tools["issue_refund"]["permission"]) == ("keyed", "refund:create")
    assert "handle_call" in workflow["graph"]
    assert set(workflow["input_schema"]["properties"]) == {"ticket_id", "user_id"}
    missing = await web.call("ada", "GET", "/workflows/nope")
    assert (missing.status_code, missing.json()["detail"]) == (404, "there is no workflow 'nope'; there are support")
