"""The tables of the database, as the code reads and writes them. A change here needs a migration."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

METADATA = MetaData()

REQUESTS = Table(
    "requests",
    METADATA,
    # SQLite's autoincrement needs exactly this type.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("request_id", Text, nullable=False),
    Column("started", Double, nullable=False),
    Column("hour", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("endpoint", String(40), nullable=False),
    Column("model", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("outcome", String(20), nullable=False),
    Column("code", Text),
    Column("duration", Double, nullable=False),
    Column("first_token", Double),
    Column("prompt_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("cached_tokens", Integer),
    Column("reasoning_tokens", Integer),
    Column("estimated", Boolean, nullable=False),
    Column("cost", Double),
    Column("unpriced", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("hedged", Boolean, nullable=False),
    Column("fallbacks", Integer, nullable=False),
    Column("tokens_saved", Integer),
    Index("requests_started", "started"),
)
"""One row for each request that asked an upstream. `started` is Unix time, and `hour` the same in whole hours;
`duration` and `first_token` are in seconds. `estimated` marks tokens that no upstream has counted, `unpriced` requests
whose `cost` is incomplete.
"""

WRITTEN = Table(
    "written_batches",
    METADATA,
    Column("source", Text, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("written", Double, nullable=False),
)
"""The number of the last batch of rows from each source, so that none is written twice."""

SPENDING = Table(
    "spending",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("cost", Double, nullable=False),
)
"""The amount that each key has spent on each day, in UTC."""

RECENT = Table(
    "recent_requests",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("requests", Integer, nullable=False),
    Column("written", Double, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
"""The last requests with their attempts, for workers that did not serve them. Each row is a batch, as JSON in UTF-8."""
