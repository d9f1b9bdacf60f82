"""usage/prices.json, from LiteLLM's list: https://github.com/BerriAI/litellm, MIT licence.

make prices         or: python -m tools.prices; pip fetches the newest package for it
"""

import json
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
MOST_DIGITS = 9


def table(rows: Mapping[str, Any], version: str, date: str) -> dict[str, Any]:
    """The prices of our vendors' models, per million tokens: vendor -> model -> the fields of core.prices.Price."""
    vendors: dict[str, dict[str, list[float | None]]] = {}
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
        "currency": "USD per million tokens: prompt, completion, cached, reasoning, written to a cache",
        "vendors": vendors,
    }


def _prices(row: Mapping[str, Any]) -> list[float | None] | None:
    """The row's prices, without empty ones at the end; None if it lacks one of the first two."""
    costs = [row.get(name) for name in COSTS]
    if row.get("mode") == "embedding":
        costs[1] = costs[1] or 0.0
    prices = [_per_million(cost) for cost in costs]
    if prices[0] is None or prices[1] is None or not (prices[0] or prices[1]):
        return None
    prices[-1] = prices[-1] or None  # 0 stands for a vendor that charges nothing more for it
    while prices[-1] is None:
        prices.pop()
    return prices


def _per_million(cost: Any) -> float | None:
    is_price = isinstance(cost, (int, float)) and isfinite(cost) and cost >= 0
    return round(cost * 1e6, MOST_DIGITS) if is_price else None


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
