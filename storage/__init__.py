"""Stores for values that outlive a request: SQLite, PostgreSQL, Redis."""
