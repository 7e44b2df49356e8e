"""Managing people: over the API, at the desk and from the terminal, with an audit line for each act."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import text

from casework import audit
from casework.actor import SYSTEM, Role
from casework.errors import InputInvalid
from casework.money import amount, amounts, minor_of
from server.cli import _limits
from tests.web import Web

BAD: list[tuple[dict[str, Any], str]] = [
    ({"actor_id": "", "roles": ["operator"]}, "actor_id"),
    ({"actor_id": "a/b", "roles": ["operator"]}, "actor_id"),
    ({"actor_id": "system", "roles": ["operator"]}, "actor_id"),
    ({"actor_id": "\u202eana", "roles": ["operator"]}, "actor_id"),
    ({"actor_id": "zoe", "roles": []}, "roles"),
    ({"actor_id": "zoe", "roles": ["king"]}, "roles.0"),
    ({"actor_id": "zoe", "roles": ["service", "approver"]}, "roles"),
    ({"actor_id": "zoe", "roles": ["approver"], "limits": {"euro": 1}}, "limits.euro"),
    ({"actor_id": "zoe", "roles": ["approver"], "limits": {"EUR": -1}}, "limits.EUR"),
    ({"actor_id": "zoe", "roles": ["approver"], "limits": {"EUR": 1.5}}, "limits.EUR"),
    ({"actor_id": "zoe", "roles": ["approver"], "limits": {"EUR": 10**16}}, "limits.EUR"),
    ({"actor_id": "zoe", "roles": ["approver"], "password": "x"}, "password"),
]


async def test_what_is_wrong_is_named_and_nobody_is_added(web: Web) -> None:
    before = await web.get("/people", "amy")
    for body, field in BAD:
        refused = await web.call("amy", "POST", "/people", json=body)
        assert refused.status_code == 422, refused.text
        assert refused.json()["field"].startswith(field), refused.text
    taken = await web.call("amy", "POST", "/people", json={"actor_id": "ada", "roles": ["operator"]})
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    assert await web.get("/people", "amy") == before


async def test_somebody_comes_changes_and_leaves_and_each_act_is_on_record(web: Web) -> None:
    seen = len((await web.get("/audit?limit=1000", "ivy"))["lines"])
    new = {"actor_id": "nora", "roles": ["approver"], "limits": {"EUR": 500_00}}
    added = (await web.call("amy", "POST", "/people", json=new)).json()
    assert (added["roles"], added["limits"], added["has_password"]) == (["approver"], {"EUR": 500_00}, False)
    link = await web.call("amy", "POST", "/people/nora/invitation")
    assert link.status_code == 201
    assert (await web.get("/people/nora", "ivy"))["invited_until"] == link.json()["expires_at"]
    changed = await web.call("amy", "PATCH", "/people/nora", json={"limits": {}})
    assert (changed.json()["roles"], changed.json()["limits"]) == (["approver"], {})
    gone = (await web.call("amy", "PATCH", "/people/nora", json={"disabled": True})).json()
    assert gone["disabled_at"] is not None
    assert gone["invited_until"] is None
    assert (
        await web.call("amy", "PATCH", "/people/nora", json={"disabled": True})
    ).json() == gone  # and no second line
    refused = await web.call("amy", "POST", "/people/nora/invitation")
    assert (refused.status_code, "is disabled" in refused.json()["detail"]) == (422, True)
    lines = (await web.get("/audit?limit=1000", "ivy"))["lines"][seen:]
    assert [line["body"] for line in lines] == [
        {"act": "person.add", "by": "amy", "actor": "nora", "roles": ["approver"], "limits": {"EUR": 500_00}},
        {"act": "person.invite", "by": "amy", "actor": "nora"},
        {
            "act": "person.change",
            "by": "amy",
            "actor": "nora",
            "before": {"limits": {"EUR": 500_00}},
            "after": {"limits": {}},
        },
        {"act": "person.disable", "by": "amy", "actor": "nora"},
    ]
    async with web.service.resources.engine.connect() as db:
        assert (await audit.verify(db)).bad_line is None


async def test_nobody_changes_their_own_rights(web: Web) -> None:
    """Neither does an admin make themselves an approver, nor lock the last one out."""
    for change in ({"roles": ["admin", "approver"]}, {"limits": {"EUR": 1}}, {"disabled": True}):
        refused = await web.call("amy", "PATCH", "/people/amy", json=change)
        assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    async with web.browser("amy") as amy:
        page = await amy.post("/desk/people/amy", data={"roles": ["admin", "approver"]})
        assert (page.status_code, "Nobody changes their own rights" in page.text) == (403, True)
        assert 'action="/desk/people/amy"' not in (await amy.get("/desk/people/amy")).text
    assert (await web.get("/people/amy", "ivy"))["roles"] == ["admin"]


async def test_the_desk_does_the_same_by_form(web: Web) -> None:
    async with web.browser("amy") as amy, web.browser("ivy") as ivy:
        form = {"name": "nora", "roles": ["approver", "operator"], "currency": ["eur", ""], "amount": ["1,500.50", ""]}
        added = await amy.post("/desk/people", data=form)
        assert (added.status_code, added.headers["location"]) == (303, "/desk/people/nora")
        assert (await web.get("/people/nora", "ivy"))["limits"] == {"EUR": 1_500_50}
        for wrong, says in (
            ({"name": "a b"}, "A name has up to 64 letters"),
            ({"name": "zoe", "amount": ["lots", ""]}, "is no amount"),
            ({"name": "zoe", "amount": ["1.234", ""]}, "is no amount"),
            ({"name": "zoe", "currency": ["euros", ""]}, "is no currency"),
            ({"name": "zoe", "roles": []}, "Name at least one role"),
            ({"name": "nora"}, "There is somebody called nora already"),
        ):
            refused = await amy.post("/desk/people", data={**form, **wrong})
            assert (refused.status_code, says in refused.text) in ((422, True), (409, True)), refused.text
            assert f'value="{wrong["name"]}"' in refused.text  # what was typed is still there
        link = await amy.post("/desk/people/nora/invitation")
        assert "http://desk.test/welcome?token=" in link.text
        assert (await amy.post("/desk/people/nora/disable")).headers["location"] == "/desk/people/nora"
        assert "disabled" in (await ivy.get("/desk/people/nora")).text
        readonly = (await ivy.get("/desk/people")).text + (await ivy.get("/desk/people/ada")).text
        assert "10,000.00 EUR" in readonly
        assert readonly.count("<form") == 2  # signing out, on each
        assert (await amy.post("/desk/people/nora/enable")).status_code == 303
        assert (await web.get("/people/nora", "ivy"))["disabled_at"] is None


async def test_the_audit_log_is_read_in_pages(web: Web) -> None:
    first = await web.get("/audit?limit=2", "ivy")
    second = await web.get(f"/audit?limit=1000&after={first['next_after']}", "ivy")
    lines = first["lines"] + second["lines"]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    for one, next_ in pairwise(lines):
        assert next_["prev"] == one["hash"]


async def test_a_service_gets_no_password(web: Web) -> None:
    with pytest.raises(InputInvalid, match="a service has no password"):
        await web.service.people.invite(SYSTEM, "bot")
    with pytest.raises(InputInvalid, match="a service has no password"):
        await web.service.people.set_password(SYSTEM, "bot", "a long walk by the sea")
    with pytest.raises(InputInvalid, match="no other role"):
        await web.service.identity.add_key("default", "mix", {Role.SERVICE, Role.APPROVER}, by=SYSTEM)
    async with web.service.resources.engine.connect() as db:
        assert await db.scalar(text("SELECT count(*) FROM casework.actors WHERE actor_id = 'mix'")) == 0


@pytest.mark.parametrize(
    ("written", "currency", "minor"),
    [
        ("500", "EUR", 500_00),
        ("1,649.5", "EUR", 1_649_50),
        ("0.01", "EUR", 1),
        ("5000", "JPY", 5000),
        ("1.234", "KWD", 1234),
    ],
)
def test_money_is_read_by_its_currency(written: str, currency: str, minor: int) -> None:
    assert minor_of(written, currency) == minor
    assert minor_of(amount(minor, currency).split()[0], currency) == minor
    assert _limits([f"{written} {currency}"]) == {currency: minor}


@pytest.mark.parametrize("written", ["", "-5", "5.", "1,5", "1.234", "5e3", "٥", "1,2345", "9" * 20])
def test_what_is_no_amount_is_refused(written: str) -> None:
    with pytest.raises(InputInvalid):
        minor_of(written, "EUR")
    with pytest.raises(InputInvalid):
        _limits([f"{written} EUR"])


def test_money_is_written_by_its_currency() -> None:
    assert amounts({"USD": 5, "EUR": 1_234_567_89}) == "1,234,567.89 EUR and 0.05 USD"
    assert amount(-5000, "JPY") == "-5,000 JPY"
    assert amounts({}) == ""
