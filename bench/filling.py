"""A database with a long past: so many executions, with their runs, events, approvals, votes and effects.

One execution every half minute, the newest first. Most have succeeded; 1 in 500 waits for a person; what failed, one
workflow and two requesters are all long ago, so that a list of them cannot be found among the newest.
"""

from __future__ import annotations

import psycopg

TENANT, SMALL_TENANT = "default", "small"
"""99 of 100 executions belong to the first."""

EXECUTIONS = """
INSERT INTO casework.executions (execution_id, workflow, graph_version, tenant, requester, status, mode, input, result,
    error, event_seq, fence, lease_owner, lease_until, wake_at, created_at, updated_at, finished_at)
SELECT gen_random_uuid(), workflow, 'v1', tenant, requester, status, 'copilot',
    jsonb_build_object('goal', 'resolve ticket T-' || n, 'request', repeat('My parcel arrived damaged. ', 6)),
    CASE WHEN over THEN jsonb_build_object('answer', repeat('The refund was booked to your card. ', 10)) END,
    CASE WHEN status = 'failed' THEN 'the provider was away' END, 5, 1,
    CASE WHEN status = 'running' THEN 'worker:1:abc' END,
    CASE WHEN status = 'running' THEN now() + interval '30 seconds' END,
    at, at, at, CASE WHEN over THEN at + interval '40 seconds' END
FROM (
    SELECT n, now() - n * interval '30 seconds' AS at,
        CASE WHEN n > %(executions)s * 0.95 AND n %% 50 = 0 THEN 'retired'
             WHEN n %% 30 = 0 THEN 'onboarding' ELSE 'support' END AS workflow,
        CASE WHEN n %% 100 = 7 THEN 'small' ELSE 'default' END AS tenant,
        CASE WHEN n > %(executions)s - 200 AND n %% 20 = 0 THEN 'former'
             WHEN n > %(executions)s * 0.8 AND n %% 4 = 1 THEN 'old-system'
             WHEN n %% 10 = 0 THEN 'person-' || n / 10 %% 20 ELSE 'helpdesk' END AS requester,
        CASE WHEN n <= 50 THEN 'queued' WHEN n <= 100 THEN 'running' WHEN n %% 500 IN (1, 7) THEN 'waiting'
             WHEN n > %(executions)s * 0.9 AND n %% 200 = 3 THEN 'failed'
             WHEN n %% 16 = 5 THEN 'escalated' WHEN n %% 300 = 9 THEN 'cancelled' ELSE 'succeeded' END AS status
    FROM generate_series(1, %(executions)s) n
) story, LATERAL (SELECT status IN ('succeeded', 'escalated', 'failed', 'cancelled') AS over) ended"""

APPROVALS = """
INSERT INTO casework.approvals (approval_id, execution_id, tenant, interrupt_id, graph_version, node, tool,
    tool_call_id, args, digest, description, reasons, role, votes_needed, allowed, state, decision, decided_by,
    decided_at, applied_at, expires_at, created_at)
SELECT gen_random_uuid(), execution_id, tenant, md5(execution_id::text), 'v1', 'handle_call', 'refund', 'call_1',
    '{"order_id": "O-5042", "amount_minor": 3490, "reason": "damaged"}', md5(execution_id::text),
    'Refund 34.90 EUR of order O-5042', '["a refund above 20 EUR"]', 'approver', 1, '["approve", "edit", "reject"]',
    CASE WHEN status = 'waiting' THEN 'pending' WHEN random() < 0.1 THEN 'rejected' ELSE 'approved' END,
    CASE WHEN status <> 'waiting' THEN '{"type": "approve"}'::jsonb END,
    CASE WHEN status <> 'waiting' THEN 'ana' END, finished_at, finished_at,
    CASE WHEN status = 'waiting' THEN now() + interval '1 hour' + random() * interval '71 hours'
         ELSE created_at + interval '72 hours' END,
    created_at
FROM casework.executions WHERE status = 'waiting' OR finished_at IS NOT NULL AND random() < 0.25"""

OTHERS = [
    """INSERT INTO casework.events (execution_id, seq, type, data, at)
    SELECT execution_id, seq,
        (ARRAY['execution.created', 'run.started', 'call.checked', 'call.done', 'run.finished'])[seq],
        jsonb_build_object('run_id', execution_id, 'detail', 'what happened at this step'), created_at
    FROM casework.executions, generate_series(1, 5) seq""",
    """INSERT INTO casework.runs (execution_id, kind, status, started_at, finished_at)
    SELECT execution_id, 'start', status, created_at, finished_at FROM casework.executions WHERE status <> 'queued'""",
    """INSERT INTO casework.votes (approval_id, actor_id, digest)
    SELECT approval_id, decided_by, digest FROM casework.approvals WHERE state = 'approved'""",
    """INSERT INTO casework.effects (key, execution_id, tool, args, digest, effect, state, fence, finished_at)
    SELECT execution_id || ':call_1', execution_id, tool, args, digest, 'keyed', 'done', 1, decided_at
    FROM casework.approvals WHERE state = 'approved'""",
]


def fill(database_url: str, executions: int) -> None:
    """Insert it all into a migrated, empty database, and have the planner know it. A million takes minutes."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        # The keys to other tables are right by construction: checking each would take most of the time.
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET synchronous_commit = off")
        connection.execute(EXECUTIONS, {"executions": executions})
        for statement in (APPROVALS, *OTHERS):
            connection.execute(statement.encode())
        connection.execute("VACUUM ANALYZE")
