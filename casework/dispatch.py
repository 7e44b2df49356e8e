"""The port to the queue: it carries wake-ups to workers, and owes correctness nothing.

A wake-up may come early, late, twice or never: lease, fence and ledger keep it right, the reconciler heals the rest.
docs/scaling.md says how to plug another queue in; tests/dispatching.py holds what any must pass.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

import psycopg

Advance = Callable[[UUID], Awaitable[object]]
"""What a worker does with a wake-up: run the execution until it waits or ends. Returns at once when there is nothing
to do. What it raises is for the log: the wake-up may be dropped then, too."""


class Dispatcher(Protocol):
    """What whoever makes an execution runnable needs."""

    async def wake(self, db: psycopg.AsyncConnection[Any], execution_id: UUID, delay: timedelta = timedelta(0)) -> None:
        """Have some worker call `advance(execution_id)`, after the caller's transaction commits and `delay` passes.

        A queue in this database writes on `db`, and commits and rolls back with it. Any other sends when the
        transaction of `db` is over, however it ended (`db.info.transaction_status`): a wake-up that comes before the
        commit, or for what was rolled back, finds nothing to do.
        """


class Queue(Dispatcher, Protocol):
    """What a worker needs besides."""

    async def consume(self, advance: Advance, concurrency: int, stop_within: timedelta) -> None:
        """Call `advance` for every wake-up, at most `concurrency` at once, until cancelled. An error of `advance` does
        not end it; when the queue itself is lost it may raise, and is called again a second later.

        When cancelled: take no more, wait for those under way, cancel what is not done after `stop_within`, and end
        when none is left.
        """

    async def tidy(self, keep: timedelta, *, dry_run: bool = False) -> Mapping[str, int]:
        """Delete what finished longer ago than `keep`, and mend what dead workers left. One worker at a time calls it.

        Returns how many of what, in words; with `dry_run`, how many there are.
        """
