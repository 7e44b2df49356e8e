"""Give people passwords, sessions and limits, keys scopes, and approvals several roles and an amount of money"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _money("actors", "limits")
    _money("approvals", "money")
    op.add_column("actors", sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True), schema="casework")
    op.add_column("api_keys", sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=True), schema="casework")
    op.add_column(
        "approvals", sa.Column("good_for", postgresql.JSONB(astext_type=sa.Text()), nullable=True), schema="casework"
    )
    op.add_column("approvals", sa.Column("roles", postgresql.ARRAY(sa.Text()), nullable=True), schema="casework")
    op.execute("UPDATE casework.approvals SET roles = ARRAY[role]")
    op.alter_column("approvals", "roles", nullable=False, schema="casework")
    op.drop_column("approvals", "role", schema="casework")
    _of_actor(
        "passwords",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "actor_id", name=op.f("passwords_pkey")),
    )
    _of_actor(
        "invitations",
        sa.Column("hmac", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "actor_id", name=op.f("invitations_pkey")),
        sa.UniqueConstraint("hmac", name=op.f("invitations_hmac_key")),
    )
    _of_actor(
        "sessions",
        sa.Column("hmac", sa.LargeBinary(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("hmac", name=op.f("sessions_pkey")),
    )
    op.create_index("sessions_actor_idx", "sessions", ["tenant", "actor_id"], schema="casework")
    op.create_table(
        "sign_in_tries",
        sa.Column("bucket", sa.LargeBinary(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("bucket", name=op.f("sign_in_tries_pkey")),
        schema="casework",
    )


def downgrade() -> None:
    for table in ("sign_in_tries", "sessions", "invitations", "passwords"):
        op.drop_table(table, schema="casework")
    op.add_column("approvals", sa.Column("role", sa.Text(), nullable=True), schema="casework")
    op.execute("UPDATE casework.approvals SET role = roles[1]")
    op.alter_column("approvals", "role", nullable=False, schema="casework")
    for table, column in (
        ("approvals", "roles"),
        ("approvals", "good_for"),
        ("approvals", "money"),
        ("api_keys", "scopes"),
        ("actors", "disabled_at"),
        ("actors", "limits"),
    ):
        op.drop_column(table, column, schema="casework")


def _money(table: str, column: str) -> None:
    """Minor units by currency."""
    op.add_column(
        table,
        sa.Column(column, postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        schema="casework",
    )


def _of_actor(table: str, *more: sa.schema.SchemaItem) -> None:
    op.create_table(
        table,
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=False),
        *more,
        sa.ForeignKeyConstraint(
            ["tenant", "actor_id"],
            ["casework.actors.tenant", "casework.actors.actor_id"],
            name=op.f(f"{table}_tenant_fkey"),
        ),
        schema="casework",
    )
