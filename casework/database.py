"""How this process reaches Postgres, for how long it waits for an answer, and what it looks like when none comes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

import psycopg
import sqlalchemy.exc
from procrastinate.exceptions import ConnectorException
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg_pool import PoolClosed, PoolTimeout

from casework.settings import Settings

RV = TypeVar("RV")

DATABASE_AWAY: tuple[type[Exception], ...] = (
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
    sqlalchemy.exc.InternalError,  # it is read-only, or it ended a transaction that was idle for too long
    sqlalchemy.exc.TimeoutError,  # every pooled connection is in use
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    PoolTimeout,
    PoolClosed,
    ConnectorException,
)
"""Raised when the database cannot do it now. The same may succeed later; of a commit, nobody knows whether it did."""

KEEPALIVE: Mapping[str, Any] = {
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
"""In seconds, the last in milliseconds. For a network that dies; asked of the server too, which would else keep a lost
client's connection for hours. Behind a proxy the server may be gone all the same."""

RECONNECT_S = 5.0
"""How long a pool goes on connecting for nobody, with ever longer pauses; whoever needs one then has it try at once."""
GRACE_S = 2.0
"""How long after the server should have given up on a statement we give up on the server."""

BLAMELESS = ("08", "25006", "25P03", "53", "55P03", "57P")
"""How SQLSTATEs begin that say how the server is, and nothing about the statement."""


def is_outage(error: Exception) -> bool:
    """Whether the database was away, whoever asked it what; a statement that it refuses, or never ends, is not that."""
    if not isinstance(error, DATABASE_AWAY):
        return False
    cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error.__cause__
    sqlstate = getattr(cause, "sqlstate", None) or getattr(error, "sqlstate", None)
    return sqlstate is None or sqlstate.startswith(BLAMELESS)


def link(settings: Settings) -> dict[str, Any]:
    """libpq's parameters of every connection that is made by a pool."""
    # A process that froze or was cut off in a transaction holds rows that keep others from taking its cases over.
    idle, statement = 2 * settings.lease, settings.database_timeout
    options = {
        "idle_in_transaction_session_timeout": _ms(idle),
        "statement_timeout": _ms(statement),
        **{f"tcp_{name}": KEEPALIVE[name] for name in ("keepalives_idle", "keepalives_interval", "keepalives_count")},
    }
    return {**KEEPALIVE, "options": " ".join(f"-c {name}={value}" for name, value in options.items())}


class Impatient(psycopg.AsyncConnection[Any]):
    """A connection that closes itself when the server is silent for too long; psycopg alone waits for ever.

    The kernel notices a peer that is gone, not a proxy that holds the connection open, nor a server that froze.
    """

    silence_s: ClassVar[float]
    """How long one statement, a commit or a ping may stay without an answer."""

    async def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Raises OperationalError after `timeout` seconds, as psycopg does; None: after `silence_s`, and closes."""
        if timeout is not None:
            return await super().wait(gen, interval, timeout)
        try:
            return await super().wait(gen, interval, self.silence_s)
        except psycopg.OperationalError:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise


def impatient(settings: Settings) -> type[Impatient]:
    """The class of every pool's connections, with the patience of these settings."""
    return type("Impatient", (Impatient,), {"silence_s": settings.database_timeout.total_seconds() + GRACE_S})


def _ms(duration: timedelta) -> int:
    return int(duration / timedelta(milliseconds=1))
