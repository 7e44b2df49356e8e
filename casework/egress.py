"""Requests to addresses that somebody else chose: to public ones only, and to the very address that was checked.

A name is looked up once, every address behind it must be allowed, and the connection goes to one of those addresses
without another look-up, while TLS still verifies the name. So a name that changes between check and connection (DNS
rebinding) reaches nothing. httpcore, not httpx: it follows no redirect, keeps no cookie, and knows no proxy from the
environment, so none of these can lead elsewhere.
"""

from __future__ import annotations

import asyncio
import email.utils
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from socket import SOCK_STREAM, getaddrinfo

import httpcore
import httpx

from casework.errors import InputInvalid

Address = IPv4Address | IPv6Address
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port to the addresses behind them. Raises OSError."""

URL_CHARS = 2000
"""Of a receiver's URL, at most."""
LOOKUP_S = 5.0
"""How long a name server may take."""
CONNECT_S = 5.0
"""How long one address may take to accept a connection."""
ADDRESSES_TRIED = 3
"""Of those behind a name, at most, one after the other."""

LOOKUPS_AT_ONCE = 16
"""In threads of their own: name servers that never answer must not use up those that all else looks names up in."""

PRIVATE = tuple(
    map(
        ip_network,
        ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7"),
    )
)
"""What a setting can allow: this machine and the networks of an organisation. Link-local is never among them: cloud
machines hand out their credentials there."""
UNICAST = ip_network("2000::/3")
"""All of IPv6 that is assigned to anybody. `is_global` alone also lets site-local and IPv4-compatible ones through."""
NAT64 = ip_network("64:ff9b::/96")
"""Carries an IPv4 address in its last 32 bits."""


@dataclass(frozen=True)
class Destination:
    """A URL that was checked, and the addresses to connect to."""

    url: httpx.URL
    addresses: Sequence[str]


@dataclass(frozen=True)
class Answer:
    """What came of one request."""

    status: int | None = None
    """HTTP status; None when there was none."""
    error: str | None = None
    """Why there was no status, in words that hold nothing of what the other side sent."""
    retry_after: timedelta | None = None
    """When the other side asks to be tried again; None: it did not say."""

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Egress:
    """Checks URLs and posts to them. Safe to share.

    `private`: whether loopback and private networks are allowed too. `lookup`: None is the machine's own resolver.
    `tls`: None trusts the usual authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR.
    """

    def __init__(self, *, private: bool, lookup: Lookup | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.private = private
        self._lookup = lookup or self._look_up
        self._threads = ThreadPoolExecutor(LOOKUPS_AT_ONCE, thread_name_prefix="lookup")
        self._given_tls = tls

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._given_tls or httpx.create_ssl_context()  # some 20 ms: made when it is first needed

    async def check(self, url: str) -> Destination:
        """Raises InputInvalid, of the field `url`, for anything that may not be connected to."""
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, ValueError) as error:  # ValueError: half a character
            raise _refused("is not an address of the form https://host/path") from error
        if len(url) > URL_CHARS:
            raise _refused(f"must be at most {URL_CHARS} characters long")
        if parsed.scheme not in (("https", "http") if self.private else ("https",)) or not parsed.host:
            raise _refused("must begin with https:// and name a host")
        if parsed.port is not None and not 0 < parsed.port < 65536:
            raise _refused("must name a port between 1 and 65535, or none")
        if parsed.userinfo:
            raise _refused("must hold no user name and no password")
        addresses = await self._resolve(parsed)
        if not all(map(self._allowed, addresses)):
            raise _refused("does not lead to a public address")
        if parsed.scheme == "http" and not all(address.is_loopback for address in addresses):
            raise _refused("must begin with https://; http:// is for this machine only")
        return Destination(parsed, [str(address) for address in addresses[:ADDRESSES_TRIED]])

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, within: timedelta) -> Answer:
        """Post once, to what `url` leads to now. Of the answer only the status and Retry-After are read."""
        try:
            async with asyncio.timeout(within.total_seconds()):
                return await self._post(await self.check(url), headers, body)
        except InputInvalid as error:
            return Answer(error=error.message)
        except (TimeoutError, httpcore.TimeoutException):
            return Answer(error=f"no answer within {within.total_seconds():g} s")
        except httpcore.ConnectError as error:  # the words of our own TLS or network library
            return Answer(error=f"could not connect: {error}"[:200])
        except (httpcore.NetworkError, httpcore.ProtocolError):
            return Answer(error="the connection ended without an HTTP answer")

    async def _post(self, destination: Destination, headers: Mapping[str, str], body: bytes) -> Answer:
        url = destination.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        pinned = Pinned(destination.addresses)
        async with (
            httpcore.AsyncConnectionPool(ssl_context=self._tls, network_backend=pinned) as connections,
            connections.stream("POST", target, headers=sent, content=body) as response,
        ):
            answered = {name.lower(): value for name, value in response.headers}
            return Answer(response.status, retry_after=parse_retry_after(answered.get(b"retry-after", b"")))

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, lambda: getaddrinfo(host, port, type=SOCK_STREAM))
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    async def _resolve(self, url: httpx.URL) -> list[Address]:
        try:
            async with asyncio.timeout(LOOKUP_S):
                found = await self._lookup(url.raw_host.decode("ascii"), url.port or 443)
            addresses = [ip_address(address) for address in found]
        except (TimeoutError, ValueError, OSError) as error:  # ValueError: no name servers could know
            raise _refused("names a host that cannot be found") from error
        if not addresses:
            raise _refused("names a host that cannot be found")
        return addresses

    def _allowed(self, address: Address) -> bool:
        address = _embedded(address)
        if self.private and any(address in network for network in PRIVATE):
            return True
        return is_public(address)


class Pinned(httpcore.AsyncNetworkBackend):
    """Connects to given addresses, whatever the host's name would lead to by now."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """To the first that accepts. Raises what the last one failed with."""
        *others, last = self._addresses
        for address in others:
            try:
                return await self._network.connect_tcp(address, port, CONNECT_S, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._network.connect_tcp(last, port, CONNECT_S, local_address, socket_options)


def is_public(address: Address) -> bool:
    """Whether the address belongs to a single machine on the open internet."""
    address = _embedded(address)
    if isinstance(address, IPv6Address) and address not in UNICAST:
        return False
    return address.is_global and not address.is_multicast


def parse_retry_after(value: bytes) -> timedelta | None:
    """Of a Retry-After header: seconds, or a date. None when it is neither, or lies in the past."""
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return timedelta(seconds=int(text))
    try:
        wait = email.utils.parsedate_to_datetime(text) - datetime.now(UTC)
    except (ValueError, TypeError):
        return None
    return wait if wait > timedelta(0) else None


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, if it does: what the packets would reach in the end."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _refused(why: str) -> InputInvalid:
    return InputInvalid(f"url: {why}", field="url")
