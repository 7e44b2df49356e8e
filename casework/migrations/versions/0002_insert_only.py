"""Audit lines and events are never changed or removed row by row."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE FUNCTION casework.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'casework.% is insert-only', TG_TABLE_NAME;
        END $$
        """
    )
    for table in ("audit", "events"):
        op.execute(
            f"CREATE TRIGGER {table}_insert_only BEFORE UPDATE OR DELETE ON casework.{table} "
            "FOR EACH ROW EXECUTE FUNCTION casework.refuse_change()"
        )


def downgrade() -> None:
    op.execute("DROP FUNCTION casework.refuse_change() CASCADE")
