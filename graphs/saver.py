"""A checkpoint saver that proves its run still owns the execution: one statement a call, the fence inside it.

Writes LangGraph's own tables, in the stock saver's format, and can be read by it. The events of the run's journal
travel in the same statement as the task's writes or the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from psycopg.types.json import Jsonb

from casework.errors import LostLease
from casework.faults import fault
from casework.journal import NOTICE, STORY, Journal, story_of
from casework.resources import Pool

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
WRITES = """
, written AS (
    INSERT INTO checkpoint_writes
        (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
    SELECT %(thread)s, %(ns)s, %(checkpoint_id)s, %(task)s, %(path)s, u.idx, u.channel, u.type, u.blob
    FROM fence, unnest(%(indexes)s::int[], %(channels)s::text[], %(types)s::text[], %(blobs)s::bytea[])
        u(idx, channel, type, blob)
    ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx) {on_conflict})
SELECT 1 FROM fence"""
REPLACE = "DO UPDATE SET channel = EXCLUDED.channel, type = EXCLUDED.type, blob = EXCLUDED.blob"
KEEP = "DO NOTHING"


class FencedSaver(AsyncPostgresSaver):
    """One per run. A write under a fence that is no longer the execution's raises LostLease and changes nothing."""

    def __init__(
        self, pool: Pool, execution_id: UUID, fence: int, journal: Journal, serde: SerializerProtocol | None = None
    ) -> None:
        super().__init__(pool, serde=serde)
        self._pool = pool
        self._execution_id = execution_id
        self._fence = fence
        self._journal = journal

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
        """As the stock saver: special channels replace what the task wrote before, others keep it."""
        configurable = config["configurable"]
        rows = [
            (WRITES_IDX_MAP.get(channel, index), channel, *self.serde.dumps_typed(value))
            for index, (channel, value) in enumerate(writes)
        ]
        special = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        parameters = {
            "thread": str(configurable["thread_id"]),
            "ns": configurable.get("checkpoint_ns", ""),
            "checkpoint_id": configurable["checkpoint_id"],
            "task": task_id,
            "path": task_path,
            **_columns(("indexes", "channels", "types", "blobs"), rows),
        }
        await fault("before_writes")
        await self._write(WRITES.format(on_conflict=REPLACE if special else KEEP), parameters)
        await fault("after_writes")

    async def _write(self, statement: str, parameters: Mapping[str, Any]) -> None:
        taken = self._journal.take()
        sql = FENCE + (EVENTS if taken else "") + statement
        every = {**parameters, **story_of(taken), "execution": self._execution_id, "fence": self._fence}
        try:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(sql.encode(), every, binary=True)
        except BaseException:
            self._journal.restore(taken)
            raise
        if cursor.rowcount == 0:
            raise LostLease(f"execution {self._execution_id}: fence {self._fence} is not its fence any more")


def _columns(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    """Rows as one array per column, for unnest."""
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}
