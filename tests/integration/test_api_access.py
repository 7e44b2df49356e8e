"""Who may do what: every route against every role and key scope, and tenants that never see each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute

from casework.actor import SYSTEM, KeyScope
from casework.errors import SettingsInvalid
from server.auth import PUBLIC, Person, Starter, refuse_undeclared
from server.ui.errors import is_page
from tests.web import DAMAGED, PEOPLE, SAME_ORIGIN, STRANGER, Web, key_id

MISSING = {
    "workflow": "support",
    "way": "resolve",
    "execution_id": str(uuid4()),
    "approval_id": str(uuid4()),
    "webhook_id": str(uuid4()),
    "delivery_id": str(uuid4()),
    "actor_id": "nobody",
    "key_id": "0" * 12,
}
DECISION = {"type": "approve", "digest": "0" * 64}
PICKED = f"{MISSING['approval_id']}:{DECISION['digest']}"
READ, WRITE, DECIDE = KeyScope.EXECUTIONS_READ, KeyScope.EXECUTIONS_WRITE, KeyScope.APPROVALS_DECIDE
AUDIT, ADMIN = KeyScope.AUDIT_READ, KeyScope.ADMIN

ALL = {"olga", "ada", "ben", "amy", "ivy", "bot"}
STARTERS = {"olga", "amy", "bot"}
PERSONS = ALL - {"bot"}
DECIDERS = PERSONS - {"ivy"}
INSPECTORS = {"amy", "ivy"}
ADMINS = {"amy"}
NO_KEY: set[str] = set()
"""For people who are signed in; no key opens it."""


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    """As the application declares it."""
    allowed: set[str]
    """Who of PEOPLE, each with a key."""
    scope: KeyScope | None
    """What a key must be for; None: no key opens it."""
    how: dict[str, Any] = field(default_factory=dict)
    query: str = ""

    def filled(self, **names: str) -> str:
        return (self.path + self.query).format(**{**MISSING, **names})


E, A, P, K = "/executions/{execution_id}", "/approvals/{approval_id}", "/people/{actor_id}", "/keys/{key_id}"
H = "/webhooks/{webhook_id}"
ROUTES = [
    Route("POST", "/workflows/support/executions", STARTERS, WRITE, {"json": {"input": DAMAGED}}),
    Route("POST", "/workflows/support/resolve", STARTERS, WRITE, {"json": DAMAGED}),
    Route("GET", "/workflows", ALL, READ),
    Route("GET", "/workflows/{workflow}", ALL, READ),
    Route("GET", "/executions", ALL, READ),
    Route("GET", E, ALL, READ),
    Route("GET", f"{E}/events", ALL, READ),
    Route("POST", f"{E}/cancel", STARTERS, WRITE),
    Route("POST", f"{E}/messages", STARTERS, WRITE, {"json": {"text": "Hello?"}}),
    Route("GET", f"{E}/messages", ALL, READ),
    Route("GET", "/approvals", ALL, READ),
    Route("GET", A, ALL, READ),
    Route("POST", f"{A}/decision", DECIDERS, DECIDE, {"json": DECISION}),
    Route("GET", f"{A}/preview", ALL, READ),
    Route("GET", "/handed", ALL, READ),
    Route("POST", f"{E}/take-over", DECIDERS, DECIDE, {"json": {"reason": "Mine."}}),
    Route("POST", f"{E}/assign", DECIDERS, DECIDE),
    Route("POST", f"{E}/solve", DECIDERS, DECIDE, {"json": {"note": "Done."}}),
    Route("POST", f"{E}/hand-back", DECIDERS, DECIDE, {"json": {"instruction": "Go on."}}),
    Route("GET", "/people", INSPECTORS, AUDIT),
    Route("POST", "/people", ADMINS, ADMIN, {"json": {"actor_id": "zoe", "roles": ["operator"]}}),
    Route("GET", P, INSPECTORS, AUDIT),
    Route("PATCH", P, ADMINS, ADMIN, {"json": {"disabled": True}}),
    Route("POST", f"{P}/invitation", ADMINS, ADMIN),
    Route("GET", "/keys", INSPECTORS, AUDIT),
    Route("POST", "/keys", ADMINS, ADMIN, {"json": {"actor_id": "nobody"}}),
    Route("POST", f"{K}/rotate", ADMINS, ADMIN),
    Route("DELETE", K, ADMINS, ADMIN),
    Route("GET", "/audit", INSPECTORS, AUDIT),
    Route("POST", "/webhooks", ADMINS, ADMIN, {"json": {}}),
    Route("GET", "/webhooks", ADMINS, ADMIN),
    Route("GET", H, ADMINS, ADMIN),
    Route("PATCH", H, ADMINS, ADMIN, {"json": {}}),
    Route("DELETE", H, ADMINS, ADMIN),
    Route("POST", f"{H}/rotate", ADMINS, ADMIN),
    Route("POST", f"{H}/test", ADMINS, ADMIN),
    Route("GET", f"{H}/deliveries", ADMINS, ADMIN),
    Route("POST", f"{H}/deliveries/{{delivery_id}}/retry", ADMINS, ADMIN),
    Route("GET", "/", PERSONS, READ),
    Route("GET", "/desk/inbox", PERSONS, READ),
    Route("GET", "/desk/waiting", PERSONS, READ),
    Route("GET", "/desk/live", PERSONS, READ, query="?execution_id={execution_id}"),
    Route("GET", "/desk/cases", PERSONS, READ),
    Route("GET", "/desk/cases/rows", PERSONS, READ),
    Route("GET", "/desk/handed", PERSONS, READ),
    Route("GET", "/desk/handed/rows", PERSONS, READ),
    Route("GET", "/desk/workflows", PERSONS, READ),
    Route("GET", "/desk/workflows/{workflow}", PERSONS, READ),
    Route("GET", "/desk/numbers", PERSONS, READ),
    Route("GET", f"/desk{A}", PERSONS, READ),
    Route("GET", f"/desk{A}/card", PERSONS, READ),
    Route(
        "POST",
        "/desk/decisions",
        DECIDERS,
        DECIDE,
        {"data": {"pick": f"{MISSING['approval_id']}:{'0' * 64}", "type": "approve"}},
    ),
    Route("POST", f"/desk{E}/take-over", DECIDERS, DECIDE, {"data": {"text": "Mine."}}),
    Route("POST", f"/desk{E}/assign", DECIDERS, DECIDE),
    Route("POST", f"/desk{E}/solve", DECIDERS, DECIDE, {"data": {"text": "Done."}}),
    Route("POST", f"/desk{E}/hand-back", DECIDERS, DECIDE, {"data": {"text": "Go on."}}),
    Route("GET", f"/desk{E}", PERSONS, READ),
    Route("GET", f"/desk{E}/news", PERSONS, READ, query="?after=0&asked=x"),
    Route("POST", f"/desk{E}/cancel", STARTERS, WRITE),
    Route("POST", f"/desk{E}/messages", STARTERS, WRITE, {"data": {"text": "Hello?"}}),
    Route("POST", f"/desk{A}/decision", DECIDERS, DECIDE, {"data": DECISION}),
    Route("GET", "/desk/people", INSPECTORS, AUDIT),
    Route("POST", "/desk/people", ADMINS, ADMIN, {"data": {"name": "zac", "roles": "operator"}}),
    Route("GET", f"/desk{P}", INSPECTORS, AUDIT),
    Route("POST", f"/desk{P}", ADMINS, ADMIN, {"data": {"roles": "operator"}}),
    Route("POST", f"/desk{P}/disable", ADMINS, ADMIN),
    Route("POST", f"/desk{P}/enable", ADMINS, ADMIN),
    Route("POST", f"/desk{P}/invitation", ADMINS, ADMIN),
    Route("POST", f"/desk{P}/keys", ADMINS, ADMIN),
    Route("POST", f"/desk{K}/rotate", ADMINS, ADMIN),
    Route("POST", f"/desk{K}/revoke", ADMINS, ADMIN),
    Route("GET", "/desk/account", NO_KEY, None),
    Route("POST", "/desk/account/password", NO_KEY, None, {"data": {"old": "x", "password": "y", "again": "y"}}),
    Route("POST", "/desk/account/keys", NO_KEY, None),
    Route("POST", "/desk/account/keys/{key_id}/rotate", NO_KEY, None),
    Route("POST", "/desk/account/keys/{key_id}/revoke", NO_KEY, None),
]


def declared_in(routes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Method and path of every route; newer versions of FastAPI keep included routers as they are."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield from ((method, route.path) for method in route.methods)
        else:
            yield from declared_in(getattr(getattr(route, "original_router", None), "routes", ()))


def test_every_route_of_the_application_stands_in_the_table(web: Web) -> None:
    declared = set(declared_in(web.app.routes))
    tabled = {(route.method, route.path) for route in ROUTES}
    # Each workflow has its own two, and the catch-all answers for those that do not exist.
    started = {
        ("POST", f"/workflows/{w}/{way}")
        for w in ("support", "{workflow}")
        for way in ("executions", "resolve", "{way}")
    }
    assert {path for _, path in declared - tabled - started} == PUBLIC
    assert tabled <= declared
    assert {"/healthz", "/readyz", "/sign-in", "/sign-out", "/welcome", "/docs"} == PUBLIC


async def test_a_route_is_for_its_roles_only(web: Web) -> None:
    for route in ROUTES:
        answers = {who: await web.call(who, route.method, route.filled(), **route.how) for who in PEOPLE}
        statuses = {who: answer.status_code for who, answer in answers.items()}
        assert {who for who, status in statuses.items() if status != 403} == route.allowed, route
        assert not {500, 405} & set(statuses.values()), route


async def test_a_route_takes_keys_of_its_scope_only(web: Web) -> None:
    """amy's roles allow every scope; each of these keys is for one."""
    for scope in KeyScope:
        web.keys[scope] = await web.service.identity.add_key("default", "amy", by=SYSTEM, scopes=[scope])
    for route in ROUTES:
        if "amy" not in route.allowed:
            continue
        for scope in KeyScope:
            answer = await web.call(scope, route.method, route.filled(), **route.how)
            assert (answer.status_code != 403) == (scope == route.scope), (route, scope, answer.text)
            if scope != route.scope and not is_page(route.path):
                assert answer.json()["detail"] == f"this API key is not for {route.scope}"


async def test_no_route_is_open_to_nobody(web: Web) -> None:
    for route in ROUTES:
        response = await web.call(None, route.method, route.filled(), **route.how)
        assert response.status_code == (303 if is_page(route.path) else 401), route


async def test_an_auditor_changes_nothing(web: Web) -> None:
    """Whatever the table says: no request that could change something lets ivy in but for her own account."""
    async with web.browser("ivy") as ivy:
        for route in ROUTES:
            if route.method != "GET" and not route.path.startswith("/desk/account"):
                assert (await ivy.request(route.method, route.filled(), **route.how)).status_code == 403, route


def test_a_route_that_names_no_roles_is_refused_at_start() -> None:
    router = APIRouter()

    @router.get("/open-door")
    async def open_door() -> None: ...

    with pytest.raises(SettingsInvalid, match="/open-door names no roles"):
        refuse_undeclared(router)


def test_a_route_that_changes_things_for_readers_is_refused_at_start() -> None:
    router = APIRouter()

    @router.get("/look")
    async def look(actor: Person) -> None: ...

    @router.post("/touch")
    async def touch(actor: Starter) -> None: ...

    refuse_undeclared(router)

    @router.post("/scribble")
    async def scribble(actor: Person) -> None: ...

    with pytest.raises(SettingsInvalid, match="/scribble changes something"):
        refuse_undeclared(router)


async def test_a_wrong_key_is_a_401_that_says_how(web: Web) -> None:
    wrong = ["nonsense", "cw_000000000000_" + "x" * 43, web.keys["ada"] + "x", "cw__", "cw_\x00_x", ""]
    for header in [*(f"Bearer {key}" for key in wrong), "Basic b2xnYTpwdw==", "Bearer"]:
        response = await web.call(None, "GET", "/executions", headers={"Authorization": header})
        assert (response.status_code, response.json()["code"]) == (401, "not_signed_in")
        assert response.headers["www-authenticate"] == "Bearer"


async def test_another_tenants_things_look_exactly_like_missing_ones(web: Web) -> None:
    """mallory holds every human role and limit, elsewhere."""
    approval = await web.approval(DAMAGED)
    there = {
        "execution_id": approval["execution_id"],
        "approval_id": approval["approval_id"],
        "actor_id": "ada",
        "key_id": key_id(web.keys["bot"]),
    }
    decision = {"type": "approve", "digest": approval["digest"]}
    bodies: dict[str, dict[str, Any]] = {
        f"{A}/decision": {"json": decision},
        f"/desk{A}/decision": {"data": decision},
    }
    async with web.browser(STRANGER) as mallory:
        mallory.headers["X-Request-Id"] = "same"
        for route in ROUTES:
            (name,) = [n for n in there if f"{{{n}}}" in route.path] or [None]
            if name is None:
                continue
            how = bodies.get(route.path, route.how)
            foreign = await mallory.request(route.method, route.filled(**there), **how)
            missing = await mallory.request(route.method, route.filled(), **how)
            assert foreign.status_code == missing.status_code == 404, route
            assert foreign.text.replace(there[name], MISSING[name]) == missing.text
        for_ada = await mallory.post("/keys", json={"actor_id": "ada"})
        for_nobody = await mallory.post("/keys", json={"actor_id": "nobody"})
        assert for_ada.status_code == for_nobody.status_code == 404
        assert for_ada.text.replace("ada", "nobody") == for_nobody.text
        assert (await mallory.get("/executions")).json()["executions"] == []
        assert (await mallory.get("/approvals")).json()["approvals"] == []
        assert [p["actor_id"] for p in (await mallory.get("/people")).json()["people"]] == [STRANGER]
        assert {k["actor_id"] for k in (await mallory.get("/keys")).json()["keys"]} == {STRANGER}
        assert {line["body"]["by"] for line in (await mallory.get("/audit")).json()["lines"]} == {"system", STRANGER}
        assert "ada" not in (await mallory.get("/desk/people")).text
    assert (await web.get(f"/approvals/{there['approval_id']}"))["state"] == "pending"
    assert (await web.get("/executions", "bot"))["executions"]


async def test_a_session_takes_no_orders_from_another_site(web: Web) -> None:
    async with web.browser("olga") as browser:
        del browser.headers["Sec-Fetch-Site"]
        for headers, status in (
            ({"Sec-Fetch-Site": "cross-site", "Origin": "http://desk.test"}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Sec-Fetch-Site": "none"}, 403),
            ({"Origin": "http://evil.test"}, 403),
            ({"Origin": "null"}, 403),
            ({}, 403),
            ({"Origin": "http://desk.test"}, 202),
            (SAME_ORIGIN, 202),
        ):
            response = await browser.post("/workflows/support/executions", json={"input": DAMAGED}, headers=headers)
            assert response.status_code == status, headers
        assert len((await browser.get("/executions")).json()["executions"]) == 2


async def test_a_forged_session_is_nobody(web: Web) -> None:
    for cookie in ("", "x", "a.b.c", "é", "x" * 43, "x" * 5000, web.keys["amy"], key_id(web.keys["amy"])):
        headers = {"Cookie": b"casework_session=" + cookie.encode()}
        response = await web.call(None, "GET", "/executions", headers=headers)
        assert response.status_code == 401, cookie
