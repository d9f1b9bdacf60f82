"""JSON as Python values, and what reading it raises where its shape is another."""

from typing import Any

BAD_SHAPE = (ValueError, TypeError, AttributeError, LookupError)
"""What reading JSON of another shape than the expected raises."""

Json = dict[str, Any]
