"""How much a body may list. It is counted before anything looks at the items: a refusal costs next to nothing then."""

import re
from dataclasses import dataclass
from itertools import islice
from typing import Any

from core.errors import InvalidRequest

UP_TO_A_MARK = re.compile(rb'(?:[^",\[{]++|"(?:[^"\\]++|\\.)*+"?)*+(?:[,\[{]|\Z)', re.DOTALL)
"""JSON as far as its next comma or opening bracket, past whole strings; or its end."""


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
        """No list is too long in a body of fewer commas than this."""
        return min(self.messages, self.items, self.inputs, self.documents)

    def check_values(self, raw: bytes) -> None:
        """Raise InvalidRequest for JSON of too many values: each but the first has a comma or a bracket before it."""
        if raw.count(b",") + raw.count(b"[") + raw.count(b"{") <= self.values:
            return  # whatever stands in strings
        if next(islice(UP_TO_A_MARK.finditer(raw), self.values + 2, None), None) is not None:
            raise InvalidRequest(f"The body has more values than are taken, {self.values} (MAX_VALUES).")

    def check(self, value: Any, name: str, where: str) -> None:
        """Raise InvalidRequest for a list of more than `name` allows; `where` is its place in the body."""
        if isinstance(value, list) and len(value) > (most := getattr(self, name)):
            raise InvalidRequest(
                f"'{where}': {len(value)} items; at most {most} are taken (MAX_{name.upper()}).",
                param=where,
                code="invalid_value",
            )


DEFAULTS = Limits()
