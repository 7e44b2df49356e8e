"""Signing in: with name and password, in a session that ends when it must; told alike whoever exists or not."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import PasswordHasher
from sqlalchemy import text

from casework.actor import SYSTEM, Role
from casework.errors import InputInvalid, NotSignedIn
from casework.passwords import Hasher, refuse_weak
from casework.sessions import TRIES_PER_NAME, WRONG
from casework.settings import Settings
from server import demo_people
from server.demo_people import DEMO_PEOPLE, shown_at_the_door
from tests.web import PASSWORD, SAME_ORIGIN, Web

OTHER = "quite another walk"


async def sign_in(client: httpx.AsyncClient, name: str, password: str = PASSWORD, **more: str) -> httpx.Response:
    form = {"name": name, "password": password, **more}
    return await client.post("/sign-in", data=form, headers=SAME_ORIGIN)


async def run(web: Web, statement: str) -> Any:
    async with web.service.resources.engine.begin() as db:
        done = await db.execute(text(statement))
        return done.all() if done.returns_rows else None


async def test_signing_in_leads_to_where_one_wanted_to_go_and_out_again(web: Web) -> None:
    async with web.client() as client:
        asked = await client.get("/desk/inbox")
        assert (asked.status_code, asked.headers["location"]) == (303, "/sign-in?next=/desk/inbox")
        signed = await sign_in(client, " ada ", next="/desk/inbox")
        assert (signed.status_code, signed.headers["location"]) == (303, "/desk/inbox")
        cookie = signed.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "Secure" not in cookie
        assert "Waiting for you" in (await client.get("/")).text
        token = client.cookies["casework_session"]
        out = await client.post("/sign-out", headers=SAME_ORIGIN)
        assert out.headers["location"] == "/sign-in"
        client.cookies.set("casework_session", token)  # kept by somebody
        assert (await client.get("/")).status_code == 303


async def test_the_cookie_is_secure_over_https(web: Web) -> None:
    async with web.client() as client:
        form = {"name": "ada", "password": PASSWORD}
        signed = await client.post("https://desk.test/sign-in", data=form, headers=SAME_ORIGIN)
        assert "Secure" in signed.headers["set-cookie"]


async def test_every_sign_in_that_fails_is_answered_alike(web: Web) -> None:
    await web.service.people.change(SYSTEM, "ben", disabled=True)
    await web.service.people.add(SYSTEM, "nora", {Role.OPERATOR}, {})  # has no password yet
    pages = set()
    async with web.client() as client:
        for name, password in (
            ("ada", OTHER),
            ("nobody", PASSWORD),
            ("ben", PASSWORD),
            ("nora", PASSWORD),
            ("bot", PASSWORD),
            ("elsewhere/ada", PASSWORD),
            ("ada\x00", OTHER),
            ("", ""),
            ("ada", ""),
            ("ada", web.keys["ada"]),
        ):
            refused = await sign_in(client, name, password)
            assert refused.status_code == 401
            assert WRONG in refused.text
            pages.add(re.sub(r'value="[^"]*"', "", refused.text))
        assert len(pages) == 2  # the empty name has the cursor, and nothing else differs
        assert not client.cookies


async def test_an_unknown_name_costs_the_same_work(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    verify = Hasher._verify
    monkeypatch.setattr(Hasher, "_verify", lambda self, *of: hashed.append(of[0]) or verify(self, *of))
    for name in ("ada", "nobody"):
        with pytest.raises(NotSignedIn):
            await web.service.sessions.sign_in("default", name, OTHER, "192.0.2.1")
    costs = [h.rsplit("$", 2)[0] for h in hashed]
    assert len(costs) == 2
    assert costs[0] == costs[1] == "$argon2id$v=19$m=65536,t=3,p=4"


async def test_signing_in_takes_no_orders_from_another_site_and_leads_to_none(web: Web) -> None:
    async with web.client() as client:
        form = {"name": "ada", "password": PASSWORD}
        for headers in ({"Origin": "http://evil.test"}, {"Sec-Fetch-Site": "cross-site"}, {}):
            assert (await client.post("/sign-in", data=form, headers=headers)).status_code == 403
            assert (await client.post("/welcome", data={"token": "x"}, headers=headers)).status_code == 403
        assert not client.cookies
        for away in ("//evil.test", "https://evil.test/", "/desk/\\evil.test", "/executions"):
            assert (await sign_in(client, "ada", next=away)).headers["location"] == "/"


async def test_too_many_tries_are_refused_by_name_and_by_address_whether_right_or_not(web: Web) -> None:
    sessions = web.service.sessions
    async with web.client() as client:
        for name in ("ada", "nobody"):
            for _ in range(TRIES_PER_NAME):
                assert (await sign_in(client, name, OTHER)).status_code == 401
            refused = await sign_in(client, name)  # for ada, the right one
            assert refused.status_code == 429
            assert 0 < int(refused.headers["retry-after"]) <= 900
            assert "Too many attempts to sign in. Try again in 15 minutes." in refused.text
        assert (await sign_in(client, "ben")).status_code == 303
        await run(web, "UPDATE casework.sign_in_tries SET since = since - interval '15 minutes'")
        assert (await sign_in(client, "ada")).status_code == 303
        for n in range(TRIES_PER_NAME + 1):  # a right one sets the name's count back
            assert (await sign_in(client, "ben", OTHER if n % 2 else PASSWORD)).status_code in (303, 401)
    await run(web, "UPDATE casework.sign_in_tries SET tries = 100")
    assert (await web.call(None, "GET", "/sign-in")).status_code == 200
    async with web.client() as client:
        assert (await sign_in(client, "olga")).status_code == 429  # from the same address
    assert await sessions.sign_in("default", "olga", PASSWORD, "2001:db8::1")


async def test_guesses_sent_at_once_are_counted_one_by_one(web: Web) -> None:
    async def guess(n: int) -> int:
        async with web.client() as client:
            return (await sign_in(client, "ada", f"{OTHER} {n}")).status_code

    answers = await asyncio.gather(*(guess(n) for n in range(3 * TRIES_PER_NAME)))
    assert answers.count(401) == TRIES_PER_NAME
    assert answers.count(429) == 2 * TRIES_PER_NAME


async def test_a_session_ends_idle_or_old_and_polling_does_not_keep_it(web: Web) -> None:
    async with web.browser("ada") as browser:
        away = "UPDATE casework.sessions SET seen_at = seen_at - interval '{}', started_at = started_at - interval '{}'"
        polling = {"Sec-Fetch-Mode": "cors", "HX-Request": "true"}
        await run(web, away.format("90 minutes", "0"))
        assert (await browser.get("/desk/inbox", headers=polling)).status_code == 200
        await run(web, away.format("31 minutes", "0"))
        assert (await browser.get("/desk/inbox", headers=polling)).headers["hx-redirect"] == "/sign-in"
        assert (await browser.get("/")).status_code == 303
    async with web.browser("ada") as browser:
        await run(web, away.format("90 minutes", "0"))
        assert (await browser.get("/", headers={"Sec-Fetch-Mode": "navigate"})).status_code == 200
        await run(web, away.format("90 minutes", "0"))
        assert (await browser.get("/")).status_code == 200
        await run(web, away.format("0", "13 hours"))
        assert (await browser.get("/")).status_code == 303
    async with web.browser("ada"):
        assert len(await run(web, "SELECT 1 FROM casework.sessions")) == 1  # the dead ones were cleared


async def test_the_database_holds_nothing_that_signs_anybody_in(web: Web) -> None:
    async with web.browser("ada") as browser:
        token = browser.cookies["casework_session"]
    invitation = await web.service.people.invite(SYSTEM, "ada")
    link = invitation.path.partition("=")[2]
    dump = ""
    for table in ("sessions", "passwords", "invitations", "sign_in_tries", "audit", "api_keys"):
        dump += "".join(str(row) for row in await run(web, f"SELECT t::text, t.* FROM casework.{table} t"))
    for secret in (token, link, PASSWORD, web.keys["ada"].split("_", 2)[2]):
        assert secret not in dump
        assert secret.encode().hex() not in dump


async def test_roles_are_those_of_now_and_disabling_ends_session_and_keys(web: Web) -> None:
    async with web.browser("olga") as browser:
        assert (await browser.get("/")).status_code == 200
        await web.service.people.change(SYSTEM, "olga", roles={Role.AUDITOR})
        assert (await browser.post("/workflows/support/executions", json={})).status_code == 403
        await web.service.people.change(SYSTEM, "olga", disabled=True)
        assert (await browser.get("/")).status_code == 303
        assert (await web.call("olga", "GET", "/executions")).status_code == 401
        await web.service.people.change(SYSTEM, "olga", disabled=False)
        assert (await browser.get("/")).status_code == 303
        assert (await web.call("olga", "GET", "/executions")).status_code == 401


async def test_a_new_password_ends_every_other_session(web: Web) -> None:
    async with web.browser("ada") as here, web.browser("ada") as there:
        form = {"old": PASSWORD, "password": OTHER, "again": OTHER}
        for wrong, says in (
            ({"old": OTHER}, "This is not your present password."),
            ({"again": PASSWORD}, "The two passwords are not the same."),
            ({"password": "short", "again": "short"}, "A password has 12 to 200 characters"),
            ({"password": "ADA is my name here", "again": "ADA is my name here"}, "easily guessed"),
        ):
            refused = await here.post("/desk/account/password", data={**form, **wrong})
            assert (refused.status_code, says in refused.text) == (422, True), refused.text
        assert (await there.get("/")).status_code == 200
        done = await here.post("/desk/account/password", data=form)
        assert (done.status_code, done.headers["location"]) == (303, "/desk/account")
        assert (await here.get("/")).status_code == 200
        assert (await there.get("/")).status_code == 303
        assert (await sign_in(there, "ada")).status_code == 401
        assert (await sign_in(there, "ada", OTHER)).status_code == 303


async def test_a_password_changed_while_the_old_one_is_checked_lets_nobody_in(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = web.service.sessions
    checked = sessions.check

    async def check_then_change(*who: str) -> str:
        hashed = await checked(*who)
        await web.service.people.set_password(SYSTEM, "ada", OTHER)
        return hashed

    monkeypatch.setattr(sessions, "check", check_then_change)
    with pytest.raises(NotSignedIn):
        await sessions.sign_in("default", "ada", PASSWORD, "192.0.2.1")
    assert await run(web, "SELECT 1 FROM casework.sessions") == []


async def test_a_link_sets_a_password_once_and_in_time(web: Web) -> None:
    await web.service.people.add(SYSTEM, "nora", {Role.APPROVER}, {})
    first = await web.service.people.invite(SYSTEM, "nora")
    second = await web.service.people.invite(SYSTEM, "nora")
    async with web.client() as client:
        assert (await client.get(first.path)).status_code == 404
        assert "Welcome, <bdi>nora</bdi>" in (await client.get(second.path)).text
        form = {"token": second.path.partition("=")[2], "password": OTHER, "again": OTHER}
        short = await client.post("/welcome", data={**form, "password": "x", "again": "x"}, headers=SAME_ORIGIN)
        assert (short.status_code, "12 to 200" in short.text) == (422, True)
        done = await client.post("/welcome", data=form, headers=SAME_ORIGIN)
        assert (done.status_code, done.headers["location"]) == (303, "/")
        assert (await client.get("/")).status_code == 200
        again = await client.post("/welcome", data=form, headers=SAME_ORIGIN)
        assert (again.status_code, "used already" in again.text) == (404, True)
        for token in ("", "x", "\x00", "x" * 199):
            assert (await client.get("/welcome", params={"token": token})).status_code == 404
        old = await web.service.people.invite(SYSTEM, "nora")
        await run(web, "UPDATE casework.invitations SET expires_at = now() - interval '1 second'")
        assert (await client.get(old.path)).status_code == 404
        gone = await web.service.people.invite(SYSTEM, "nora")
        await web.service.people.change(SYSTEM, "nora", disabled=True)
        assert (await client.get(gone.path)).status_code == 404


async def test_old_hashes_are_made_anew_with_todays_costs(web: Web) -> None:
    old = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    await run(web, f"UPDATE casework.passwords SET hash = '{old}' WHERE actor_id = 'ada'")
    async with web.browser("ada") as browser:
        assert (await browser.get("/")).status_code == 200
    ((kept,),) = await run(web, "SELECT hash FROM casework.passwords WHERE actor_id = 'ada'")
    assert "m=65536,t=3,p=4" in kept


def test_what_a_password_must_be() -> None:
    for weak in ("", "short", "x" * 201, "aaaaaaaaaaaaaaa", "Ada Lovelace 1815"):
        with pytest.raises(InputInvalid):
            refuse_weak(weak, "ada")
    refuse_weak("four words in a row", "ada")


async def test_the_same_characters_typed_differently_are_the_same_password() -> None:
    hasher = Hasher()
    hashed = await hasher.hash("cafe\u0301 au lait, cafe\u0301")
    assert await hasher.matches(hashed, "caf\u00e9 au lait, caf\u00e9")
    assert not await hasher.matches(hashed, "cafe au lait, cafe")
    assert not await hasher.matches(None, "nobody's password")


async def test_demo_passwords_stand_on_the_door_of_an_embedded_database_on_this_machine_only(
    web: Web, settings: Settings, tmp_path: Path
) -> None:
    made = await demo_people.demo_people(web.service, tmp_path)
    assert made.passwords.keys() == DEMO_PEOPLE.keys() - {"helpdesk", "ben"}  # ben was here before, with a password
    again = await demo_people.demo_people(web.service, tmp_path)
    assert again == made
    for kept in ("demo-keys.json", "demo-passwords.json"):
        assert (tmp_path / kept).stat().st_mode & 0o777 == 0o600
    embedded = settings.model_copy(update={"database_url": None})
    assert shown_at_the_door(embedded, "127.0.0.1") == made.passwords
    assert shown_at_the_door(embedded, "localhost") == made.passwords
    for unsafe, host in (
        (settings, "127.0.0.1"),
        (embedded.model_copy(update={"host": "0.0.0.0"}), "127.0.0.1"),
        (embedded, "evil.test"),
        (embedded, "192.0.2.7"),
        (embedded, None),
    ):
        assert shown_at_the_door(unsafe, host) == {}
    assert made.passwords["ana"] not in (await web.call(None, "GET", "/sign-in")).text
    await web.service.sessions.sign_in("default", "ana", made.passwords["ana"], "127.0.0.1")
    await web.service.people.set_password(SYSTEM, "ana", OTHER)
    await web.service.people.change(SYSTEM, "adam", disabled=True)
    later = await demo_people.demo_people(web.service, tmp_path)
    assert later.passwords.keys() == made.passwords.keys() - {"ana", "adam"}  # what ana chose is hers
    await web.service.sessions.sign_in("default", "ana", OTHER, "127.0.0.1")
