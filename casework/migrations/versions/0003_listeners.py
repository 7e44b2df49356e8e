"""Who listens to whose tokens."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE UNLOGGED TABLE casework.listeners (
            listener_id uuid CONSTRAINT listeners_pkey PRIMARY KEY,
            executions uuid[] NOT NULL,
            until timestamptz NOT NULL
        )
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE casework.listeners")
