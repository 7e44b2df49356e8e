"""A TCP proxy before Postgres that can fall silent without closing anything, as a network that died half-way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field


@dataclass(eq=False)
class _Link:
    """One client's connection. Once dead it stays so: bytes are taken, and go nowhere."""

    serving: asyncio.Task[None]
    dead: bool


@dataclass
class Proxy:
    """Passes on what it gets, until it is told to fall silent."""

    upstream: int
    """The server's port."""
    port: int = 0
    """Ours."""
    silent: bool = False
    last_words: Callable[[bytes], bool] = field(default=lambda sent: False)
    """Passed on, and the last that is: the server gets them, and its answer gets lost."""
    _links: set[_Link] = field(default_factory=set)

    def fall_silent(self) -> None:
        self.silent = True
        for link in self._links:
            link.dead = True

    def heal(self) -> None:
        """New connections work; the dead ones stay dead, as behind a gateway that forgot them."""
        self.silent = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for link in self._links:
                link.serving.cancel()
            await asyncio.gather(*(link.serving for link in self._links), return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        link = _Link(serving, self.silent)
        self._links.add(link)
        try:
            with suppress(OSError, asyncio.CancelledError):
                server, to_server = await asyncio.open_connection("127.0.0.1", self.upstream)
                with closing(to_server):
                    asking = self._pump(client, to_server, link, asks=True)
                    await asyncio.gather(asking, self._pump(server, to_client, link))
        finally:
            self._links.discard(link)
            to_client.close()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, link: _Link, *, asks: bool = False
    ) -> None:
        while sent := await source.read(65536):
            if link.dead:
                continue
            sink.write(sent)
            if asks and self.last_words(sent):
                self.fall_silent()
        if asks or not link.dead:
            sink.close()
