"""An execution's story as a stream: whole and in order through every disconnect, live, and as fast as it is read."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import text
from structlog.contextvars import get_contextvars

from casework.execution import Event, Status
from casework.settings import Settings
from casework.store import Store
from server.service import Service, open_service
from server.streaming import PAGE, prefers_stream
from tests.processes import eventually
from tests.streams import STREAM, Site, Told, opened, site_on, told

PATIENCE_S = 10.0
"""Less than a heartbeat: what comes within it came because it was notified."""
END = Told("end", {"status": "succeeded"}, None)


@pytest_asyncio.fixture
async def site(service: Service) -> AsyncIterator[Site]:
    async with site_on(service) as opened_site:
        yield opened_site


async def to_the_end(story: AsyncIterator[Told]) -> list[Told]:
    return [event async for event in story]


async def test_a_story_that_is_over_is_told_whole_and_ends(site: Site) -> None:
    execution_id = await site.begin()
    await site.write(execution_id, *["step.done"] * (2 * PAGE), text="two\nlines, \u2028 \x85 and äöü")
    await site.end(execution_id)
    async with site.follow(execution_id) as story:
        assert await to_the_end(story) == [*await site.kept(execution_id), END]


async def test_json_is_answered_as_ever_to_whoever_does_not_ask_for_a_stream(site: Site) -> None:
    execution_id = await site.begin()
    path = f"/executions/{execution_id}/events"
    for accept in ("*/*", "application/json", f"application/json, {STREAM};q=0.5", f"{STREAM};q=0"):
        page = (await site.get(path, headers={"Accept": accept})).json()
        assert [Told(event["type"], event, event["seq"]) for event in page["events"]] == await site.kept(execution_id)
    resumed = await site.get(path, headers={"Last-Event-ID": "1"})
    assert resumed.json() == {"events": [], "next_after": 1}


@pytest.mark.parametrize(
    ("accept", "stream"),
    [(STREAM, True), (f"{STREAM.upper()} ; q=0.3", True), (f"{STREAM}, */*;q=0.1", True), (f"{STREAM};q=x", False),
     (f"{STREAM};q=0.2, application/json", False), (f"application/json;q=0.9, {STREAM}", True), ("", False)],
)  # fmt: skip
def test_what_an_accept_header_prefers(accept: str, stream: bool) -> None:
    assert prefers_stream(accept) is stream


@pytest.mark.parametrize("seed", range(3))
async def test_a_reader_cut_off_at_random_misses_nothing_and_reads_nothing_twice(site: Site, seed: int) -> None:
    dice = random.Random(seed)
    execution_id = await site.begin()
    writing = asyncio.create_task(site.write_much(execution_id, 300, dice))
    seen: list[Told] = []
    cuts_while_writing = 0
    while END not in seen:
        last = {"Last-Event-ID": str(seen[-1].seq)} if seen else {}
        read = dice.randint(1, 30)
        async with site.follow(execution_id, last, after=0) as story:
            async for event in story:
                seen.append(event)
                read -= 1
                if not read:
                    break
        cuts_while_writing += not writing.done()
    await writing
    assert seen == [*await site.kept(execution_id), END]
    assert cuts_while_writing >= 5


async def test_whoever_does_not_say_where_they_stopped_begins_anew(site: Site) -> None:
    execution_id = await site.begin()
    await site.write(execution_id, "step.done")
    await site.end(execution_id)
    for query, first in (({}, 1), ({"after": 2}, 3)):
        async with site.follow(execution_id, **query) as story:
            assert (await anext(story)).seq == first


async def test_an_event_comes_when_it_is_written(site: Site) -> None:
    execution_id = await site.begin()
    async with asyncio.timeout(PATIENCE_S), site.follow(execution_id) as story:
        assert (await anext(story)).type == "execution.created"
        for number in range(5):
            await site.write(execution_id, "step.done", number=number)
            event = await anext(story)
            assert (event.type, event.data["data"]) == ("step.done", {"number": number})


async def test_an_event_that_nobody_was_notified_of_comes_with_the_next_heartbeat(
    settings: Settings, database_url: str
) -> None:
    quick = settings.model_copy(update={"stream_heartbeat": timedelta(milliseconds=100)})
    async with open_service(quick, database_url) as service, site_on(service) as site:
        execution_id = await site.begin()
        async with site.follow(execution_id) as story:
            await anext(story)
            async with service.resources.engine.begin() as db:
                silent = "INSERT INTO casework.events (execution_id, seq, type, data) VALUES (:e, 2, 'silent', '{}')"
                await db.execute(text(silent), {"e": execution_id})
            assert (await anext(story)).type == "silent"


async def test_a_silent_stream_sends_comments(settings: Settings, database_url: str) -> None:
    quick = settings.model_copy(update={"stream_heartbeat": timedelta(milliseconds=50)})
    async with (
        open_service(quick, database_url) as service,
        site_on(service) as site,
        opened(site.url, site.keys["olga"], await site.begin()) as response,
    ):
        comments = 0
        async for line in response.aiter_lines():
            comments += line.startswith(":")
            if comments == 3:
                break


async def test_a_listener_that_lost_its_connection_hears_again_and_nothing_is_missed(site: Site) -> None:
    execution_id = await site.begin()
    cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'"
    async with asyncio.timeout(PATIENCE_S), site.follow(execution_id) as story:
        await anext(story)
        async with site.service.resources.engine.connect() as db:
            assert await db.scalar(text(cut)) == 1
        await site.write(execution_id, "written.while.deaf")
        assert (await anext(story)).type == "written.while.deaf"
        await eventually(lambda: site.service.listener.hearing, lambda: "it stays deaf")
        await site.write(execution_id, "heard.again")
        assert (await anext(story)).type == "heard.again"


async def test_a_foreign_or_unknown_execution_is_not_found(site: Site) -> None:
    execution_id = await site.begin()
    for who, asked in (("mallory", execution_id), ("olga", uuid4())):
        refused = await site.get(f"/executions/{asked}/events", who, {"Accept": STREAM})
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
        assert refused.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("last", ["soon", "-1", str(2**63)])
async def test_a_last_event_id_that_is_no_number_is_named(site: Site, last: str) -> None:
    refused = await site.get(f"/executions/{uuid4()}/events", headers={"Accept": STREAM, "Last-Event-ID": last})
    assert (refused.status_code, refused.json()["field"]) == (422, "Last-Event-ID")


async def test_open_streams_end_when_the_server_stops(service: Service) -> None:
    async with site_on(service) as site:
        reader = opened(site.url, site.keys["olga"], await site.begin())
        response = await reader.__aenter__()
        story = told(response.aiter_lines())
        await anext(story)
    assert await to_the_end(story) == []  # ended by us, not torn off: that would raise
    await reader.__aexit__(None, None, None)


class CountingStore(Store):
    """Counts the pages that were read for each request, by its id."""

    pages: Counter[str]

    async def news(self, tenant: str, execution_id: UUID, *, after: int, limit: int) -> tuple[Status, list[Event]]:
        self.pages[get_contextvars().get("request_id", "no request")] += 1
        return await super().news(tenant, execution_id, after=after, limit=limit)


async def test_a_slow_reader_holds_nobody_up_and_is_read_for_no_faster_than_it_reads(service: Service) -> None:
    store = CountingStore(service.resources.engine, service.resources.pool, service.queue)
    store.pages = Counter()
    total = 30 * PAGE
    async with site_on(replace(service, store=store)) as site:
        execution_id = await site.begin()
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        await asyncio.get_running_loop().sock_connect(slow, ("127.0.0.1", int(site.url.rpartition(":")[2])))
        reader, writer = await asyncio.open_connection(sock=slow, limit=4096)
        writer.write(
            f"GET /executions/{execution_id}/events HTTP/1.0\r\nAccept: {STREAM}\r\nX-Request-Id: slow\r\n"
            f"Authorization: Bearer {site.keys['olga']}\r\n\r\n".encode()
        )
        await reader.readuntil(b"execution.created")
        for _ in range(30):
            await site.write(execution_id, *["step.done"] * PAGE, text="x" * 10_000)
        await site.end(execution_id)
        async with site.follow(execution_id) as story:
            assert await to_the_end(story) == [*await site.kept(execution_id), END]
        assert store.pages["slow"] < total / PAGE / 2  # what the sockets' own buffers hold
        rest = await reader.read(-1)
        assert rest.count(b"\nevent: step.done\n") == total
        assert rest.count(b"event: end\n") == 1
        writer.close()
