"""Our tables, in schema `casework`. LangGraph's and Procrastinate's tables keep their own names in `public`."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TextClause,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

metadata = MetaData(
    schema="casework",
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    },
)


def _created() -> Column[object]:
    return Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now())


def _listed(name: str, *filters: str | TextClause, where: str | None = None) -> Index:
    """For a list of a tenant's executions by a filter, newest first, in keyset pages."""
    only = text(where) if where is not None else None
    return Index(name, "tenant", *filters, text("created_at DESC"), text("execution_id DESC"), postgresql_where=only)


executions = Table(
    "executions",
    metadata,
    Column("execution_id", Uuid, primary_key=True),
    Column("workflow", Text, nullable=False),
    Column("graph_version", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("requester", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("source", Text, nullable=False, server_default="api"),  # api, or studio: driven by `langgraph dev`
    Column("input", JSONB, nullable=False),
    Column("result", JSONB),
    Column("error", Text),
    Column("idempotency_key", Text),
    Column("request_hash", Text),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("lease_owner", Text),
    Column("lease_until", DateTime(timezone=True)),
    Column("wake_at", DateTime(timezone=True), nullable=False, server_default=func.now()),  # not claimed before
    Column("cancel_requested", Boolean, nullable=False, server_default=text("false")),
    Column("event_seq", BigInteger, nullable=False, server_default="0"),
    Column("model_calls", Integer, nullable=False, server_default="0"),
    Column("tool_calls", Integer, nullable=False, server_default="0"),
    Column("tokens", BigInteger, nullable=False, server_default="0"),
    Column("cost_microusd", BigInteger, nullable=False, server_default="0"),
    Column("messages", Integer, nullable=False, server_default="0"),  # how many came; the number of the newest
    Column("messages_read", Integer, nullable=False, server_default="0"),  # of the graph's state, when a leg ended
    Column("specialist", Text),  # who worked it when its last run ended
    Column("owner", Text),  # the person who has it, or had it when it was handed to people last
    Column("solved_by", Text),  # the person who ended it by hand; NULL: the agents did, or it goes on
    _created(),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("finished_at", DateTime(timezone=True)),
    Column("pruned_at", DateTime(timezone=True)),  # when its checkpoints were deleted
    UniqueConstraint("tenant", "requester", "idempotency_key"),
    _listed("executions_page_idx"),
    _listed("executions_status_idx", "status"),
    _listed("executions_workflow_idx", "workflow"),
    _listed("executions_requester_idx", "requester"),
    _listed("executions_specialist_idx", "specialist"),
    _listed("executions_customer_idx", text("((input -> 'case') ->> 'customer_id')")),
    _listed("executions_by_hand_idx", where="solved_by IS NOT NULL"),
    Index("executions_runnable_idx", "status", "lease_until", postgresql_where=text("status IN ('queued', 'running')")),
    Index(
        "executions_prunable_idx",
        "finished_at",
        postgresql_where=text("finished_at IS NOT NULL AND pruned_at IS NULL"),
    ),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", Uuid, primary_key=True, server_default=func.gen_random_uuid()),
    Column("execution_id", Uuid, ForeignKey(executions.c.execution_id), nullable=False),
    Column("kind", Text, nullable=False),  # start, resume, or message
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column("status", Text, nullable=False),  # running (also between its attempts), or what the execution became
    Column("error", Text),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("finished_at", DateTime(timezone=True)),
    # The last guard against two runs of one execution.
    Index("runs_one_running_key", "execution_id", unique=True, postgresql_where=text("status = 'running'")),
    Index("runs_execution_id_idx", "execution_id"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("approval_id", Uuid, primary_key=True),
    Column("tenant", Text, nullable=False),  # its execution's: the inbox is read by it
    Column("execution_id", Uuid, ForeignKey(executions.c.execution_id), nullable=False),
    Column("interrupt_id", Text, nullable=False),
    Column("graph_version", Text, nullable=False),
    Column("node", Text, nullable=False),
    Column("kind", Text, nullable=False, server_default="call"),  # call: may it be made? outcome: did it happen?
    Column("tool", Text),
    Column("tool_call_id", Text),
    Column("args", JSONB, nullable=False),
    Column("digest", Text, nullable=False),
    Column("doubt", JSONB(none_as_null=True)),  # of an outcome: what is known of the call
    Column("description", Text, nullable=False),
    Column("reasons", JSONB, nullable=False),
    Column("roles", ARRAY(Text), nullable=False),  # whoever decides holds every one
    Column("votes_needed", Integer, nullable=False),
    Column("money", JSONB, nullable=False, server_default=text("'{}'")),  # at stake: minor units by currency
    Column("allowed", JSONB, nullable=False),
    Column("response_schema", JSONB),
    Column("specialist", Text),
    Column("thought", Text, nullable=False, server_default=""),
    Column("edited_by", Text),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("decision", JSONB),
    Column("good_for", JSONB(none_as_null=True)),  # how much each of those who agreed may let go
    Column("decided_by", Text),
    Column("decided_at", DateTime(timezone=True)),
    Column("applied_at", DateTime(timezone=True)),  # when a run has taken the decision up
    Column("expires_at", DateTime(timezone=True), nullable=False),
    _created(),
    UniqueConstraint("execution_id", "interrupt_id"),
    Index("approvals_page_idx", "tenant", "state", "expires_at", "approval_id"),
    Index("approvals_waiting_idx", "expires_at", postgresql_where=text("state = 'pending'")),
    Index(
        "approvals_unapplied_idx",
        "execution_id",
        postgresql_where=text("decision IS NOT NULL AND applied_at IS NULL"),
    ),
    Index(
        "approvals_decided_idx",
        "tenant",
        "tool",
        text("decided_at DESC"),
        postgresql_where=text("decided_at IS NOT NULL"),
    ),
)

votes = Table(
    "votes",
    metadata,
    Column("approval_id", Uuid, ForeignKey(approvals.c.approval_id), primary_key=True),
    Column("actor_id", Text, primary_key=True),
    Column("digest", Text, nullable=False),  # what the voter saw; a vote on an older digest does not count
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

effects = Table(
    "effects",
    metadata,
    Column("key", Text, primary_key=True),  # execution_id:tool_call_id
    Column("execution_id", Uuid, ForeignKey(executions.c.execution_id), nullable=False),
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column("tool", Text, nullable=False),
    Column("args", JSONB, nullable=False),
    Column("digest", Text, nullable=False),
    Column("effect", Text, nullable=False),
    Column("state", Text, nullable=False),  # started, done, failed, unknown
    Column("result", JSONB),
    Column("error", Text),
    Column("reference", Text),  # the provider's id of it, when it or a person named one apart from the result
    Column("fence", BigInteger, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("finished_at", DateTime(timezone=True)),
    Index("effects_execution_id_idx", "execution_id"),
)

events = Table(
    "events",
    metadata,
    Column("execution_id", Uuid, ForeignKey(executions.c.execution_id), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("type", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
)

messages = Table(
    "messages",
    metadata,
    Column("execution_id", Uuid, ForeignKey(executions.c.execution_id), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("author", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("kind", Text, nullable=False, server_default="message"),  # message, or instruction: of a person in charge
    Column("idempotency_key", Text),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    UniqueConstraint("execution_id", "author", "idempotency_key"),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("webhook_id", Uuid, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("types", ARRAY(Text), nullable=False),
    Column("seed", Text, nullable=False),  # the secret is its HMAC with the pepper, which is not in the database
    Column("old_seed", Text),  # of the secret before, which signs too until `old_until`
    Column("old_until", DateTime(timezone=True)),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("off_because", Text),  # None: an admin switched it off, or it is on
    Column("paused_until", DateTime(timezone=True)),  # the receiver asked for a pause
    Column("delivered_at", DateTime(timezone=True)),  # when a message last arrived
    Column("created_by", Text, nullable=False),
    _created(),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Index("webhooks_tenant_idx", "tenant"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", Uuid, primary_key=True),  # the message's id, the same in all its attempts
    Column("webhook_id", Uuid, nullable=False),  # no foreign key: a fact neither fails nor waits for a deletion
    Column("type", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("state", Text, nullable=False, server_default="pending"),  # pending, delivered, failed
    Column("attempts", Integer, nullable=False, server_default="0"),  # only ever counted up: the fence of a sender
    Column("next_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("claimed_until", DateTime(timezone=True)),  # a sender is at it until then
    Column("last_status", Integer),
    Column("last_error", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("finished_at", DateTime(timezone=True)),
    Index("deliveries_due_idx", "webhook_id", "next_at", postgresql_where=text("state = 'pending'")),
    Index("deliveries_page_idx", "webhook_id", text("created_at DESC"), text("delivery_id DESC")),
    Index("deliveries_created_at_idx", "created_at"),
)

listeners = Table(
    "listeners",
    metadata,
    Column("listener_id", Uuid, primary_key=True),  # one process that serves streams
    Column("executions", ARRAY(Uuid), nullable=False),  # whose tokens are wanted there
    Column("until", DateTime(timezone=True), nullable=False),  # renewed while the process lives
    prefixes=["UNLOGGED"],  # worth nothing after a crash
)

audit = Table(
    "audit",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("prev", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("body", Text, nullable=False),  # canonical JSON, exactly as hashed
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("hash", Text, nullable=False),
)

actors = Table(
    "actors",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("actor_id", Text, primary_key=True),
    Column("roles", ARRAY(Text), nullable=False),
    Column("limits", JSONB, nullable=False, server_default=text("'{}'")),  # may approve: minor units by currency
    Column("disabled_at", DateTime(timezone=True)),  # since then nothing of theirs is let in
    _created(),
)

passwords = Table(
    "passwords",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("actor_id", Text, primary_key=True),
    Column("hash", Text, nullable=False),  # argon2id, with its salt and costs
    Column("set_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    ForeignKeyConstraint(["tenant", "actor_id"], [actors.c.tenant, actors.c.actor_id]),
)

invitations = Table(
    "invitations",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("actor_id", Text, primary_key=True),
    Column("hmac", LargeBinary, nullable=False, unique=True),  # of the link's token, with the pepper
    Column("expires_at", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["tenant", "actor_id"], [actors.c.tenant, actors.c.actor_id]),
)

sessions = Table(
    "sessions",
    metadata,
    Column("hmac", LargeBinary, primary_key=True),  # of the cookie's token, with the pepper
    Column("tenant", Text, nullable=False),
    Column("actor_id", Text, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("seen_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    ForeignKeyConstraint(["tenant", "actor_id"], [actors.c.tenant, actors.c.actor_id]),
    Index("sessions_actor_idx", "tenant", "actor_id"),
)

sign_in_tries = Table(
    "sign_in_tries",
    metadata,
    Column("bucket", LargeBinary, primary_key=True),  # HMAC of a name or an address
    Column("tries", Integer, nullable=False),
    Column("since", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),  # the public half of the key
    Column("tenant", Text, nullable=False),
    Column("actor_id", Text, nullable=False),
    Column("hmac", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text)),  # null: everything that the actor's roles allow
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),
    _created(),
)
