"""usage/prices.json, from LiteLLM's list: https://github.com/BerriAI/litellm, MIT licence.

make prices         or: python -m tools.prices; pip fetches the newest package for it
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

from config import ROOT

TABLE = ROOT / "usage" / "prices.json"
LIST = "litellm/model_prices_and_context_window_backup.json"
VENDORS: Mapping[str, str] = {
    "openai": "openai",
    "text-completion-openai": "openai",
    "anthropic": "anthropic",
    "deepseek": "deepseek",
    "groq": "groq",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "fireworks_ai-embedding-models": "fireworks",
    "mistral": "mistral",
    "xai": "xai",
    "openrouter": "openrouter",
    "azure": "azure",
    "azure_ai": "azure",
    "gemini": "gemini",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "bedrock": "bedrock-models",
    "bedrock_converse": "bedrock-models",
    "bedrock_mantle": "bedrock-openai",
    "oci": "oci",
}
"""LiteLLM's name of a vendor -> the row of providers/vendors.py, or the kind of a cloud."""
MODES = ("chat", "completion", "responses", "embedding")
COSTS = (
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "output_cost_per_reasoning_token",
    "cache_creation_input_token_cost",
)
"""LiteLLM's keys, in the order of core.prices.Price."""
LONG_PROMPT = re.compile(rf"{COSTS[0]}_above_([0-9]+)k_tokens")
"""LiteLLM's key of the price of a long prompt; the other COSTS of such a prompt have the same end. There are no more
prices of this kind: those with another end are for batches, or for other service tiers.
"""
MOST_DIGITS = 9


def table(rows: Mapping[str, Any], version: str, date: str) -> dict[str, Any]:
    """The prices of our vendors' models, per million tokens: vendor -> model -> the fields of core.prices.Price."""
    vendors: dict[str, dict[str, list[Any]]] = {}
    for name, row in sorted(rows.items()):
        vendor = VENDORS.get(row.get("litellm_provider"))
        if vendor is None or row.get("mode") not in MODES or (prices := _prices(row)) is None:
            continue
        # A name may begin with LiteLLM's name of the vendor, which callers here do not write.
        prefix, _, rest = name.partition("/")
        model = rest if rest and prefix in (*VENDORS, vendor) else name
        vendors.setdefault(vendor, {}).setdefault(model, prices)
    # Both of Bedrock's endpoints have these.
    for model, prices in vendors.get("bedrock-models", {}).items():
        if model.startswith("openai."):
            vendors.setdefault("bedrock-openai", {}).setdefault(model, prices)
    return {
        "source": "https://github.com/BerriAI/litellm, model_prices_and_context_window.json",
        "licence": "MIT, Copyright (c) 2023 Berri AI",
        "version": version,
        "date": date,
        "currency": "USD per million tokens: prompt, completion, cached, reasoning, written to a cache; "
        "[tokens, all of these for a prompt of more tokens]",
        "vendors": vendors,
    }


def _prices(row: Mapping[str, Any]) -> list[Any] | None:
    """The row's prices, without empty ones at the end; None if it lacks one of the first two."""
    costs = [row.get(name) for name in COSTS]
    if row.get("mode") == "embedding":
        costs[1] = costs[1] or 0.0
    prices = _per_million(costs)
    if prices[0] is None or prices[1] is None or not (prices[0] or prices[1]):
        return None
    above = _prices_of_long_prompts(row, costs)
    return [*prices, above] if above else _without_empty(prices)


def _prices_of_long_prompts(row: Mapping[str, Any], costs: list[Any]) -> list[Any] | None:
    """[tokens, prices of a prompt of more tokens]; None if the row has none. What is not dearer then is as in `costs`,
    but for thinking, which costs what the answer does.
    """
    found = sorted((int(key[1]), key[0].removeprefix(COSTS[0])) for key in map(LONG_PROMPT.fullmatch, row) if key)
    if not found:
        return None
    tokens, end = found[0]
    dearer = [row.get(name + end, None if name == COSTS[3] else cost) for name, cost in zip(COSTS, costs, strict=True)]
    return [tokens * 1000, _without_empty(_per_million(dearer))]


def _without_empty(prices: list[float | None]) -> list[float | None]:
    """Prices without empty ones at the end."""
    while prices[-1] is None:
        prices.pop()
    return prices


def _per_million(costs: list[Any]) -> list[float | None]:
    """The prices of COSTS; None for what is no price."""
    are_prices = [isinstance(cost, (int, float)) and isfinite(cost) and cost >= 0 for cost in costs]
    prices = [round(cost * 1e6, MOST_DIGITS) if fine else None for cost, fine in zip(costs, are_prices, strict=True)]
    prices[-1] = prices[-1] or None  # 0 stands for a vendor that charges nothing more for it
    return prices


def download(folder: Path) -> tuple[Any, str]:
    """Download the newest list; returns it and its package's version."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
    subprocess.run([*command, "litellm"], check=True)  # noqa: S603 - its parts are constants
    (wheel,) = folder.glob("litellm-*.whl")
    with ZipFile(wheel) as archive:
        return json.loads(archive.read(LIST)), wheel.name.split("-")[1]


def main() -> None:
    """Write the table."""
    with TemporaryDirectory() as folder:
        rows, version = download(Path(folder))
    date = datetime.now(UTC).date().isoformat()
    made = table(rows, version, date)
    vendors = made.pop("vendors")
    head = "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in made.items())
    lists = ",\n".join(
        f"{json.dumps(vendor)}: {{\n"
        + ",\n".join(f"{json.dumps(model)}: {json.dumps(prices)}" for model, prices in models.items())
        + "}"
        for vendor, models in sorted(vendors.items())
    )
    TABLE.write_text(f'{{{head}"vendors": {{\n{lists}\n}}}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
