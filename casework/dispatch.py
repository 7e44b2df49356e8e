"""The port to the queue: it carries wake-ups, and owes correctness nothing.

A wake-up may come late, twice or never: lease, fence and ledger keep it right, the reconciler heals the rest.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

import psycopg


class Dispatcher(Protocol):
    async def wake(self, db: psycopg.AsyncConnection[Any], execution_id: UUID, delay: timedelta = timedelta(0)) -> None:
        """Have some worker call `advance(execution_id)`, after the caller's transaction commits and `delay` passes."""
