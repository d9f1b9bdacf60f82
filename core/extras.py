"""Packages that not every installation needs: the extras of pyproject.toml."""

from functools import cache
from importlib.util import find_spec


@cache
def missing_extra(extra: str, package: str) -> str:
    """What to install if `package`, which is part of an extra, is not there; "" if it is. Does not import it."""
    if find_spec(package):
        return ""
    return f"the package {package}, which is not installed (beside app.py: pip install '.[{extra}]')"
