"""LiteLLM's configuration is read as models.yaml: its models, keys, rates and fallbacks."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from core.errors import RateLimited
from core.prices import Price
from dispatch.routing.catalogue import Catalogue
from dispatch.routing.config import SourceContents
from dispatch.routing.rates import Rates
from dispatch.sources import models_file
from dispatch.sources.environment import from_environment
from dispatch.sources.models_file import CatalogueError
from providers.vendors import VENDORS
from tests.dispatch.sources.test_vendor_rows import HI
from tests.emulators.openai.server import OpenAIUpstream
from tests.support.clock import ManualClock

KNOWN = ("bedrock", "bedrock-models", "oci", "demo", *(row.name for row in VENDORS))

CONFIG = """
model_list:
  - model_name: gpt-4o
    litellm_params:
      model: azure/gpt-4o-eu
      api_base: https://eu.openai.azure.com/
      api_key: os.environ/AZURE_EU_KEY
      api_version: "2024-10-21"
      rpm: 2
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY, weight: 3}
  - model_name: claude
    litellm_params: {model: anthropic/claude-haiku-4-5, api_key: sk-ant, max_tokens: 900, temperature: 0.3}
    model_info: {input_cost_per_token: 0.000001, output_cost_per_token: 0.000005}
  - model_name: local
    litellm_params: {model: openai/qwen3, api_base: http://127.0.0.1:9000/v1, api_key: none, timeout: 20}
  - model_name: nova
    litellm_params: {model: bedrock/converse/us.amazon.nova-lite-v1:0, aws_region_name: us-east-1}
  - model_name: mistral-small
    litellm_params: {model: mistral/mistral-small-latest, api_key: mk}
  - model_name: bare
    litellm_params: {model: claude-sonnet-4-5}
  - model_name: "openai/*"
    litellm_params: {model: "openai/*"}
  - model_name: sonar
    litellm_params: {model: perplexity/sonar, api_key: pk}
litellm_settings:
  drop_params: true
  fallbacks: [{"gpt-4o": ["claude", "unheard-of"]}, {"claude": ["gpt-4o", "local"]}]
router_settings:
  routing_strategy: simple-shuffle
  model_group_alias: {"gpt-4": "gpt-4o"}
general_settings: {master_key: sk-1234}
"""
VARIABLES = {"AZURE_EU_KEY": "azure-key", "OPENAI_API_KEY": "openai-key"}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., SourceContents]:
    def read(text: str, variables: Mapping[str, str] = VARIABLES) -> SourceContents:
        path = tmp_path / "models.yaml"
        path.write_text(text)
        return models_file.read(path, variables, KNOWN)

    return read


def at(listing: SourceContents, name: str) -> list[tuple[str, str]]:
    (row,) = [row for row in listing.rows if row.name == name]
    return [(upstream.provider, upstream.model) for upstream in row.upstreams]


def test_deployments_of_one_name_are_places_of_one_model(read: Callable[..., SourceContents]) -> None:
    listing = read(CONFIG)
    entries = {entry.name: entry for entry in listing.entries}
    (azure, theirs), (openai, plain) = at(listing, "gpt-4o")
    assert (theirs, plain) == ("gpt-4o-eu", "gpt-4o")
    assert entries[azure].options["base_url"] == "https://eu.openai.azure.com/openai/v1"
    assert entries[azure].options["api_key"] == "azure-key"
    assert entries[azure].options["vendor"].key_header == "api-key"
    assert entries[openai].options["api_key"] == "openai-key"
    assert entries[openai].options["vendor"].strict
    (row,) = [row for row in listing.rows if row.name == "gpt-4o"]
    assert [(upstream.weight, upstream.rpm) for upstream in row.upstreams] == [(1, 2), (3, None)]
    assert row.aliases == ("gpt-4",)


def test_vendors_are_known_by_litellms_names(read: Callable[..., SourceContents]) -> None:
    listing = read(CONFIG)
    entries = {entry.name: entry for entry in listing.entries}
    ((local, model),) = at(listing, "local")
    assert (model, entries[local].kind) == ("qwen3", "openai_compatible")
    assert entries[local].options["base_url"] == "http://127.0.0.1:9000/v1"
    assert not entries[local].options["vendor"].strict
    assert entries[local].timeouts == {"total": 20}
    ((nova, model),) = at(listing, "nova")
    assert (model, entries[nova].kind) == ("us.amazon.nova-lite-v1:0", "bedrock-models")
    ((mistral, _),) = at(listing, "mistral-small")
    assert entries[mistral].options["vendor"].dialect.call_ids
    assert at(listing, "bare") == [("anthropic", "claude-sonnet-4-5")]
    ((sonar, _),) = at(listing, "sonar")
    assert not entries[sonar].available
    assert "openai/*" not in {row.name for row in listing.rows}


def test_defaults_prices_and_fallbacks(read: Callable[..., SourceContents]) -> None:
    rows = {row.name: row for row in read(CONFIG).rows}
    assert rows["claude"].rules.add == {"max_tokens": 900, "temperature": 0.3}
    assert rows["claude"].price == Price(1.0, 5.0)
    assert rows["gpt-4o"].fallbacks == ("claude",)
    assert rows["claude"].fallbacks == ("local",), "one that leads back is left out"


def test_a_spent_deployment_is_passed_over(read: Callable[..., SourceContents]) -> None:
    clock = ManualClock()
    where = Catalogue({"environment": from_environment({}, demo_pace_ms=0), "file": read(CONFIG)})
    where._rates = Rates(clock.now)

    def asked() -> str:
        return where.route("gpt-4o").targets[0].provider.name

    first = [asked() for _ in range(20)]
    assert first.count("azure-1") == 2
    assert {"azure-1", "openai-1"} == set(first)
    clock.advance(60.0)
    assert "azure-1" in [asked() for _ in range(4)]


def test_when_all_are_spent_the_fallback_answers_or_a_429_says_when(read: Callable[..., SourceContents]) -> None:
    limited = """
model_list:
  - {model_name: small, litellm_params: {model: openai/a, api_base: "http://127.0.0.1:9/v1", rpm: 1}}
  - {model_name: other, litellm_params: {model: openai/b, api_base: "http://127.0.0.1:9/v1"}}
FALLBACKS
"""
    environment = from_environment({}, demo_pace_ms=0)
    text = limited.replace("FALLBACKS", "router_settings: {fallbacks: [{small: [other]}]}")
    where = Catalogue({"environment": environment, "file": read(text)})
    assert [where.route("small").targets[0].model for _ in range(3)] == ["a", "b", "b"]
    where = Catalogue({"environment": environment, "file": read(limited.replace("FALLBACKS", ""))})
    where.route("small")
    with pytest.raises(RateLimited) as caught:
        where.route("small")
    assert 0 < (caught.value.retry_after or 0) <= 60


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("model_list:\n  - model_name: a\n    litellm_params: {api_key: k}\n", 2, "model_name"),
        ("model_list: nothing\n", 1, "list"),
        (
            "model_list:\n  - model_name: a\n    litellm_params:\n      model: a\n      api_key: os.environ/NOT_SET\n",
            5,
            "NOT_SET",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(read: Callable[..., SourceContents], text: str, line: int, says: str) -> None:
    with pytest.raises(CatalogueError, match=rf"models\.yaml, line {line}: .*{says}"):
        read(text)


def test_a_litellm_file_serves(app_with: Callable[..., Any], upstream: OpenAIUpstream, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "model_list:\n"
        "  - model_name: fast\n"
        "    litellm_params:\n"
        f"      {{model: openai/gpt-4o-mini, api_base: '{upstream.base_url}', api_key: os.environ/THE_KEY}}\n"
    )
    client = app_with(MODELS_FILE=path, THE_KEY=upstream.key)
    answer = client.post("/v1/chat/completions", json={"model": "fast", "messages": HI})
    assert answer.status_code == 200, answer.data
    assert upstream.received[-1].json["model"] == "gpt-4o-mini"
    assert "fast" in {row["id"] for row in client.get("/v1/models").get_json()["data"]}
