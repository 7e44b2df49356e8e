"""API keys: for what they are made, for as long as they are meant, and never a way to act as somebody else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from casework.actor import SYSTEM, KeyScope, Role
from casework.errors import InputInvalid
from tests.web import DAMAGED, Web, key_id


async def made(web: Web, **body: Any) -> dict[str, Any]:
    response = await web.call("amy", "POST", "/keys", json={"actor_id": "bot", **body})
    assert response.status_code == 201, response.text
    key: dict[str, Any] = response.json()
    return key


async def status_with(web: Web, key: str, method: str = "GET", path: str = "/executions", **how: Any) -> int:
    web.keys["tried"] = key
    return (await web.call("tried", method, path, **how)).status_code


async def test_a_key_is_shown_once_and_says_when_it_was_used(web: Web) -> None:
    key = await made(web, scopes=["executions:read"], expires_in_days=30)
    assert key["key"].startswith(f"cw_{key['key_id']}_")
    assert (key["scopes"], key["live"], key["last_used_at"]) == (["executions:read"], True, None)
    lifetime = datetime.fromisoformat(key["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=29) < lifetime <= timedelta(days=30)
    assert await status_with(web, key["key"]) == 200
    assert await status_with(web, key["key"], "POST", "/workflows/support/resolve", json=DAMAGED) == 403
    listed = await web.call("ivy", "GET", "/keys?actor_id=bot")
    assert key["key"] not in listed.text
    assert "secret" not in listed.text
    (seen,) = [k for k in listed.json()["keys"] if k["key_id"] == key["key_id"]]
    assert seen["last_used_at"] is not None


async def test_a_scope_beyond_the_roles_is_refused(web: Web) -> None:
    for scopes, field in (
        (["approvals:decide"], "scopes"),
        (["executions:read", "admin"], "scopes"),
        ([], "scopes"),
        (["everything"], "scopes.0"),
    ):
        refused = await web.call("amy", "POST", "/keys", json={"actor_id": "bot", "scopes": scopes})
        assert (refused.status_code, refused.json()["field"]) == (422, field), refused.text
    with pytest.raises(InputInvalid, match="approvals:decide: beyond what the roles allow"):
        await web.service.identity.add_key("default", "bot", by=SYSTEM, scopes=[KeyScope.APPROVALS_DECIDE])


async def test_a_key_never_allows_more_than_the_roles_of_now(web: Web) -> None:
    key = await web.service.identity.add_key("default", "olga", by=SYSTEM, scopes=[KeyScope.EXECUTIONS_WRITE])
    start = {"json": {"input": DAMAGED}}
    assert await status_with(web, key, "POST", "/workflows/support/executions", **start) == 202
    await web.service.people.change(SYSTEM, "olga", roles={Role.APPROVER})
    assert await status_with(web, key, "POST", "/workflows/support/executions", **start) == 403


async def test_a_rotated_key_lives_on_for_the_overlap_and_no_longer(web: Web) -> None:
    old = await made(web, scopes=["executions:read"], expires_in_days=365)
    path = f"/keys/{old['key_id']}/rotate"
    new = (await web.call("amy", "POST", path, json={"overlap_hours": 2})).json()
    assert (new["scopes"], new["actor_id"]) == (old["scopes"], "bot")
    assert datetime.fromisoformat(new["expires_at"]) >= datetime.fromisoformat(old["expires_at"])
    assert [await status_with(web, key["key"]) for key in (old, new)] == [200, 200]
    (kept,) = [k for k in (await web.get("/keys", "ivy"))["keys"] if k["key_id"] == old["key_id"]]
    left = datetime.fromisoformat(kept["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=1, minutes=58) < left <= timedelta(hours=2)
    async with web.service.resources.engine.begin() as db:
        ended = "UPDATE casework.api_keys SET expires_at = now() WHERE key_id = :key"
        await db.execute(text(ended), {"key": old["key_id"]})
    assert [await status_with(web, key["key"]) for key in (old, new)] == [401, 200]
    assert (await web.call("amy", "POST", path)).status_code == 404  # it is no live key any more
    at_once = await web.call("amy", "POST", f"/keys/{new['key_id']}/rotate", json={"overlap_hours": 0})
    assert [await status_with(web, key) for key in (new["key"], at_once.json()["key"])] == [401, 200]
    for hours in (-1, 721, "x"):
        refused = await web.call("amy", "POST", path, json={"overlap_hours": hours})
        assert (refused.status_code, refused.json()["field"]) == (422, "overlap_hours")


async def test_rotating_never_lengthens_the_old_keys_life(web: Web) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    key = await web.service.identity.add_key("default", "bot", by=SYSTEM, expires_at=soon)
    await web.service.identity.rotate_key("default", key_id(key), by=SYSTEM, overlap=timedelta(days=1))
    assert (await web.service.identity.key("default", key_id(key))).expires_at == soon


async def test_an_admin_gets_no_key_of_a_person(web: Web) -> None:
    """Whoever holds somebody's key decides in their name."""
    for path, body in (
        ("/keys", {"actor_id": "ada"}),
        (f"/keys/{key_id(web.keys['ada'])}/rotate", {}),
    ):
        refused = await web.call("amy", "POST", path, json=body)
        assert (refused.status_code, "people make their own" in refused.json()["detail"]) == (403, True)
    made_service = await web.call("amy", "POST", "/people", json={"actor_id": "robot", "roles": ["service"]})
    assert made_service.status_code == 201
    await made(web, actor_id="robot")
    promoted = await web.call("amy", "PATCH", "/people/robot", json={"roles": ["approver"]})
    assert (promoted.status_code, promoted.json()["field"]) == (422, "roles")
    mixed = await web.call("amy", "PATCH", "/people/robot", json={"roles": ["approver", "service"]})
    assert (mixed.status_code, mixed.json()["field"]) == (422, "roles")


async def test_people_make_and_end_their_own_keys_at_the_desk(web: Web) -> None:
    async with web.browser("ada") as ada:
        page = await ada.post("/desk/account/keys", data={"scopes": ["executions:read"], "days": "7"})
        (key,) = [
            word
            for word in page.text.replace("<", " ").replace(">", " ").split()
            if word.startswith("cw_") and "…" not in word
        ]
        assert await status_with(web, key) == 200
        own = f"/desk/account/keys/{key_id(key)}"
        for what in ("rotate", "revoke"):
            others = await ada.post(f"/desk/account/keys/{key_id(web.keys['ben'])}/{what}")
            assert others.status_code == 404
        for form, says in (({"scopes": "admin"}, "beyond what the roles allow"), ({"days": "0"}, "whole number")):
            refused = await ada.post("/desk/account/keys", data=form)
            assert (refused.status_code, says in refused.text) == (422, True)
        assert "Copy this key now" in (await ada.post(f"{own}/rotate", data={"hours": "1"})).text
        assert (await ada.post(f"{own}/revoke")).status_code == 303
        assert await status_with(web, key) == 401
    assert await status_with(web, web.keys["ben"]) == 200


async def test_each_act_on_a_key_has_its_audit_line_without_the_secret(web: Web) -> None:
    before = len((await web.get("/audit?limit=1000", "ivy"))["lines"])
    key = await made(web)
    new = (await web.call("amy", "POST", f"/keys/{key['key_id']}/rotate")).json()
    await web.call("amy", "DELETE", f"/keys/{new['key_id']}")
    lines = (await web.get("/audit?limit=1000", "ivy"))["lines"][before:]
    assert [(line["body"]["act"], line["body"]["by"], line["body"]["key"]) for line in lines] == [
        ("key.add", "amy", key["key_id"]),
        ("key.rotate", "amy", key["key_id"]),
        ("key.revoke", "amy", new["key_id"]),
    ]
    assert not any(k["key"].split("_")[2] in str(lines) for k in (key, new))


async def test_a_body_that_is_no_text_is_named(web: Web) -> None:
    headers = {"Content-Type": "application/json"}
    refused = await web.call("amy", "POST", "/keys", content=b"\xf4\xd2\xb01s\x01", headers=headers)
    assert (refused.status_code, refused.json()["code"], refused.json()["field"]) == (422, "input_invalid", "body")
