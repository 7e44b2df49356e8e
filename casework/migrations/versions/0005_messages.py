"""Take further messages about an execution"""

from alembic import op
import sqlalchemy as sa

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "messages",
        sa.Column("execution_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["execution_id"], ["casework.executions.execution_id"], name=op.f("messages_execution_id_fkey")
        ),
        sa.PrimaryKeyConstraint("execution_id", "number", name=op.f("messages_pkey")),
        sa.UniqueConstraint(
            "execution_id", "author", "idempotency_key", name=op.f("messages_execution_id_author_idempotency_key_key")
        ),
        schema="casework",
    )
    op.execute(
        "CREATE TRIGGER messages_insert_only BEFORE UPDATE OR DELETE ON casework.messages "
        "FOR EACH ROW EXECUTE FUNCTION casework.refuse_change()"
    )
    for column in ("messages", "messages_read"):
        op.add_column(
            "executions", sa.Column(column, sa.Integer(), server_default="0", nullable=False), schema="casework"
        )


def downgrade() -> None:
    op.drop_column("executions", "messages_read", schema="casework")
    op.drop_column("executions", "messages", schema="casework")
    op.drop_table("messages", schema="casework")
