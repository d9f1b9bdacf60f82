"""How many files a process may have open, and how many connections that allows."""

import resource

OWN_FILES = 100
"""Files that a worker has open besides connections: its program, logs, pipes, listeners, databases, DNS look-ups."""


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one, for this process and its children; returns what it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        return soft  # macOS says "unlimited", and means less
    return hard


def most_connections(files: int, threads: int) -> int:
    """How many callers' connections a limit of open files allows. Each thread may also have one to an upstream."""
    left = files - OWN_FILES
    return max(1, left - threads, left // 2)
