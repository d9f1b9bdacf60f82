"""The tables of usage, of written batches, of spending and of the last requests."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "requests",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("started", sa.Double, nullable=False),
        sa.Column("hour", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("endpoint", sa.String(40), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("outcome", sa.String(20), nullable=False),
        sa.Column("code", sa.Text),
        sa.Column("duration", sa.Double, nullable=False),
        sa.Column("first_token", sa.Double),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("completion_tokens", sa.Integer),
        sa.Column("cached_tokens", sa.Integer),
        sa.Column("reasoning_tokens", sa.Integer),
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.Column("cost", sa.Double),
        sa.Column("unpriced", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("hedged", sa.Boolean, nullable=False),
        sa.Column("fallbacks", sa.Integer, nullable=False),
        sa.Column("tokens_saved", sa.Integer),
    )
    op.create_index("requests_started", "requests", ["started"])
    op.create_table(
        "written_batches",
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("written", sa.Double, nullable=False),
    )
    op.create_table(
        "spending",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("cost", sa.Double, nullable=False),
    )
    op.create_table(
        "recent_requests",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("written", sa.Double, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables and their rows."""
    for table in ("recent_requests", "spending", "written_batches", "requests"):
        op.drop_table(table)
