"""What models are saying, told while they say it: sent by NOTIFY, never stored, and only while somebody listens.

Whether somebody does stands in a small table with one row per process that serves streams, and is looked up once a
second for all runs of a worker. Advisory locks would need no table, but one lock per stream: they share the server's
lock table with everything else, and a few thousand streams fill it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from uuid import UUID, uuid4

import psycopg

from casework.plain import plain
from casework.resources import Pool
from casework.telemetry import logger

log = logger(__name__)

CHANNEL = "casework_tokens"
"""A notification here is an execution id, a space, and the JSON of a `token` event."""

LOOK_EVERY_S = 1.0
"""How old the knowledge of who listens may be."""
SEND_EVERY_S = 0.05
"""At least this much time lies between two sendings of one answer: a commit with NOTIFY waits for every other."""
PIECE_CHARS = 1000
"""Of text in one notification. A character takes up to 6 bytes as JSON; Postgres takes less than 8,000."""
PATIENCE_S = 0.25
"""How long the database may take. Past it these tokens are not told: the model's answer is not kept waiting."""

WANTED = "SELECT DISTINCT unnest(executions) AS execution_id FROM casework.listeners WHERE until > now()"
SEND = f"SELECT pg_notify('{CHANNEL}', payload) FROM unnest(%s::text[]) payload"


class Tokens:
    """Sends what models say. One per worker process."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._wanted: frozenset[UUID] = frozenset()
        self._looked_at = float("-inf")

    def speech(self, execution_id: UUID, speaker: str) -> Speech:
        """For one answer of a model."""
        return Speech(self, execution_id, speaker)

    async def wanted(self, execution_id: UUID) -> bool:
        """Whether somebody listens to this execution, or did a second ago."""
        if time.monotonic() - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = time.monotonic()
            self._wanted = await self._look()
        return execution_id in self._wanted

    async def send(self, payloads: Sequence[str]) -> None:
        """Tell whoever listens, or nobody: a token that cannot be told is dropped."""
        try:
            async with asyncio.timeout(PATIENCE_S), self.pool.connection() as connection:
                await connection.execute(SEND.encode(), (list(payloads),))
        except (psycopg.Error, TimeoutError) as error:
            log.warning("tokens.dropped", error=type(error).__name__)

    async def _look(self) -> frozenset[UUID]:
        try:
            async with asyncio.timeout(PATIENCE_S), self.pool.connection() as connection:
                rows = await (await connection.execute(WANTED.encode())).fetchall()
        except (psycopg.Error, TimeoutError) as error:
            log.warning("tokens.not_looked", error=type(error).__name__)
            return frozenset()
        return frozenset(row["execution_id"] for row in rows)


class Speech:
    """One answer of a model, told piece by piece."""

    def __init__(self, tokens: Tokens, execution_id: UUID, speaker: str) -> None:
        self.message_id = f"ai_{uuid4().hex}"
        """Of the answer. The `model.answered` event that replaces the pieces has it too."""
        self._tokens = tokens
        self._execution_id = execution_id
        self._speaker = speaker
        self._unsent = ""
        self._sent_chars = 0
        self._send_from = float("-inf")

    async def say(self, text: str) -> None:
        """Add text; it is sent with the next that comes after a pause, or on `end`."""
        self._unsent += text
        if self._unsent and time.monotonic() >= self._send_from:
            await self._send()

    async def end(self) -> None:
        """Send the rest, before the answer itself is stored."""
        if self._unsent:
            await self._send()

    async def _send(self) -> None:
        self._send_from = time.monotonic() + SEND_EVERY_S
        if not await self._tokens.wanted(self._execution_id):
            return  # kept, so that whoever comes in the middle of an answer hears it from its beginning
        text, self._unsent = self._unsent, ""
        pieces = [text[i : i + PIECE_CHARS] for i in range(0, len(text), PIECE_CHARS)]
        await self._tokens.send([self._payload(piece, i * PIECE_CHARS) for i, piece in enumerate(pieces)])
        self._sent_chars += len(text)

    def _payload(self, piece: str, offset: int) -> str:
        token = {
            "message_id": self.message_id,
            "specialist": self._speaker,
            "at": self._sent_chars + offset,
            "text": plain(piece),
        }
        return f"{self._execution_id} {json.dumps(token, ensure_ascii=False)}"
