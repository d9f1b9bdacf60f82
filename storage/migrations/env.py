"""Alembic runs a migration by this file, on the connection that storage/database.py hands over."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
