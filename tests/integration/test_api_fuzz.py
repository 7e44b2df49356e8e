"""Every operation of the OpenAPI document, called with what its schemas allow and with what they do not, by everybody.

What is answered is what is documented: status, content type, schema. Nothing is a 5xx.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from casework.actor import SYSTEM, Role
from server.auth import PUBLIC
from server.up import listen, serving
from tests.web import DAMAGED, PEOPLE, STRANGER, Web, key_id

BOUNDED = settings(
    max_examples=4,
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[*HealthCheck],
)
AT_LENGTH = settings(BOUNDED, max_examples=25)
CONFIG = SchemathesisConfig.from_dict({"generation": {"allow-extra-parameters": False}})
"""An unknown query parameter is ignored, as everywhere on the web; it need not be refused."""
TAKES_ANYTHING = {"GET /workflows", "GET /workflows/{workflow}", "GET /healthz", "GET /readyz", "GET /keys"}
"""Nothing about a request for these can be wrong: no parameter, or any text."""
NOT_HELD = [positive_data_acceptance]
"""No schema says which cursor is one of ours, or which digest is the present one; 422 and 409 are right."""
PATIENCE_S = 20.0
"""For one answer; none of these waits for anything."""


@dataclass
class Open:
    """The service on a real socket, with a case that waits for a person and one that was cancelled."""

    url: str
    document: dict[str, Any]
    keys: dict[str, str]
    ids: dict[str, list[str]]
    """By the name of the path parameter: such as exist."""
    digest: str
    """Of the waiting case's question."""

    def operations(self) -> Iterator[APIOperation[Any, Any, Any, Any]]:
        schema = schemathesis.openapi.from_dict(self.document, config=CONFIG)
        for found in schema.get_all_operations():
            yield found.ok()

    def fuzz(self, who: str, how: settings) -> None:
        """Every operation, valid and not, as this person."""
        for operation in self.operations():
            self._fuzz(operation, GenerationMode.POSITIVE, who, how)
            if operation.label not in TAKES_ANYTHING:
                self._fuzz(operation, GenerationMode.NEGATIVE, who, how)

    def _fuzz(self, operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, who: str, how: settings) -> None:
        known = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in self.ids.items()})

        @how
        @given(case=operation.as_strategy(mode), ids=st.none() | known)
        def call(case: Case, ids: dict[str, str] | None) -> None:
            if mode is GenerationMode.POSITIVE and ids is not None:
                self._aim(case, ids)
            headers = {"Authorization": f"Bearer {self.keys[who]}", "Prefer": "wait=0"}
            case.call_and_validate(base_url=self.url, headers=headers, timeout=PATIENCE_S, excluded_checks=NOT_HELD)

        call()

    def _aim(self, case: Case, ids: dict[str, str]) -> None:
        """At what exists: made-up ids answer 404 and get no further."""
        for name in {*case.path_parameters} & {*ids}:
            case.path_parameters[name] = ids[name]
        if isinstance(case.body, dict) and "digest" in case.body:
            case.body["digest"] = self.digest


@pytest_asyncio.fixture
async def opened(web: Web) -> AsyncIterator[Open]:
    cancelled = await web.approval(DAMAGED)
    await web.call("olga", "POST", f"/executions/{cancelled['execution_id']}/cancel")
    asked = await web.approval(DAMAGED)
    ids = {name: [asked[name], cancelled[name]] for name in ("execution_id", "approval_id")}
    told = {"url": "https://93.184.215.14/told", "types": ["execution.finished"]}
    webhook_id = (await web.call("amy", "POST", "/webhooks", json=told)).json()["webhook"]["webhook_id"]
    test = (await web.call("amy", "POST", f"/webhooks/{webhook_id}/test")).json()  # nobody sends it: there is no worker
    ids |= {"webhook_id": [webhook_id], "delivery_id": [test["delivery_id"]]}
    spare = await web.service.identity.add_key("default", "spare", {Role.SERVICE}, by=SYSTEM)  # nobody fuzzes as them
    ids |= {"actor_id": ["spare", "nobody"], "key_id": [key_id(spare)]}
    with listen("127.0.0.1", 0) as listener:
        async with serving(web.service, listener, worker=False) as url:
            yield Open(url, web.app.openapi(), web.keys, ids, asked["digest"])


@pytest.mark.parametrize("who", [*PEOPLE, STRANGER])
async def test_what_is_answered_is_what_is_documented(opened: Open, who: str) -> None:
    await asyncio.to_thread(opened.fuzz, who, BOUNDED)


@pytest.mark.long
@pytest.mark.parametrize("who", ["amy", "ada"])
async def test_what_is_answered_is_documented_whatever_is_asked(opened: Open, who: str) -> None:
    await asyncio.to_thread(opened.fuzz, who, AT_LENGTH)


async def test_without_a_key_only_what_is_public_answers(opened: Open) -> None:
    keyless = httpx.AsyncClient(base_url=opened.url, trust_env=False)
    async with keyless:
        for operation in opened.operations():
            path = operation.path.format(workflow="support", **{name: ids[0] for name, ids in opened.ids.items()})
            for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic b2xnYTpvbGdh"}):
                answer = await keyless.request(operation.method, path, headers=headers)
                assert answer.status_code == (200 if path in PUBLIC else 401), (operation.label, headers)
