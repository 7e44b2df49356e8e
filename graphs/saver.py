"""A checkpoint saver that proves its run still owns the execution: one statement a call, the fence inside it.

Writes LangGraph's own tables, in the stock saver's format, and can be read by it. What a task wrote waits a moment
for the checkpoint that usually follows, and the events of the run's journal for either: all in one statement, so a
checkpoint is never there without the writes and the events that led to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from typing import Any
from uuid import UUID

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from psycopg.types.json import Jsonb
from psycopg_pool import PoolClosed, PoolTimeout

from casework.errors import LostLease
from casework.faults import fault
from casework.journal import NOTICE, STORY, Journal, story_of
from casework.resources import Pool
from casework.telemetry import logger

log = logger(__name__)

FENCE = """WITH fence AS MATERIALIZED (
    SELECT execution_id FROM casework.executions
    WHERE execution_id = %(execution)s AND fence = %(fence)s FOR NO KEY UPDATE)"""
EVENTS = f""", counted AS (
    UPDATE casework.executions SET event_seq = event_seq + %(event_count)s, updated_at = clock_timestamp()
    WHERE execution_id = (SELECT execution_id FROM fence) RETURNING execution_id, event_seq, {NOTICE}), {STORY}"""
BLOBS = """, blobs AS (
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT %(thread)s, %(ns)s, u.channel, u.version, u.type, u.blob
    FROM fence, unnest(%(channels)s::text[], %(versions)s::text[], %(types)s::text[], %(blobs)s::bytea[])
        u(channel, version, type, blob)
    ON CONFLICT DO NOTHING)"""
CHECKPOINT = """
INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
SELECT %(thread)s, %(ns)s, %(checkpoint_id)s, %(parent)s, %(checkpoint)s, %(metadata)s FROM fence
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
    DO UPDATE SET checkpoint = EXCLUDED.checkpoint, metadata = EXCLUDED.metadata"""
WRITES = """, written AS (
    INSERT INTO checkpoint_writes
        (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
    SELECT u.thread, u.ns, u.checkpoint_id, u.task, u.path, u.idx, u.channel, u.type, u.blob
    FROM fence, unnest(%(write_threads)s::text[], %(write_ns)s::text[], %(write_checkpoints)s::text[],
        %(write_tasks)s::text[], %(write_indexes)s::int[], %(write_paths)s::text[], %(write_channels)s::text[],
        %(write_types)s::text[], %(write_blobs)s::bytea[])
        u(thread, ns, checkpoint_id, task, idx, path, channel, type, blob)
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
    DO UPDATE SET channel = EXCLUDED.channel, type = EXCLUDED.type, blob = EXCLUDED.blob
    WHERE EXCLUDED.idx < 0)"""
"""As the stock saver: special channels, numbered below 0, replace what the task wrote before, others keep it."""
WRITE_COLUMNS = (
    "write_threads",
    "write_ns",
    "write_checkpoints",
    "write_tasks",
    "write_indexes",
    "write_paths",
    "write_channels",
    "write_types",
    "write_blobs",
)
ALONE = " SELECT 1 FROM fence"

HOLD_S = 0.02
"""How long a task's writes may wait for a checkpoint. One follows at once, unless other tasks of the step are still
busy; a crash in this time has the node run again, and the ledger keeps its effects from happening again."""


class FencedSaver(AsyncPostgresSaver):
    """One per run. A write under a fence that is no longer the execution's raises LostLease and changes nothing.

    `fresh`: nobody has saved anything of the execution yet, so that there is no need to look.
    """

    def __init__(
        self,
        pool: Pool,
        execution_id: UUID,
        fence: int,
        journal: Journal,
        serde: SerializerProtocol | None = None,
        *,
        fresh: bool = False,
    ) -> None:
        super().__init__(pool, serde=serde)
        self._pool = pool
        self._execution_id = execution_id
        self._fence = fence
        self._journal = journal
        self._fresh = fresh
        self._held: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        """Rows of `checkpoint_writes` that wait for a checkpoint, by their key, in the order of WRITE_COLUMNS."""
        self._patience: asyncio.TimerHandle | None = None
        """Runs while something waits."""
        self._saving: asyncio.Task[None] | None = None
        """Saves what waited for too long."""

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As the stock saver: primitive channel values inline, the others as blobs of their new versions."""
        configurable = config["configurable"]
        thread, ns = str(configurable["thread_id"]), configurable.get("checkpoint_ns", "")
        inline: dict[str, Any] = {}
        stored: list[tuple[str, str, str, bytes]] = []
        for channel, value in checkpoint["channel_values"].items():
            if value is None or isinstance(value, str | int | float | bool):
                inline[channel] = value
                continue
            if isinstance(value, _DeltaSnapshot):
                inline[channel] = True  # the stock reader's sign that a snapshot lies in the blobs
            if channel in new_versions:
                stored.append((channel, str(new_versions[channel]), *self.serde.dumps_typed(value)))
        parameters = {
            "thread": thread,
            "ns": ns,
            "checkpoint_id": checkpoint["id"],
            "parent": configurable.get("checkpoint_id"),
            "checkpoint": Jsonb({**checkpoint, "channel_values": inline}),
            "metadata": Jsonb(get_serializable_checkpoint_metadata(config, metadata)),
            **_columns(("channels", "versions", "types", "blobs"), stored),
        }
        await fault("before_checkpoint")
        await self._write((BLOBS if stored else "") + CHECKPOINT, parameters)
        await fault("after_checkpoint")
        return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": checkpoint["id"]}}

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Hold them for the checkpoint that follows; special ones are saved at once, with all that is held."""
        configurable = config["configurable"]
        thread, ns = str(configurable["thread_id"]), configurable.get("checkpoint_ns", "")
        await fault("before_writes")
        for index, (channel, value) in enumerate(writes):
            key = (thread, ns, configurable["checkpoint_id"], task_id, WRITES_IDX_MAP.get(channel, index))
            self._hold({key: (*key, task_path, channel, *self.serde.dumps_typed(value))})
        if any(channel in WRITES_IDX_MAP for channel, _ in writes):  # an interrupt or error: no checkpoint follows
            await self.flush()
        elif self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(HOLD_S, self._wait_no_longer)
        await fault("after_writes")

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As the stock saver, with what is held."""
        await self.flush()
        return None if self._fresh else await super().aget_tuple(config)

    async def alist(self, config: RunnableConfig | None, **how: Any) -> AsyncIterator[CheckpointTuple]:
        """As the stock saver, with what is held."""
        await self.flush()
        async for found in super().alist(config, **how):
            yield found

    async def flush(self) -> None:
        """Save what still waits for a checkpoint. Raises LostLease."""
        if self._saving is not None:
            await self._saving
        await self._save()

    async def salvage(self) -> None:
        """The same after an error: what cannot be saved is lost, and its node runs again."""
        await _tolerate(self.flush())

    async def _save(self) -> None:
        if self._held:
            await self._write(ALONE, {})

    def _wait_no_longer(self) -> None:
        self._patience = None
        self._saving = asyncio.create_task(_tolerate(self._save()))  # what fails stays held for the next write
        self._saving.add_done_callback(self._saved)

    def _saved(self, _: asyncio.Task[None]) -> None:
        self._saving = None

    def _hold(self, rows: Mapping[tuple[Any, ...], tuple[Any, ...]]) -> None:
        """As WRITES does with rows that are there already: special channels replace, others keep."""
        for key, row in rows.items():
            if key not in self._held or key[-1] < 0:
                self._held[key] = row

    async def _write(self, statement: str, parameters: Mapping[str, Any]) -> None:
        """Run a statement with all that waits, under the fence."""
        self._fresh = False
        story, held, self._held = self._journal.take(), self._held, {}
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        sql = FENCE + (EVENTS if story else "") + (WRITES if held else "") + statement
        every = {
            **parameters,
            **story_of(story),
            **_columns(WRITE_COLUMNS, list(held.values())),
            "execution": self._execution_id,
            "fence": self._fence,
        }
        try:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(sql.encode(), every, binary=True)
        except BaseException:
            self._journal.restore(story)
            later, self._held = self._held, held
            self._hold(later)
            raise
        if cursor.rowcount == 0:
            raise LostLease(f"execution {self._execution_id}: fence {self._fence} is not its fence any more")


async def _tolerate(saving: Awaitable[None]) -> None:
    try:
        await saving
    except (psycopg.Error, PoolTimeout, PoolClosed, LostLease) as error:
        log.warning("saver.not_saved", error=type(error).__name__)


def _columns(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    """Rows as one array per column, for unnest."""
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}
