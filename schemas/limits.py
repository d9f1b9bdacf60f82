"""How much a body may list. It is counted before anything looks at the items: a refusal costs next to nothing then."""

import re
from dataclasses import dataclass
from typing import Any

from errors import InvalidRequest

STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


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
        if _marks(raw) > self.values and _marks(STRING.sub(b"", raw)) > self.values:
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


def _marks(raw: bytes) -> int:
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")
