"""Give handed cases an owner, and the desk's lists their indexes"""

from alembic import op
import sqlalchemy as sa

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

LISTED = {
    "executions_specialist_idx": "specialist",
    "executions_customer_idx": "((input -> 'case') ->> 'customer_id')",
}


def upgrade() -> None:
    for column in ("owner", "solved_by", "specialist"):
        op.add_column("executions", sa.Column(column, sa.Text()), schema="casework")
    op.add_column("messages", sa.Column("kind", sa.Text(), server_default="message", nullable=False), schema="casework")
    for name, what in LISTED.items():
        op.execute(f"CREATE INDEX {name} ON casework.executions (tenant, {what}, created_at DESC, execution_id DESC)")
    op.execute(
        "CREATE INDEX executions_by_hand_idx ON casework.executions (tenant, created_at DESC, execution_id DESC) "
        "WHERE solved_by IS NOT NULL"
    )
    op.execute(
        "CREATE INDEX approvals_decided_idx ON casework.approvals (tenant, tool, decided_at DESC) "
        "WHERE decided_at IS NOT NULL"
    )


def downgrade() -> None:
    for name in ("approvals_decided_idx", "executions_by_hand_idx", *LISTED):
        op.execute(f"DROP INDEX casework.{name}")
    op.drop_column("messages", "kind", schema="casework")
    for column in ("specialist", "solved_by", "owner"):
        op.drop_column("executions", column, schema="casework")
