"""Remember whose checkpoints were pruned"""

from alembic import op
import sqlalchemy as sa

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "executions", sa.Column("pruned_at", sa.DateTime(timezone=True), nullable=True), schema="casework"
    )
    op.create_index(
        "executions_prunable_idx",
        "executions",
        ["finished_at"],
        schema="casework",
        postgresql_where=sa.text("finished_at IS NOT NULL AND pruned_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("executions_prunable_idx", "executions", schema="casework")
    op.drop_column("executions", "pruned_at", schema="casework")
