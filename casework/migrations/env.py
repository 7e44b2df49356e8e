"""Alembic's entry: migrates schema `casework` on the connection that casework/migrate.py hands over."""

from alembic import context
from sqlalchemy import Connection, text

from casework.tables import metadata

connection: Connection = context.config.attributes["connection"]
connection.execute(text("CREATE SCHEMA IF NOT EXISTS casework"))
context.configure(
    connection=connection,
    target_metadata=metadata,
    include_schemas=True,
    version_table_schema="casework",
)
with context.begin_transaction():
    context.run_migrations()
