"""Ask people whether a call happened, when nobody knows"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "approvals", sa.Column("kind", sa.Text(), server_default="call", nullable=False), schema="casework"
    )
    op.add_column(
        "approvals", sa.Column("doubt", postgresql.JSONB(astext_type=sa.Text()), nullable=True), schema="casework"
    )
    op.add_column("effects", sa.Column("reference", sa.Text(), nullable=True), schema="casework")


def downgrade() -> None:
    op.drop_column("effects", "reference", schema="casework")
    op.drop_column("approvals", "doubt", schema="casework")
    op.drop_column("approvals", "kind", schema="casework")
