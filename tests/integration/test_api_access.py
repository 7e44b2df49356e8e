"""Who may do what: every route against every role, keys that are wrong, and tenants that never see each other."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest
from fastapi import APIRouter

from casework.actor import SYSTEM, Role
from casework.errors import SettingsInvalid
from server.auth import PUBLIC, refuse_undeclared
from server.ui.errors import is_page
from tests.web import DAMAGED, PEOPLE, SAME_ORIGIN, STRANGER, Web, key_id

ID = str(uuid4())
DECISION = {"type": "approve", "digest": "0" * 64}
ALL = {"olga", "ada", "ben", "amy", "bot"}
STARTERS = {"olga", "amy", "bot"}
PERSONS = ALL - {"bot"}
ADMINS = {"amy"}

ROUTES: list[tuple[str, str, dict[str, Any], set[str]]] = [
    ("POST", "/workflows/support/executions", {"json": {"input": DAMAGED}}, STARTERS),
    ("POST", "/workflows/support/resolve", {"json": DAMAGED}, STARTERS),
    ("POST", "/workflows/nope/resolve", {}, STARTERS),
    ("GET", "/workflows", {}, ALL),
    ("GET", "/workflows/support", {}, ALL),
    ("GET", "/executions", {}, ALL),
    ("GET", f"/executions/{ID}", {}, ALL),
    ("GET", f"/executions/{ID}/events", {}, ALL),
    ("POST", f"/executions/{ID}/cancel", {}, STARTERS),
    ("POST", f"/executions/{ID}/messages", {"json": {"text": "Hello?"}}, STARTERS),
    ("GET", f"/executions/{ID}/messages", {}, ALL),
    ("GET", "/approvals", {}, ALL),
    ("GET", f"/approvals/{ID}", {}, ALL),
    ("GET", f"/approvals/{ID}/preview", {}, ALL),
    ("GET", "/handed", {}, ALL),
    ("POST", f"/executions/{ID}/take-over", {"json": {"reason": "Mine."}}, PERSONS),
    ("POST", f"/executions/{ID}/assign", {}, PERSONS),
    ("POST", f"/executions/{ID}/solve", {"json": {"note": "Done."}}, PERSONS),
    ("POST", f"/executions/{ID}/hand-back", {"json": {"instruction": "Go on."}}, PERSONS),
    ("POST", f"/approvals/{ID}/decision", {"json": DECISION}, PERSONS),
    ("POST", "/webhooks", {"json": {}}, ADMINS),
    ("GET", "/webhooks", {}, ADMINS),
    ("GET", f"/webhooks/{ID}", {}, ADMINS),
    ("PATCH", f"/webhooks/{ID}", {"json": {}}, ADMINS),
    ("DELETE", f"/webhooks/{ID}", {}, ADMINS),
    ("POST", f"/webhooks/{ID}/rotate", {}, ADMINS),
    ("POST", f"/webhooks/{ID}/test", {}, ADMINS),
    ("GET", f"/webhooks/{ID}/deliveries", {}, ADMINS),
    ("POST", f"/webhooks/{ID}/deliveries/{ID}/retry", {}, ADMINS),
    ("GET", "/", {}, PERSONS),
    ("GET", "/desk/inbox", {}, PERSONS),
    ("GET", "/desk/waiting", {}, PERSONS),
    ("GET", f"/desk/live?execution_id={ID}", {}, PERSONS),
    ("GET", "/desk/cases", {}, PERSONS),
    ("GET", "/desk/cases/rows", {}, PERSONS),
    ("GET", "/desk/handed", {}, PERSONS),
    ("GET", "/desk/handed/rows", {}, PERSONS),
    ("GET", "/desk/workflows", {}, PERSONS),
    ("GET", "/desk/workflows/support", {}, PERSONS),
    ("GET", "/desk/numbers", {}, PERSONS),
    ("GET", f"/desk/approvals/{ID}", {}, PERSONS),
    ("GET", f"/desk/approvals/{ID}/card", {}, PERSONS),
    ("POST", "/desk/decisions", {"data": {"pick": f"{ID}:{'0' * 64}", "type": "approve"}}, PERSONS),
    ("POST", f"/desk/executions/{ID}/take-over", {"data": {"text": "Mine."}}, PERSONS),
    ("POST", f"/desk/executions/{ID}/assign", {}, PERSONS),
    ("POST", f"/desk/executions/{ID}/solve", {"data": {"text": "Done."}}, PERSONS),
    ("POST", f"/desk/executions/{ID}/hand-back", {"data": {"text": "Go on."}}, PERSONS),
    ("GET", f"/desk/executions/{ID}", {}, PERSONS),
    ("GET", f"/desk/executions/{ID}/news?after=0&asked=x", {}, PERSONS),
    ("POST", f"/desk/executions/{ID}/cancel", {}, STARTERS),
    ("POST", f"/desk/executions/{ID}/messages", {"data": {"text": "Hello?"}}, STARTERS),
    ("POST", f"/desk/approvals/{ID}/decision", {"data": DECISION}, PERSONS),
]


async def test_a_route_is_for_its_roles_only(web: Web) -> None:
    for method, path, how, allowed in ROUTES:
        answers = {who: (await web.call(who, method, path, **how)).status_code for who in PEOPLE}
        assert {who for who, status in answers.items() if status != 403} == allowed, (method, path)
        assert 500 not in answers.values()


async def test_no_route_is_open_to_nobody(web: Web) -> None:
    for method, path, how, _ in ROUTES:
        response = await web.call(None, method, path, **how)
        assert response.status_code == (303 if is_page(path) else 401), (method, path)


async def test_the_table_above_and_the_public_paths_are_all_there_is(web: Web) -> None:
    document = web.app.openapi()
    documented = {
        (m.upper(), re.sub(r"\{\w+_id\}", ID, p).replace("{workflow}", "support"))
        for p, methods in document["paths"].items()
        for m in methods
    }
    listed = {(m, p.partition("?")[0]) for m, p, _, _ in ROUTES}
    assert documented - listed == {("GET", "/healthz"), ("GET", "/readyz")}
    assert {"/healthz", "/readyz", "/sign-in", "/sign-out", "/docs"} == PUBLIC


def test_a_route_that_names_no_roles_is_refused_at_start() -> None:
    router = APIRouter()

    @router.get("/open-door")
    async def open_door() -> None: ...

    with pytest.raises(SettingsInvalid, match="/open-door names no roles"):
        refuse_undeclared(router)


async def test_a_wrong_key_is_a_401_that_says_how(web: Web) -> None:
    wrong = ["nonsense", "cw_000000000000_" + "x" * 43, web.keys["ada"] + "x", "cw__", "cw_\x00_x", ""]
    for header in [*(f"Bearer {key}" for key in wrong), "Basic b2xnYTpwdw==", "Bearer"]:
        response = await web.call(None, "GET", "/executions", headers={"Authorization": header})
        assert (response.status_code, response.json()["code"]) == (401, "not_signed_in")
        assert response.headers["www-authenticate"] == "Bearer"


async def test_a_revoked_key_ends_both_the_api_and_the_session(web: Web) -> None:
    async with web.browser("olga") as browser:
        assert (await browser.get("/")).status_code == 200
        await web.service.identity.revoke_key("default", key_id(web.keys["olga"]), by=SYSTEM)
        assert (await browser.get("/")).status_code == 303
    assert (await web.call("olga", "GET", "/executions")).status_code == 401


async def test_another_tenants_things_look_exactly_like_missing_ones(web: Web) -> None:
    approval = await web.approval(DAMAGED)
    execution_id, approval_id = approval["execution_id"], approval["approval_id"]
    decision = {"type": "approve", "digest": approval["digest"]}
    for method, path, how in (
        ("GET", "/executions/{}", {}),
        ("GET", "/executions/{}/events", {}),
        ("POST", "/executions/{}/cancel", {}),
        ("POST", "/executions/{}/messages", {"json": {"text": "Hello?"}}),
        ("GET", "/executions/{}/messages", {}),
        ("POST", "/desk/executions/{}/messages", {"data": {"text": "Hello?"}}),
        ("GET", "/desk/executions/{}", {}),
        ("GET", "/desk/executions/{}/news?after=0&asked=x", {}),
        ("GET", "/approvals/{}", {}),
        ("GET", "/approvals/{}/preview", {}),
        ("GET", "/desk/approvals/{}", {}),
        ("GET", "/desk/approvals/{}/card", {}),
        ("GET", "/desk/live?execution_id={}", {}),
        ("POST", "/executions/{}/take-over", {"json": {"reason": "Mine."}}),
        ("POST", "/executions/{}/assign", {}),
        ("POST", "/executions/{}/solve", {"json": {"note": "Done."}}),
        ("POST", "/executions/{}/hand-back", {"json": {"instruction": "Go on."}}),
        ("POST", "/desk/executions/{}/take-over", {"data": {"text": "Mine."}}),
        ("POST", "/desk/executions/{}/assign", {}),
        ("POST", "/approvals/{}/decision", {"json": decision}),
        ("POST", "/desk/approvals/{}/decision", {"data": decision}),
    ):
        there = approval_id if "approvals" in path else execution_id
        foreign = await web.call(STRANGER, method, path.format(there), headers={"X-Request-Id": "same"}, **how)
        missing = await web.call(STRANGER, method, path.format(ID), headers={"X-Request-Id": "same"}, **how)
        assert foreign.status_code == missing.status_code == 404, path
        assert foreign.text.replace(there, ID) == missing.text
    assert (await web.get("/executions", STRANGER))["executions"] == []
    assert (await web.get("/approvals", STRANGER))["approvals"] == []
    assert (await web.get("/handed", STRANGER))["executions"] == []
    assert (await web.get(f"/approvals/{approval_id}"))["state"] == "pending"


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
    key = key_id(web.keys["amy"])
    for cookie in ("", "x", "a.b.c", "a.1.b", "é.1.2", f"{key}.99999999999.00", f"{key}.².", f"{key}.{'9' * 5000}.x"):
        headers = {"Cookie": b"casework_session=" + cookie.encode()}
        response = await web.call(None, "GET", "/executions", headers=headers)
        assert response.status_code == 401, cookie


async def test_roles_are_those_of_now_not_of_the_sign_in(web: Web) -> None:
    async with web.browser("olga") as browser:
        await web.service.identity.add_key("default", "olga", {Role.SERVICE}, by=SYSTEM)
        assert (await browser.get("/")).status_code == 403
