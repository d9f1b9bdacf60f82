"""JSON as Python values, and the exceptions of reading JSON of an unexpected shape."""

from typing import Any

BAD_SHAPE = (ValueError, TypeError, AttributeError, LookupError)
"""The exceptions of reading JSON of an unexpected shape."""

Json = dict[str, Any]
