"""Alembic runs this file for a migration, on the connection that storage/database.py passes."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
