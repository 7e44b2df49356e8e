"""Webhooks over HTTP: made and changed by admins, shown without their secrets, never seen by another tenant."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import uuid4

import httpx
import jsonschema
import pytest
from sqlalchemy import text
from standardwebhooks import Webhook as Verifier

from casework.execution import Mode
from casework.outbox import FactType
from casework.webhooks import MOST
from tests.receivers import Reply, office_of, receiving
from tests.rig import OLGA
from tests.web import DAMAGED, STRANGER, Web

URL = "https://93.184.216.34/hooks?token=in-the-address"
NEW = {"url": URL, "types": ["execution.created", "execution.finished"]}


async def added(web: Web, **more: Any) -> dict[str, Any]:
    """The answer to a new webhook."""
    response = await web.call("amy", "POST", "/webhooks", json={**NEW, **more})
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()
    return made


async def tell(web: Web) -> None:
    await web.service.store.create(OLGA, "support", "v1", Mode.COPILOT, {})


async def pages(web: Web, webhook_id: str, limit: int, **query: Any) -> list[dict[str, Any]]:
    """All deliveries, page by page."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = await web.get(f"/webhooks/{webhook_id}/deliveries", "amy", params={"limit": limit, **query, **cursor})
        assert len(page["deliveries"]) <= limit
        found += page["deliveries"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


async def test_a_webhook_is_made_with_a_secret_that_is_shown_once_and_kept_nowhere(web: Web) -> None:
    made = await added(web)
    secret = made["secret"]
    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    Verifier(secret)
    webhook = made["webhook"]
    assert {name: webhook[name] for name in ("url", "types", "enabled", "off_because", "created_by")} == {
        **NEW,
        "enabled": True,
        "off_because": None,
        "created_by": "amy",
    }
    assert await web.get(f"/webhooks/{webhook['webhook_id']}", "amy") == webhook
    assert await web.get("/webhooks", "amy") == {"webhooks": [webhook]}
    async with web.service.resources.engine.connect() as db:
        rows = [str(row) for row in await db.execute(text("SELECT w::text FROM casework.webhooks w"))]
        audited = list(await db.scalars(text("SELECT body FROM casework.audit WHERE body LIKE '%webhook.add%'")))
    for kept in (*rows, *audited):
        assert secret.removeprefix("whsec_") not in kept
    (line,) = audited
    assert "93.184.216.34" in line
    assert "in-the-address" not in line


async def test_two_webhooks_never_have_the_same_secret(web: Web) -> None:
    secrets = [(await added(web))["secret"] for _ in range(2)]
    webhook_id = (await added(web))["webhook"]["webhook_id"]
    for _ in range(2):
        rotated = await web.call("amy", "POST", f"/webhooks/{webhook_id}/rotate")
        assert rotated.json()["webhook"]["old_until"] is not None
        secrets.append(rotated.json()["secret"])
    assert len(set(secrets)) == 4


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "url"),
        ({"url": "http://93.184.216.34/", "types": ["execution.created"]}, "url"),
        ({"url": "https://user:pw@93.184.216.34/", "types": ["execution.created"]}, "url"),
        ({"url": "https://127.0.0.1/", "types": ["execution.created"]}, "url"),
        ({"url": "https://169.254.169.254/latest/meta-data", "types": ["execution.created"]}, "url"),
        ({"url": "https://no-such-name.invalid/", "types": ["execution.created"]}, "url"),
        ({"url": "https://93.184.216.34/\ud800", "types": ["execution.created"]}, "url"),
        ({"url": "https://93.184.216.34/\x00", "types": ["execution.created"]}, "url"),
        ({"url": "https://93.184.216.34/" + "x" * 2000, "types": ["execution.created"]}, "url"),
        ({"url": 7, "types": ["execution.created"]}, "url"),
        ({"url": URL}, "types"),
        ({"url": URL, "types": []}, "types"),
        ({"url": URL, "types": ["webhook.test"]}, "types.0"),
        ({"url": URL, "types": ["*"]}, "types.0"),
        ({**NEW, "secret": "mine"}, "secret"),
    ],
)
async def test_what_is_wrong_with_a_new_webhook_is_told_by_its_field_and_nothing_is_kept(
    web: Web, body: dict[str, Any], field: str
) -> None:
    written = json.dumps(body)  # in ASCII, as half a character can only be written
    response = await web.call("amy", "POST", "/webhooks", content=written, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["field"]) == (422, field), response.text
    assert await web.get("/webhooks", "amy") == {"webhooks": []}


async def test_a_change_is_of_what_it_names_and_a_wrong_one_changes_nothing(web: Web) -> None:
    webhook = (await added(web, types=["execution.created", "execution.created"]))["webhook"]
    assert webhook["types"] == ["execution.created"]
    path = f"/webhooks/{webhook['webhook_id']}"
    for wrong, field in (
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"types": []}, "types"),
        ({"enabled": "perhaps"}, "enabled"),
        ({"tenant": "elsewhere"}, "tenant"),
    ):
        refused = await web.call("amy", "PATCH", path, json=wrong)
        assert (refused.status_code, refused.json()["field"]) == (422, field)
    assert await web.get(path, "amy") == webhook
    new = {"url": "https://8.8.8.8/hook", "types": ["approval.requested"]}
    changed = (await web.call("amy", "PATCH", path, json=new)).json()
    assert changed == {**webhook, **new, "updated_at": changed["updated_at"]}
    off = (await web.call("amy", "PATCH", path, json={"enabled": False})).json()
    assert (off["enabled"], off["off_because"]) == (False, None)
    refused = await web.call("amy", "POST", f"{path}/test")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    on = (await web.call("amy", "PATCH", path, json={"enabled": True})).json()
    assert on["enabled"]


async def test_a_deleted_webhook_is_gone_with_its_messages(web: Web) -> None:
    webhook_id = (await added(web))["webhook"]["webhook_id"]
    await tell(web)
    assert (await web.call("amy", "DELETE", f"/webhooks/{webhook_id}")).status_code == 204
    assert (await web.call("amy", "DELETE", f"/webhooks/{webhook_id}")).status_code == 404
    async with web.service.resources.engine.connect() as db:
        assert await db.scalar(text("SELECT count(*) FROM casework.deliveries")) == 0


async def test_a_tenant_has_so_many_webhooks_and_no_more(web: Web) -> None:
    for _ in range(MOST):
        await added(web)
    refused = await web.call("amy", "POST", "/webhooks", json=NEW)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert (await web.call(STRANGER, "POST", "/webhooks", json=NEW)).status_code == 201


async def test_deliveries_come_in_pages_newest_first_and_by_their_state(web: Web) -> None:
    webhook_id = (await added(web))["webhook"]["webhook_id"]
    for _ in range(7):
        await tell(web)
    found = await pages(web, webhook_id, limit=3)
    assert len({delivery["delivery_id"] for delivery in found}) == 7
    assert found == sorted(found, key=lambda delivery: delivery["created_at"], reverse=True)
    assert [(d["state"], d["attempts"], d["type"]) for d in found] == [("pending", 0, "execution.created")] * 7
    assert await pages(web, webhook_id, limit=3, state="failed") == []
    assert len(await pages(web, webhook_id, limit=3, state="pending")) == 7


async def test_a_test_message_arrives_and_a_failed_one_is_sent_again_by_hand(web: Web) -> None:
    office = office_of(web.service)
    async with receiving() as receiver, office.sender().running():
        receiver.replies.append(Reply(410))
        webhook, secret = await office.add(receiver.url)
        path = f"/webhooks/{webhook.webhook_id}"
        queued = await web.call("amy", "POST", f"{path}/test")
        assert (queued.status_code, queued.json()["type"], queued.json()["state"]) == (202, "webhook.test", "pending")
        (got,) = await receiver.received(1)
        assert got.verified(secret)["data"] == {"webhook_id": str(webhook.webhook_id), "path": path}
        await office.attempted(webhook, 1)
        assert (await web.get(path, "amy"))["off_because"] == "the receiver answered 410 Gone"
        await web.call("amy", "PATCH", path, json={"enabled": True})
        again = await web.call("amy", "POST", f"{path}/deliveries/{queued.json()['delivery_id']}/retry")
        assert (again.status_code, again.json()["state"]) == (202, "pending")
        got = (await receiver.received(2))[1]
        assert got.message_id == queued.json()["delivery_id"]
        (delivery,) = (await web.get(f"{path}/deliveries", "amy"))["deliveries"] or [None]
        assert delivery["attempts"] == 2


async def test_another_tenants_webhook_looks_exactly_like_a_missing_one(web: Web) -> None:
    webhook_id = (await added(web))["webhook"]["webhook_id"]
    await tell(web)
    ((delivery),) = await pages(web, webhook_id, limit=9)
    for method, path, how in (
        ("GET", "", {}),
        ("PATCH", "", {"json": {"enabled": False}}),
        ("DELETE", "", {}),
        ("POST", "/rotate", {}),
        ("POST", "/test", {}),
        ("GET", "/deliveries", {}),
        ("POST", f"/deliveries/{delivery['delivery_id']}/retry", {}),
    ):
        answers: list[httpx.Response] = []
        for which in (webhook_id, missing := str(uuid4())):
            headers = {"X-Request-Id": "same"}
            answers.append(await web.call(STRANGER, method, f"/webhooks/{which}{path}", headers=headers, **how))
        foreign, absent = answers
        assert foreign.status_code == 404
        assert foreign.text == absent.text.replace(missing, webhook_id), path
    assert (await web.get("/webhooks", STRANGER)) == {"webhooks": []}
    assert (await web.get(f"/webhooks/{webhook_id}", "amy"))["enabled"]


async def test_a_delivery_is_found_under_its_own_webhook_only(web: Web) -> None:
    mine, other = [(await added(web))["webhook"]["webhook_id"] for _ in range(2)]
    await tell(web)
    ((delivery),) = await pages(web, mine, limit=9)
    path = f"/webhooks/{other}/deliveries/{delivery['delivery_id']}/retry"
    assert (await web.call("amy", "POST", path)).status_code == 404


async def test_messages_are_as_the_api_describes_them(web: Web) -> None:
    document = web.app.openapi()
    assert list(document["webhooks"]) == list(FactType)
    assert set(document["components"]["schemas"]["FactType"]["enum"]) == set(FactType)
    office = office_of(web.service)
    async with receiving() as receiver, office.sender().running():
        await office.add(receiver.url)
        approval = await web.approval(DAMAGED)
        await web.call("olga", "POST", f"/executions/{approval['execution_id']}/cancel")
        told = [json.loads(got.body) for got in await receiver.received(5)]
    assert sorted(message["type"] for message in told) == [
        "approval.requested",
        "approval.superseded",
        "execution.created",
        "execution.finished",
        "execution.waiting",
    ]
    for message in told:
        content = document["webhooks"][message["type"]]["post"]["requestBody"]["content"]["application/json"]
        jsonschema.validate(message, {**content["schema"], "components": document["components"]})
        described = await web.get(message["data"]["path"], "amy")
        assert described["execution_id"] == message["data"]["execution_id"]
