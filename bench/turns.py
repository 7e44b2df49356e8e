"""What a long conversation costs: the same message again and again on one thread, four messages a turn.

In process, by the runner's own means: a leg that is claimed once, and for every turn a fresh fenced saver.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import mean, median
from typing import Any
from uuid import uuid4

from langchain_core.runnables import RunnableConfig

from bench.neutral_graph import INPUT, SNAPSHOT_EVERY
from bench.service import CONFIG
from casework.actor import Actor, Role
from casework.execution import Mode
from casework.journal import Journal
from casework.legs import Leg
from casework.migrate import migrate
from casework.settings import Settings
from graphs.internals import STRICT_RESUME
from graphs.saver import FencedSaver
from server.service import Service, open_service

MESSAGES_A_TURN = 4
PERIOD = SNAPSHOT_EVERY // MESSAGES_A_TURN
"""Turns from one full snapshot of the messages to the next; a window of so many has one of each kind."""
FRESH = 4
"""Conversations whose first turn is measured before the long one, and again as many after it."""
BENCH = Actor(actor_id="bench", roles=frozenset({Role.SERVICE}))
WRITTEN = """
SELECT (SELECT coalesce(sum(octet_length(blob)), 0) FROM checkpoint_blobs WHERE thread_id = %(thread)s)
     + (SELECT coalesce(sum(octet_length(blob)), 0) FROM checkpoint_writes WHERE thread_id = %(thread)s)
     + (SELECT coalesce(sum(octet_length(checkpoint::text) + octet_length(metadata::text)), 0)
        FROM checkpoints WHERE thread_id = %(thread)s) AS written"""


@dataclass(frozen=True)
class Turn:
    ms: float
    written: int
    """Bytes of checkpoints, blobs and writes, as handed to the database."""


class Conversations:
    """Claims executions and runs turns on them."""

    def __init__(self, service: Service) -> None:
        self.store = service.store
        self.legs = service.worker().legs
        self.pool = service.resources.pool
        self.entry = service.catalog.get("neutral")

    async def begin(self) -> Leg:
        """Nobody else claims it: there is no worker here."""
        execution, _ = await self.store.create(BENCH, self.entry.name, self.entry.version, Mode.COPILOT, INPUT)
        leg = await self.legs.claim(execution.execution_id, "bench", timedelta(hours=1))
        if leg is None:
            raise RuntimeError("a new execution could not be claimed")
        return leg

    async def turns(self, leg: Leg, last: int, measured: Sequence[range] = ()) -> dict[int, Turn]:
        """Run turns 1 to `last`; those within `measured`, by number."""
        found = {}
        thread = str(leg.execution.execution_id)
        for number in range(1, last + 1):
            wanted = any(number in window for window in measured)
            before = await self._written(thread) if wanted else 0
            began = time.perf_counter()
            result = await self._turn(leg)
            took = (time.perf_counter() - began) * 1000
            if len(result["messages"]) != MESSAGES_A_TURN * number:
                raise RuntimeError(f"turn {number} ended with {len(result['messages'])} messages")
            if wanted:
                found[number] = Turn(took, await self._written(thread) - before)
        return found

    async def first(self) -> Turn:
        """The first turn of a new conversation."""
        return (await self.turns(await self.begin(), 1, [range(1, 2)]))[1]

    async def loading_ms(self, leg: Leg) -> float:
        """How long reading the conversation takes; a turn does it once, and so does whoever resumes or shows it."""
        graph, config = self._graph(leg)
        began = time.perf_counter()
        await graph.aget_state(config)
        return (time.perf_counter() - began) * 1000

    async def _turn(self, leg: Leg) -> Any:
        graph, config = self._graph(leg)
        return await graph.ainvoke(INPUT, config, durability="sync")

    def _graph(self, leg: Leg) -> tuple[Any, RunnableConfig]:
        """As graphs.runner makes them for a leg of its own, which every turn would be."""
        execution = leg.execution
        saver = FencedSaver(self.pool, execution.execution_id, leg.fence, Journal(), self.entry.serializer)
        config: RunnableConfig = {
            "configurable": {"thread_id": str(execution.execution_id), **STRICT_RESUME},
            "metadata": {
                "run_id": str(uuid4()),
                "execution_id": str(execution.execution_id),
                "workflow": execution.workflow,
                "mode": execution.mode.value,
            },
        }
        return self.entry.compiled.copy({"checkpointer": saver}), config

    async def _written(self, thread: str) -> int:
        async with self.pool.connection() as connection:
            row = await (await connection.execute(WRITTEN, {"thread": thread})).fetchone()
        return int(row["written"]) if row else 0


async def growth(data_dir: Path, database_url: str, at: Sequence[int]) -> dict[str, float]:
    """Time and bytes of a turn around each of `at`, relative to a first turn."""
    await migrate(database_url)
    settings = Settings.model_validate({"data_dir": data_dir, "config": CONFIG})
    windows = [range(turn - PERIOD // 2, turn + PERIOD // 2 + 1) for turn in at]
    figures: dict[str, float] = {}
    async with open_service(settings, database_url) as service:
        conversations = Conversations(service)
        await conversations.turns(await conversations.begin(), PERIOD)  # warm
        firsts = [await conversations.first() for _ in range(FRESH)]
        long = await conversations.begin()
        turns = await conversations.turns(long, windows[-1][-1], windows)
        figures[f"turn {windows[-1][-1]}, ms to load its state"] = await conversations.loading_ms(long)
        firsts += [await conversations.first() for _ in range(FRESH)]
    first_ms = figures["turn 1, ms"] = median(turn.ms for turn in firsts)
    first_bytes = figures["turn 1, bytes written"] = median(turn.written for turn in firsts)
    for turn, window in zip(at, windows, strict=True):
        ms, written = [turns[n].ms for n in window], [turns[n].written for n in window]
        figures[f"turn {turn}, ms"] = median(ms)
        figures[f"turn {turn} ÷ turn 1, time"] = median(ms) / first_ms
        figures[f"turn {turn} ÷ turn 1, bytes written"] = median(written) / first_bytes
        figures[f"turn {turn} ÷ turn 1, bytes written, with snapshots"] = mean(written) / first_bytes
    return figures
