"""The web application as its callers see it: one client per person, each with their own key."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from argon2 import PasswordHasher
from fastapi import FastAPI
from sqlalchemy import insert, update

from casework.actor import SYSTEM, Role
from casework.tables import actors, passwords
from server.app import create_app
from server.jobs import Worker
from server.service import Service
from tests.conftest import PLENTY
from tools.shop.payments_client import Patience

URL = "http://desk.test"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
"""What a browser says about a form of our own page."""

PASSWORD = "a long walk by the sea"
HASHED = PasswordHasher().hash(PASSWORD)
"""Everybody's; hashed once, because hashing is meant to take long."""

PEOPLE: dict[str, frozenset[Role]] = {
    "olga": frozenset({Role.OPERATOR}),
    "ada": frozenset({Role.APPROVER}),
    "ben": frozenset({Role.APPROVER}),
    "amy": frozenset({Role.ADMIN}),
    "ivy": frozenset({Role.AUDITOR}),
    "bot": frozenset({Role.SERVICE}),
}
STRANGER = "mallory"
"""Holds every human role, in another tenant."""

DAMAGED = {"ticket_id": "T-1005", "user_id": "C-1005"}
"""A double charge of 129.00 EUR: one person must approve its refund."""
DEAR = {"ticket_id": "T-1013", "user_id": "C-1013"}
"""649.00 EUR: two people must."""
LEGAL = {"ticket_id": "T-1009", "user_id": "C-1009"}
"""Escalates at once."""


@dataclass
class Web:
    """The application and everybody's way into it."""

    app: FastAPI
    service: Service
    keys: dict[str, str]
    worker: Worker
    """Works only inside `async with web.worker.running()`."""

    def client(self, who: str | None = None) -> httpx.AsyncClient:
        """A client with this person's key; None: without any."""
        headers = {"Authorization": f"Bearer {self.keys[who]}"} if who else {}
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=URL, headers=headers)

    async def call(self, who: str | None, method: str, path: str, **how: Any) -> httpx.Response:
        async with self.client(who) as client:
            return await client.request(method, path, **how)

    async def get(self, path: str, who: str = "ada", **how: Any) -> Any:
        """The JSON of a request that must succeed."""
        response = await self.call(who, "GET", path, **how)
        assert response.status_code == 200, response.text
        return response.json()

    async def run(self, case: dict[str, str], who: str = "olga", mode: str | None = None) -> dict[str, Any]:
        """Start a case and work it until it waits or is over. Returns the execution."""
        async with self.worker.running():
            response = await self.call(
                who,
                "POST",
                "/workflows/support/executions",
                json={"input": case, "mode": mode},
                headers={"Prefer": "wait=30"},
            )
        assert response.status_code == 201, response.text
        execution: dict[str, Any] = response.json()
        return execution

    async def rested(self, execution_id: str) -> dict[str, Any]:
        """The execution once it waits or is over; a worker must be at work."""
        async with self.client("olga") as client:
            for _ in range(200):
                execution: dict[str, Any] = (await client.get(f"/executions/{execution_id}")).json()
                if execution["status"] not in ("queued", "running"):
                    return execution
                await asyncio.sleep(0.05)
        raise AssertionError(f"it did not come to rest: {execution}")

    async def approval(self, case: dict[str, str], mode: str | None = None) -> dict[str, Any]:
        """Run a case to its approval, which must be the only one."""
        execution = await self.run(case, mode=mode)
        (approval,) = (await self.get(f"/approvals?execution_id={execution['execution_id']}"))["approvals"]
        found: dict[str, Any] = approval
        return found

    async def doubt(self, fault: str) -> dict[str, Any]:
        """Run a case to the question whether its refund happened: `500`, it did not; `drop`, it did."""
        approval = await self.approval(DAMAGED)
        await self.decide("ada", approval, "approve")
        provider = str(self.service.resources.settings.payments_url)
        async with httpx.AsyncClient(base_url=provider, trust_env=False) as client:
            every_try = {"kind": fault, "count": Patience().tries}
            (await client.post("/sandbox/faults", json=every_try)).raise_for_status()
        async with self.worker.running():
            await self.rested(approval["execution_id"])
        (asked,) = (await self.get(f"/approvals?execution_id={approval['execution_id']}"))["approvals"]
        found: dict[str, Any] = asked
        return found

    async def decide(self, who: str, approval: dict[str, Any], type_: str, **more: Any) -> httpx.Response:
        body = {"type": type_, "digest": approval["digest"], **more}
        return await self.call(who, "POST", f"/approvals/{approval['approval_id']}/decision", json=body)

    @asynccontextmanager
    async def browser(self, who: str) -> AsyncIterator[httpx.AsyncClient]:
        """A browser that is signed in."""
        async with self.client() as client:
            form = {"name": who if who in PEOPLE else f"elsewhere/{who}", "password": PASSWORD}
            response = await client.post("/sign-in", data=form, headers=SAME_ORIGIN)
            assert response.status_code == 303, response.text
            client.headers.update(SAME_ORIGIN)
            yield client


async def open_web(service: Service) -> Web:
    """The application on an open service, with a key for everybody."""
    keys = {name: await service.identity.add_key("default", name, roles, by=SYSTEM) for name, roles in PEOPLE.items()}
    human = frozenset(Role) - {Role.SERVICE}
    keys[STRANGER] = await service.identity.add_key("elsewhere", STRANGER, human, by=SYSTEM)
    await _let_in(service)
    return Web(create_app(service), service, keys, service.worker())


async def _let_in(service: Service) -> None:
    """Passwords for the people, and limits for the stranger."""
    names = [("default", name) for name, roles in PEOPLE.items() if Role.SERVICE not in roles]
    rows = [{"tenant": tenant, "actor_id": name, "hash": HASHED} for tenant, name in [*names, ("elsewhere", STRANGER)]]
    async with service.resources.engine.begin() as db:
        await db.execute(insert(passwords), rows)
        await db.execute(update(actors).where(actors.c.actor_id == STRANGER).values(limits=PLENTY))


def key_id(key: str) -> str:
    """The public half of a key."""
    found = re.fullmatch("cw_([0-9a-f]+)_.+", key)
    assert found is not None
    return found[1]
