"""Index every list by what it filters, and let approvals name their tenant"""

from alembic import op
import sqlalchemy as sa

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

NEWEST = [sa.text("created_at DESC"), sa.text("execution_id DESC")]
FILTERS = ("status", "workflow", "requester")


def upgrade() -> None:
    for column in FILTERS:
        op.create_index(f"executions_{column}_idx", "executions", ["tenant", column, *NEWEST], schema="casework")
    op.add_column("approvals", sa.Column("tenant", sa.Text(), nullable=True), schema="casework")
    op.execute(
        "UPDATE casework.approvals a SET tenant = e.tenant FROM casework.executions e "
        "WHERE e.execution_id = a.execution_id"
    )
    op.alter_column("approvals", "tenant", nullable=False, schema="casework")
    op.create_index(
        "approvals_page_idx", "approvals", ["tenant", "state", "expires_at", "approval_id"], schema="casework"
    )
    op.create_index(
        "approvals_unapplied_idx",
        "approvals",
        ["execution_id"],
        schema="casework",
        postgresql_where=sa.text("decision IS NOT NULL AND applied_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("approvals_unapplied_idx", "approvals", schema="casework")
    op.drop_index("approvals_page_idx", "approvals", schema="casework")
    op.drop_column("approvals", "tenant", schema="casework")
    for column in FILTERS:
        op.drop_index(f"executions_{column}_idx", "executions", schema="casework")
