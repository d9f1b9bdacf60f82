"""The steps from one version of the database to the next, by Alembic."""

REVISIONS = ("0001",)
"""All revisions that this code knows, oldest first; it works with the last one."""
