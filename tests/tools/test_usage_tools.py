"""python -m tools.database and make prices."""

from pathlib import Path

import orjson
import pytest

from storage.migrations import REVISIONS
from tests.conftest import ROOT, environment
from tools import database, prices

LISTED = {
    "gpt-x": {
        "litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07,
        "cache_read_input_token_cost": 7.5e-08,
    },
    "groq/llama-x": {
        "litellm_provider": "groq", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06,
        "output_cost_per_reasoning_token": 3e-06, "cache_creation_input_token_cost": 0.0,
    },
    "long-x": {
        "litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 8e-06,
        "cache_read_input_token_cost": 1e-07, "output_cost_per_reasoning_token": 8e-06,
        "input_cost_per_token_above_272k_tokens": 2e-06, "output_cost_per_token_above_272k_tokens": 12e-06,
        "input_cost_per_token_above_272k_tokens_priority": 4e-06, "input_cost_per_token_batches": 5e-07,
    },
    "embed-x": {"litellm_provider": "openai", "mode": "embedding", "input_cost_per_token": 2e-08},
    "free-x": {
        "litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 0.0, "output_cost_per_token": 0.0,
    },
    "half-x": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-06},
    "odd-x": {
        "litellm_provider": "openai", "mode": "chat", "input_cost_per_token": "1e-06", "output_cost_per_token": -1,
    },
    "picture-x": {"litellm_provider": "openai", "mode": "image_generation", "input_cost_per_token": 1e-06},
    "other-x": {
        "litellm_provider": "nobody", "mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_token": 1e-06,
    },
    "openai.gpt-oss-x": {
        "litellm_provider": "bedrock_converse", "mode": "chat", "input_cost_per_token": 1e-06,
        "output_cost_per_token": 1e-06,
    },
    "sample_spec": {"litellm_provider": "one of https://docs.litellm.ai/docs/providers"},
}  # fmt: skip


LONG = [1.0, 8.0, 0.1, 8.0, None, [272_000, [2.0, 12.0, 0.1]]]


def test_the_table_has_our_vendors_models_of_known_price() -> None:
    made = prices.table(LISTED, "1.2.3", "2026-11-30")
    assert made["vendors"] == {
        "openai": {"gpt-x": [0.15, 0.6, 0.075], "long-x": LONG, "embed-x": [0.02, 0.0]},
        "groq": {"llama-x": [1.0, 2.0, None, 3.0]},
        "bedrock-models": {"openai.gpt-oss-x": [1.0, 1.0]},
        "bedrock-openai": {"openai.gpt-oss-x": [1.0, 1.0]},
    }
    assert (made["version"], made["date"]) == ("1.2.3", "2026-11-30")
    assert "MIT" in made["licence"]


def test_the_table_in_the_tree_is_one_that_was_made_so() -> None:
    table = orjson.loads((ROOT / "usage" / "prices.json").read_bytes())
    assert set(table["vendors"]) <= set(prices.VENDORS.values())
    for models in table["vendors"].values():
        for found in models.values():
            tokens, above = found.pop() if len(found) > 5 else (1, found)
            assert tokens > 0
            for each in (found, above):
                assert 2 <= len(each) <= 5
                assert all(price is None or 0 <= price < 100_000 for price in each)
            assert above[0] >= found[0]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def start(*arguments: str, **settings: object) -> str:
        for name, value in environment(DATA_DIR=tmp_path, **settings).items():
            monkeypatch.setenv(name, value)
        failure = database.main(list(arguments))
        return failure or capsys.readouterr().out

    return start


def test_the_database_goes_up_and_down(run, tmp_path: Path) -> None:
    assert "has version base" in run()
    assert f"has version {REVISIONS[-1]}" in run("upgrade")
    assert f"has version {REVISIONS[-1]}" in run()
    assert "has version base" in run("downgrade", "base")
    assert f"has version {REVISIONS[-1]}" in run("upgrade")


@pytest.mark.parametrize("arguments", [["sideways"], ["downgrade"], ["downgrade", "9999"], ["upgrade", "x"]])
def test_what_it_does_not_know_is_explained(run, arguments: list[str]) -> None:
    assert "Versions: base, 0001" in run(*arguments)


def test_what_is_wrong_is_said_without_the_password(run) -> None:
    said = run(DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/x")
    assert "cannot be used" in said
    assert "hunter2" not in said
    assert "DATABASE_URL is none that is known" in run(DATABASE_URL="mysql://u:hunter2@db/x")
