"""The steps from one version of the database to the next, by Alembic."""

REVISIONS = ("0001",)
"""All versions that this code knows, oldest first; the last is what it works with."""
