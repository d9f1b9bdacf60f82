"""Limits for the lists in a body. They are checked before the items, so that a refusal costs next to nothing."""

import re
from dataclasses import dataclass
from itertools import islice
from typing import Any

from core.errors import InvalidRequest

UP_TO_A_MARK = re.compile(rb'(?:[^",\[{]++|"(?:[^"\\]++|\\.)*+"?)*+(?:[,\[{]|\Z)', re.DOTALL)
"""JSON up to its next comma or opening bracket outside strings, or to its end."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings MAX_MESSAGES, MAX_ITEMS, MAX_INPUTS, MAX_DOCUMENTS and MAX_VALUES."""

    messages: int = 10_000
    items: int = 1_000
    inputs: int = 2_048
    documents: int = 10_000
    values: int = 500_000

    @property
    def least(self) -> int:
        """A body with fewer commas than this has no list that is too long."""
        return min(self.messages, self.items, self.inputs, self.documents)

    def check_values(self, raw: bytes) -> None:
        """Raise InvalidRequest for JSON with too many values: before each but the first is a comma or a bracket."""
        if raw.count(b",") + raw.count(b"[") + raw.count(b"{") <= self.values:
            return  # also if each of these characters is outside of strings
        if next(islice(UP_TO_A_MARK.finditer(raw), self.values + 2, None), None) is not None:
            raise InvalidRequest(f"The body has more values than are taken, {self.values} (MAX_VALUES).")

    def check(self, value: Any, name: str, where: str) -> None:
        """Raise InvalidRequest for a list with more items than `name` allows; `where` is its place in the body."""
        if isinstance(value, list) and len(value) > (most := getattr(self, name)):
            raise InvalidRequest(
                f"'{where}': {len(value)} items; at most {most} are taken (MAX_{name.upper()}).",
                param=where,
                code="invalid_value",
            )


DEFAULTS = Limits()
