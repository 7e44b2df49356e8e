"""What must hold after any crash, freeze or race, each as one query that returns what is wrong; for any workflow.

The database must be at rest: no execution under way. tests/invariants.py has what must hold for a hijacked model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from casework import audit
from tests.invariants import QUERIES as INVARIANTS
from tests.invariants import book_differs
from tools.shop.sandbox_book import Entry

OVER = "('succeeded', 'escalated', 'failed', 'cancelled')"

LOST: Mapping[str, str] = {
    "an execution that nobody will carry on": f"""
        SELECT execution_id::text FROM casework.executions x
        WHERE status NOT IN {OVER} AND error IS NULL AND NOT (status = 'running' AND lease_until > now())
          AND NOT (status = 'waiting' AND EXISTS (
            SELECT FROM casework.approvals a WHERE a.execution_id = x.execution_id AND a.state = 'pending'
            UNION ALL
            SELECT FROM casework.effects e WHERE e.execution_id = x.execution_id AND e.state = 'unknown'))""",
    "a decision that no run took up": """
        SELECT approval_id::text FROM casework.approvals JOIN casework.executions x USING (execution_id)
        WHERE (state IN ('approved', 'rejected', 'responded') OR state = 'superseded' AND decision IS NOT NULL)
          AND applied_at IS NULL
          AND x.status IN ('succeeded', 'waiting')""",
    "a message that no agent will read": """
        SELECT execution_id || ':' || messages FROM casework.executions x
        WHERE messages > messages_read AND error IS NULL AND NOT cancel_requested
          AND (status = 'succeeded' OR status = 'waiting' AND NOT EXISTS (
            SELECT FROM casework.approvals a
            WHERE a.execution_id = x.execution_id AND a.state = 'pending' AND a.kind = 'outcome'))""",
    "a message that is not there": """
        SELECT execution_id::text FROM casework.executions LEFT JOIN casework.messages m USING (execution_id)
        GROUP BY execution_id HAVING count(m.number) <> messages OR coalesce(max(m.number), 0) <> messages""",
    "a gap in a story": """
        SELECT execution_id::text FROM casework.events GROUP BY execution_id
        HAVING count(*) <> max(seq) OR min(seq) <> 1""",
}
DOUBLED: Mapping[str, str] = {
    "a message not read exactly once, though the graph is past it": """
        SELECT execution_id || ':' || m.number FROM casework.messages m JOIN casework.executions x USING (execution_id)
        CROSS JOIN LATERAL (
            SELECT count(*) AS times FROM casework.events e WHERE e.execution_id = m.execution_id
              AND e.type = 'message.read' AND (e.data ->> 'number')::int = m.number) read
        WHERE read.times > 1 OR (read.times = 0 AND m.number <= x.messages_read)""",
    "an effect told twice": """
        SELECT execution_id || ':' || (data ->> 'call_id') FROM casework.events WHERE type = 'effect.done'
        GROUP BY 1 HAVING count(*) > 1""",
    "a leg that ended twice": """
        SELECT data ->> 'run_id' FROM casework.events WHERE type = 'run.finished' GROUP BY 1 HAVING count(*) > 1""",
    "more or fewer messages on a ticket than its calls sent": """
        SELECT called.ticket_id FROM (
            SELECT x.input #>> '{case,ticket_id}' AS ticket_id, count(e.key) AS times
            FROM casework.executions x LEFT JOIN casework.effects e
              ON e.execution_id = x.execution_id AND e.state = 'done'
              AND e.tool IN ('reply_to_customer', 'update_ticket', 'escalate_to_human')
            GROUP BY 1) called
        WHERE called.ticket_id IS NOT NULL AND called.times <> (
            SELECT count(*) FROM shop.ticket_messages m
            WHERE m.ticket_id = called.ticket_id AND m.author LIKE 'casework for %')""",
    "a fork in the checkpoints": """
        SELECT thread_id || ' after ' || coalesce(parent_checkpoint_id, 'nothing') FROM checkpoints
        GROUP BY thread_id, checkpoint_ns, parent_checkpoint_id HAVING count(*) > 1""",
}
WRONG: Mapping[str, str] = {
    "an effect that asked, without a yes to exactly its arguments": """
        SELECT e.key FROM casework.effects e JOIN casework.executions x USING (execution_id)
        JOIN casework.events c ON c.execution_id = e.execution_id AND c.type = 'call.checked'
          AND c.data ->> 'call_id' = split_part(e.key, ':', 2) AND c.data ->> 'verdict' = 'needs_approval'
        WHERE NOT EXISTS (
            SELECT FROM casework.approvals a WHERE a.execution_id = e.execution_id AND a.state = 'approved'
              AND a.tool_call_id = split_part(e.key, ':', 2) AND a.digest = e.digest
              AND a.decided_at <= e.started_at AND a.decided_by <> x.requester)""",
    "an effect whose end is not on exactly one line of the audit log": """
        SELECT e.key FROM casework.effects e WHERE e.state IN ('done', 'failed') AND 1 <> (
            SELECT count(*) FROM casework.audit l WHERE l.body::jsonb ->> 'act' = 'effect.' || e.state
              AND e.key = (l.body::jsonb ->> 'execution') || ':' || (l.body::jsonb ->> 'call'))""",
    "a decision that is not on exactly one line of the audit log": """
        SELECT a.approval_id::text FROM casework.approvals a WHERE a.decision IS NOT NULL AND 1 <> (
            SELECT count(*) FROM casework.audit l WHERE l.body::jsonb ->> 'act' = 'approval.' || a.state
              AND l.body::jsonb ->> 'approval' = a.approval_id::text)""",
    "more refunded than paid": INVARIANTS["more refunded than paid"],
}
LEFT: Mapping[str, str] = {
    "an effect left started": "SELECT key FROM casework.effects WHERE state = 'started'",
    "a refund left open": """
        SELECT effect_key FROM shop.refunds r WHERE state = 'pending' AND NOT EXISTS (
            SELECT FROM casework.effects e WHERE e.key = r.effect_key AND e.state = 'unknown')""",
    "a lease left behind": """
        SELECT execution_id::text FROM casework.executions
        WHERE (status = 'running') <> (lease_until IS NOT NULL) OR lease_until < now()""",
    "a leg left running": f"""
        SELECT r.run_id::text FROM casework.runs r JOIN casework.executions x USING (execution_id)
        WHERE r.status = 'running' AND x.status IN {OVER}""",
    "a question left open by a case that is over": f"""
        SELECT approval_id::text FROM casework.approvals a JOIN casework.executions x USING (execution_id)
        WHERE a.state = 'pending' AND x.status IN {OVER}""",
    "a transaction left open": """
        SELECT pid::text FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'
          AND clock_timestamp() - state_change > interval '1 second'""",
}
AT_ANY_TIME = (
    *DOUBLED.items(),
    *WRONG.items(),
    *(
        (what, {**LOST, **LEFT}[what])
        for what in (
            "a gap in a story",
            "a leg left running",
            "a question left open by a case that is over",
        )
    ),
)
"""What must hold even while executions are under way."""


async def broken_at_any_time(engine: AsyncEngine) -> list[str]:
    """What is wrong already, whatever is under way, in words."""
    async with engine.connect() as db:
        found = [f"{what}: {which}" for what, query in AT_ANY_TIME for which in await db.scalars(text(query))]
        chain = await audit.verify(db)
    return found + ([f"the audit log does not verify: {chain.bad_line}"] if chain.bad_line else [])


async def broken(engine: AsyncEngine, book: Path) -> list[str]:
    """Everything that does not hold, in words; `book` is the payment provider's own."""
    found = []
    async with engine.connect() as db:
        for what, query in {**LOST, **DOUBLED, **WRONG, **LEFT}.items():
            found += [f"{what}: {which}" for which in await db.scalars(text(query))]
        found += await book_differs(db, book)
        chain = await audit.verify(db)
    found += [f"paid twice for one call: {key}" for key, times in _paid_for(book).items() if times > 1]
    return found + ([f"the audit log does not verify: {chain.bad_line}"] if chain.bad_line else [])


def _paid_for(book: Path) -> Counter[str]:
    """How often the provider paid a refund for each call that names itself."""
    bodies = [Entry.model_validate_json(line).reply.body for line in book.read_text().splitlines()]
    refunds = [b for b in bodies if b.get("object") == "refund"]
    return Counter(b["metadata"]["effect_key"] for b in refunds if "effect_key" in b["metadata"])
