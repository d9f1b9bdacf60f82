"""JSON as Python values, and the exceptions of reading JSON of an unexpected shape."""

from typing import Any

BAD_SHAPE = (ValueError, TypeError, AttributeError, LookupError)
"""The exceptions of reading JSON of an unexpected shape."""

Json = dict[str, Any]

JSON_STRING = rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+"'
"""A pattern of a JSON string in UTF-8, without escaped surrogates, which only a parser can check."""
