"""Running the service in one process: database, API, pages and worker, from nothing to a clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext

import uvicorn

from casework.embedded import embedded_postgres
from casework.errors import SettingsInvalid
from casework.migrate import migrate
from casework.rights import listed
from casework.settings import Settings
from server.app import create_app
from server.demo_people import DEMO_PEOPLE, Credentials, demo_people
from server.service import Service, open_service, prepare

SHUTDOWN_GRACE_S = 5
"""How long open requests may go on once a stop was asked for."""


@contextmanager
def running_database(settings: Settings) -> Iterator[str]:
    """The configured database's URL, or an embedded one that runs meanwhile."""
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    with embedded_postgres(settings.data_dir) as url:
        yield url


class _Server(uvicorn.Server):
    """Leaves signals to `stop_on_signals`, so that the worker and the database are stopped in order after it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(service: Service, listener: socket.socket, *, worker: bool) -> AsyncIterator[str]:
    """API and pages on a listening socket, with a worker beside them; yields their URL."""
    host, port = listener.getsockname()[:2]
    config = uvicorn.Config(
        create_app(service),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
        server_header=False,
    )
    server = _Server(config)
    async with service.worker().running() if worker else nullcontext():
        task = asyncio.create_task(server.serve(sockets=[listener]), name="http")
        try:
            async with service.listener.running():  # left first: open streams end, and the server can
                yield f"http://{host}:{port}"
        finally:
            server.should_exit = True
            await task


def listen(host: str, port: int) -> socket.socket:
    """Raises SettingsInvalid when the port is taken, before anything else is started."""
    try:
        listener = socket.create_server((host, port), backlog=1024)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise SettingsInvalid(f"cannot listen on {host}:{port} ({why}); set CASEWORK_PORT to a free port") from error
    # Inherited by every connection. asyncio sets it on sockets it made itself; without it headers and body, written
    # apart, wait 40 ms for each other's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


@contextmanager
def stop_on_signals() -> Iterator[asyncio.Event]:
    """An event that Ctrl-C and SIGTERM set. The second Ctrl-C ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def ask() -> None:
        if stop.is_set():
            raise SystemExit(130)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def up(settings: Settings, database_url: str) -> None:
    """`casework up`: migrate, fill the demo companies, serve, and work until told to stop."""
    with listen(settings.host, settings.port) as listener, stop_on_signals() as stop:
        await migrate(database_url)
        async with open_service(settings, database_url) as service:
            await prepare(service)
            demo = await demo_people(service, settings.data_dir) if settings.embedded else None
            async with serving(service, listener, worker=True) as url:
                _say(welcome(url, demo, settings))
                await stop.wait()
                _say("\nStopping: runs finish their step, then the database stops …")


async def api(settings: Settings, database_url: str) -> None:
    """`casework api`: serve API and pages; workers run elsewhere."""
    with listen(settings.host, settings.port) as listener, stop_on_signals() as stop:
        async with open_service(settings, database_url) as service, serving(service, listener, worker=False) as url:
            _say(f"Casework's API listens on {url}")
            await stop.wait()


async def work(settings: Settings, database_url: str) -> None:
    """`casework worker`: run executions until told to stop."""
    with stop_on_signals() as stop:
        async with open_service(settings, database_url) as service, service.worker().running():
            _say("Casework worker is ready")
            await stop.wait()


def welcome(url: str, demo: Credentials | None, settings: Settings) -> str:
    """What a newcomer needs to see."""
    lines = ["", f"Casework runs at {url}", ""]
    lines += [f"  desk       {url}/"]
    lines += [f"  API        {url}/docs", f"  model      {settings.model_for('specialist')}", ""]
    if demo is not None:
        lines += ["Sign in at the desk with:", *_table(demo.passwords), ""]
        lines += ["API keys:", *_table(demo.keys), ""]
        lines += ["Try:", *_curls(url, demo.keys), ""]
    else:
        lines += ["The first person: casework person add NAME --role admin", ""]
    return "\n".join([*lines, "Ctrl-C stops everything."])


def _table(secrets_by_name: dict[str, str]) -> list[str]:
    width = max(map(len, secrets_by_name), default=0)
    return [f"  {name:<{width}}  {listed(DEMO_PEOPLE[name].roles):<9}  {it}" for name, it in secrets_by_name.items()]


def _curls(url: str, keys: dict[str, str]) -> list[str]:
    olivia, ana = keys.get("olivia", "<key>"), keys.get("ana", "<key>")
    body = '{"ticket_id": "T-1042", "user_id": "C-1042"}'
    return [
        f"  curl -s {url}/workflows/support/resolve -H 'Authorization: Bearer {olivia}' \\",
        f"       -H 'Content-Type: application/json' -H 'Prefer: wait=20' -d '{body}'",
        f"  curl -s {url}/approvals -H 'Authorization: Bearer {ana}'",
        f"  curl -s {url}/executions -H 'Authorization: Bearer {olivia}'",
    ]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
