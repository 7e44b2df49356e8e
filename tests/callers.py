"""People and programs that call the API as they should: told to come again, they come again, with the same request."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.processes import PATIENCE_S
from tests.streams import Told, told

STREAM = {"Accept": "text/event-stream"}
STARTING = "/workflows/support/executions"


@dataclass
class Caller:
    """One person or program, and what happened to their requests."""

    url: str
    """The API's; changes when another process takes over."""
    key: str
    turned_away: int = 0
    """How often the answer was 503."""
    cut_off: int = 0
    """How often there was no answer."""
    unexpected: list[str] = field(default_factory=list)
    """5xx answers that should not be."""

    def client(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=40, headers=headers)

    async def once(self, method: str, path: str, **how: Any) -> httpx.Response | None:
        """One try. None: no answer, or told to come again, and in the right words."""
        try:
            async with self.client() as client:
                answer = await client.request(method, path, **how)
        except httpx.TransportError:
            self.cut_off += 1
            return None
        if answer.status_code == 503:
            self.turned_away += 1
            words = (answer.headers.get("content-type"), answer.headers.get("retry-after"), answer.json()["code"])
            if words != ("application/problem+json", "2", "unavailable"):
                self.unexpected.append(f"{method} {path}: 503 with {words}")
            return None
        if answer.status_code >= 500:
            self.unexpected.append(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer

    async def ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        """Until there is an answer."""
        async with asyncio.timeout(PATIENCE_S):
            while (answer := await self.once(method, path, **how)) is None:  # noqa: ASYNC110 - it is told when to come
                await asyncio.sleep(0.2)  # sooner than Retry-After says: a test must not wait for it
        return answer

    async def start(self, case: dict[str, str], mode: str | None = None, wait_s: int = 0) -> httpx.Response:
        """Start a support case, once, however often it is asked for."""
        return await self.ask("POST", STARTING, **_starting(case, mode, wait_s))

    async def start_once(self, case: dict[str, str]) -> httpx.Response | None:
        """One try of that."""
        return await self.once("POST", STARTING, **_starting(case, None, 0))

    async def follow(self, execution_id: str) -> list[Told]:
        """A case's whole story, through as many streams as it takes; tokens left out."""
        story: list[Told] = []
        async with asyncio.timeout(PATIENCE_S):
            while not story or story[-1].type != "end":
                last = {"Last-Event-ID": str(next((t.seq for t in reversed(story) if t.seq is not None), 0))}
                await self._follow_once(execution_id, last, story)
        return story

    async def follow_for(self, execution_id: str, seconds: float) -> list[Told]:
        """The beginning of a case's story, as far as it is told within this time; one stream."""
        heard: list[Told] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._follow_once(execution_id, {}, heard)
        return heard

    async def _follow_once(self, execution_id: str, last: dict[str, str], heard: list[Told]) -> None:
        try:
            async with (
                self.client() as client,
                client.stream("GET", f"/executions/{execution_id}/events", headers={**STREAM, **last}) as answer,
            ):
                if answer.status_code != 200:
                    self.turned_away += 1
                    await asyncio.sleep(0.2)
                    return
                async for event in told(answer.aiter_lines()):
                    heard.extend([event] if event.type != "token" else [])
        except httpx.TransportError:
            self.cut_off += 1
            await asyncio.sleep(0.2)


def _starting(case: dict[str, str], mode: str | None, wait_s: int) -> dict[str, Any]:
    body = {"input": {"ticket_id": case["ticket"], "user_id": case["customer"]}, "mode": mode}
    return {"json": body, "headers": {"Idempotency-Key": case["ticket"], "Prefer": f"wait={wait_s}"}}
