"""Prices of vendors' models, from prices.json, which names its source and date; `make prices` renews it.

Prices are in US dollars per million tokens. A model that is not listed has no known price, which is not a price of 0.
"""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import orjson

from core.prices import Price

TABLE = Path(__file__).parent / "prices.json"
GEOGRAPHY = re.compile(r"(us|us-gov|eu|apac|jp|au|ca|sa|me|global)\.(?=\w+\.)")
"""The prefix of a Bedrock model's id that stands for several regions."""
ABOVE = 5
"""The place of `above` in a price of the table."""
FREE = Price(0, 0)
DEMO = "demo"
"""The kind of the provider that is built in."""


@cache
def _table() -> Any:
    return orjson.loads(TABLE.read_bytes())


@lru_cache(maxsize=10_000)
def price_of(vendor: str, model: str) -> Price | None:
    """The price of a vendor's model; None if it is not known."""
    if vendor == DEMO:
        return FREE
    prices = _table()["vendors"].get(vendor, {})
    found = prices.get(model) or prices.get(GEOGRAPHY.sub("", model, count=1))
    return _price(found) if found else None


def _price(fields: Sequence[Any]) -> Price:
    """A price of the table: the fields of Price in their order, where `above` is [tokens, fields]."""
    above: list[Any] = [(tokens, _price(others)) for tokens, others in fields[ABOVE:]]
    return Price(*fields[:ABOVE], *above)
