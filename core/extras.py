"""Packages that not every installation needs: the extras of pyproject.toml."""

from functools import cache
from importlib.util import find_spec


@cache
def missing_extra(extra: str, package: str) -> str:
    """The hint how to install `package` of an extra; "" if it is installed. Does not import the package."""
    if find_spec(package):
        return ""
    return f"the package {package}, which is not installed (beside app.py: pip install '.[{extra}]')"
