"""Where requests to other people's addresses may go: the tricks that lead inside, and names that change their mind."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from typing import Any

import pytest
import trustme

from casework import egress
from casework.egress import Answer, Egress, Lookup, is_public, parse_retry_after
from casework.errors import InputInvalid
from tests.receivers import Reply, receiving

PUBLIC = "93.184.216.34"
WITHIN = timedelta(seconds=5)


def answering(*addresses: str) -> Lookup:
    """A name server that gives one answer to everything."""

    async def lookup(host: str, port: int) -> Sequence[str]:
        return addresses

    return lookup


class Fickle:
    """A name server that changes its mind with each question."""

    def __init__(self, *answers: str) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def lookup(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return [self.answers[min(len(self.asked), len(self.answers)) - 1]]


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "2001:db8::1",
        "2002:7f00:1::",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff0e::1",
    ],
)
def test_what_is_not_one_machine_on_the_open_internet_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", [PUBLIC, "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"]
)
def test_public_addresses_are_public_however_they_are_written(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "receiver",
        "//receiver.test/",
        "http://receiver.test/",
        "ftp://receiver.test/",
        "file:///etc/passwd",
        "gopher://receiver.test/",
        "https://",
        "https:///path",
        "https://user@receiver.test/",
        "https://user:password@receiver.test/",
        "https://receiver.test:99999/",
        "https://receiver.test:0/",
        "https://receiver.test:port/",
        "https://[::1/",
        "https://re\x00ceiver.test/",
        "https://\ud800.test/",
        "https://receiver.test/\ud800",
        "https://receiver.test/" + "x" * 2000,
    ],
)
async def test_what_is_no_proper_https_address_is_refused_by_name(url: str) -> None:
    with pytest.raises(InputInvalid, match=r"^url: ") as refused:
        await Egress(private=False, lookup=answering(PUBLIC)).check(url)
    assert refused.value.field == "url"


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "017700000001",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "①②⑦.0.0.1",
        "127。0。0。1",
    ],
)
async def test_no_way_to_write_an_inner_address_gets_through(host: str) -> None:
    with pytest.raises(InputInvalid, match=r"^url: "):
        await Egress(private=False).check(f"https://{host}/")


async def test_one_inner_address_among_public_ones_is_enough_to_refuse() -> None:
    with pytest.raises(InputInvalid, match="public"):
        await Egress(private=False, lookup=answering(PUBLIC, "10.0.0.1")).check("https://receiver.test/")


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "0.0.0.0", "224.0.0.1", "64:ff9b::a9fe:a9fe"])
async def test_link_local_and_shared_addresses_are_refused_even_where_private_ones_are_allowed(address: str) -> None:
    with pytest.raises(InputInvalid, match="public"):
        await Egress(private=True, lookup=answering(address)).check("https://receiver.test/")


async def test_plain_http_is_for_this_machine_only_and_only_where_private_addresses_are_allowed() -> None:
    loopback = await Egress(private=True, lookup=answering("127.0.0.1")).check("http://receiver.test/")
    assert loopback.addresses == ["127.0.0.1"]
    for address in ("10.0.0.1", PUBLIC):
        with pytest.raises(InputInvalid, match="this machine only"):
            await Egress(private=True, lookup=answering(address)).check("http://receiver.test/")
        assert (await Egress(private=True, lookup=answering(address)).check("https://receiver.test/")).addresses


async def test_a_name_that_nobody_knows_is_refused() -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    for lookup in (unknown, answering(), answering("nonsense")):
        with pytest.raises(InputInvalid, match="cannot be found"):
            await Egress(private=False, lookup=lookup).check("https://receiver.test/")
    with pytest.raises(InputInvalid, match="cannot be found"):
        await Egress(private=False).check("https://" + "a" * 300 + ".test/")
    found = await Egress(private=True).check("http://localhost/")
    assert "127.0.0.1" in found.addresses


async def test_a_name_that_was_public_when_it_was_saved_is_checked_again_when_it_is_used() -> None:
    names = Fickle(PUBLIC, "127.0.0.1")
    sender = Egress(private=False, lookup=names.lookup)
    await sender.check("https://receiver.test/")
    answer = await sender.post("https://receiver.test/", {}, b"", WITHIN)
    assert answer == Answer(error="url: does not lead to a public address")


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def serving(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_the_connection_goes_to_the_address_that_was_checked_and_tls_verifies_the_name(
    authority: trustme.CA,
) -> None:
    """Asked a second time, the name server would lead elsewhere: it is not asked."""
    async with receiving(tls=serving(authority, "receiver.test")) as receiver:
        names = Fickle("127.0.0.1", "203.0.113.1")
        sender = Egress(private=True, lookup=names.lookup, tls=trusting(authority))
        port = receiver.url.split(":")[2].split("/")[0]
        answer = await sender.post(f"https://receiver.test:{port}/hook?a=b", {"x": "y"}, b"{}", WITHIN)
        assert answer == Answer(204)
        (got,) = receiver.got
        assert (got.path, got.headers["host"], got.headers["x"], got.body) == (
            "/hook?a=b",
            f"receiver.test:{port}",
            "y",
            b"{}",
        )
        assert names.asked == ["receiver.test"]


async def test_control_looked_up_again_a_name_that_was_public_when_checked_leads_inside(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Fickle(PUBLIC, "127.0.0.1")

    class LooksUpAgain(egress.Pinned):
        async def connect_tcp(self, host: str, port: int, *rest: Any, **more: Any) -> Any:
            self._addresses = await names.lookup(host, port)
            return await super().connect_tcp(host, port, *rest, **more)

    monkeypatch.setattr(egress, "Pinned", LooksUpAgain)
    async with receiving(tls=serving(authority, "receiver.test")) as inner:
        port = inner.url.split(":")[2].split("/")[0]
        naive = Egress(private=False, lookup=names.lookup, tls=trusting(authority))
        assert (await naive.post(f"https://receiver.test:{port}/", {}, b"", WITHIN)).ok
        assert len(inner.got) == 1


async def test_a_certificate_of_another_name_or_of_nobody_known_ends_the_connection(authority: trustme.CA) -> None:
    async with receiving(tls=serving(authority, "other.test")) as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        for tls, why in ((trusting(authority), "Hostname mismatch"), (None, "certificate verify failed")):
            sender = Egress(private=True, lookup=answering("127.0.0.1"), tls=tls)
            answer = await sender.post(f"https://receiver.test:{port}/", {}, b"", WITHIN)
            assert answer.status is None
            assert why in (answer.error or "")
        assert receiver.got == []


async def test_the_next_address_is_tried_when_the_first_does_not_accept() -> None:
    async with receiving() as receiver:
        port = receiver.url.split(":")[2].split("/")[0]
        sender = Egress(private=True, lookup=answering("127.0.0.2", "127.0.0.1"))
        assert (await sender.post(f"http://receiver.test:{port}/", {}, b"", WITHIN)).ok


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    async with receiving() as inner, receiving(Reply(307, {"Location": inner.url})) as receiver:
        answer = await Egress(private=True).post(receiver.url, {}, b"", WITHIN)
        assert answer == Answer(307)
        assert not answer.ok
        assert inner.got == []


async def test_an_endless_body_is_not_read() -> None:
    async with receiving(Reply(200, endless=True)) as receiver:
        assert (await Egress(private=True).post(receiver.url, {}, b"", WITHIN)).ok


async def test_silence_and_refusal_are_told_in_words_of_our_own() -> None:
    async with receiving(Reply(hangs=True)) as receiver:
        sender = Egress(private=True)
        silent = await sender.post(receiver.url, {}, b"", timedelta(milliseconds=50))
        assert silent == Answer(error="no answer within 0.05 s")
    refused = await sender.post(receiver.url, {}, b"", WITHIN)
    assert (refused.status, (refused.error or "")[:17]) == (None, "could not connect")


async def test_what_is_not_http_is_not_quoted() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"-ERR secret words of an inner service\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answer = await Egress(private=True).post(f"http://127.0.0.1:{port}/", {}, b"", WITHIN)
    server.close()
    assert answer == Answer(error="the connection ended without an HTTP answer")


def test_retry_after_is_seconds_or_a_date() -> None:
    assert parse_retry_after(b"120") == timedelta(seconds=120)
    soon = parse_retry_after(format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True).encode())
    assert soon is not None
    assert timedelta(minutes=59) < soon <= timedelta(hours=1)
    past = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True).encode()
    for nothing in (b"", b"-1", b"1.5", b"soon", b"9" * 400, "²".encode(), b"Wed, 99 Nov 2026 00:00:00 GMT", past):
        assert parse_retry_after(nothing) is None
