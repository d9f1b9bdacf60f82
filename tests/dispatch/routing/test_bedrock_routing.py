"""Which of Bedrock's providers a model's name means: its models, its agents, or neither."""

from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidRequest, UnknownModel
from tests.dispatch.routing.test_routing import catalogue, target_of

AWS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-central-1"}
AGENTS = {**AWS, "AGENT_ID": "AGENTID", "AGENT_ALIAS_ID": "ALIAS", "AGENTS": "sales=A1/B1,support=A2/B2"}
IDS = [
    "amazon.nova-lite-v1:0",
    "anthropic.claude-haiku-4-5-20251001-v1:0",
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "eu.amazon.nova-pro-v1:0",
    "apac.amazon.nova-micro-v1:0",
    "global.anthropic.claude-opus-4-5-20251101-v1:0",
    "us-gov.anthropic.claude-3-haiku-20240307-v1:0",
    "jp.some-vendor.model",
    "mistral.mistral-large-2402-v1:0",
    "deepseek.r1-v1:0",
    "qwen.qwen3-32b-v1:0",
    "meta.llama3-3-70b-instruct-v1:0",
    "cohere.command-r-plus-v1:0",
    "openai.gpt-oss-120b-1:0",
    "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.amazon.nova-lite-v1:0",
]


@pytest.mark.parametrize("model", [each for each in IDS if "some-vendor" not in each])
@pytest.mark.parametrize("default", [{"OPENAI_API_KEY": "k"}, {"OCI_REGION": "eu-frankfurt-1"}, AGENTS, {}], ids=str)
def test_a_bare_id_is_a_model_of_bedrocks(model: str, default: dict[str, str]) -> None:
    assert target_of(catalogue(**{**AWS, **default}), model) == ("bedrock-models", model)


@pytest.mark.parametrize("model", ["amazon.nova-lite-v1:0", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"])
def test_without_credentials_it_says_what_is_missing(model: str) -> None:
    with pytest.raises(InvalidRequest, match="AWS_ACCESS_KEY_ID") as caught:
        target_of(catalogue(OPENAI_API_KEY="k"), model)
    assert caught.value.code == "provider_not_configured"


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o-mini",
        "llama3.2:1b",
        "qwen2.5:7b",
        "anthropic/claude",
        "mistral-small-latest",
        "us",
        "eu.",
        "deepseek-chat",
    ],
)
def test_other_names_are_the_defaults(model: str) -> None:
    assert target_of(catalogue(**AWS, OPENAI_API_KEY="k"), model) == ("openai", model)


@pytest.mark.parametrize("model", ["cohere.command-a-03-2025", "meta.llama-3.3-70b-instruct", "openai.gpt-5"])
def test_ocis_names_stay_its_own(model: str) -> None:
    assert target_of(catalogue(**AWS, OCI_REGION="eu-frankfurt-1", OCI_API_KEY="k"), model)[0] == "oci"


def test_bedrock_by_another_name_keeps_its_models() -> None:
    variables = {**AWS, "BEDROCK_OPENAI_API_KEY": "k"}
    where = catalogue("bedrock-openai", **variables)
    assert target_of(where, "openai.gpt-oss-20b-1:0") == ("bedrock-openai", "openai.gpt-oss-20b-1:0")
    assert target_of(catalogue(**variables, OPENAI_API_KEY="k"), "openai.gpt-oss-20b-1:0")[0] == "bedrock-models"


@pytest.mark.parametrize("model", ["amazon.nova-lite-v1:0", "eu.amazon.nova-pro-v1:0", "anthropic.claude-3-haiku-v1:0"])
@pytest.mark.parametrize("settings", [AGENTS, AWS, {**AGENTS, "OPENAI_API_KEY": "k"}], ids=len)
def test_bedrock_and_an_id_is_a_model(model: str, settings: dict[str, str]) -> None:
    where = catalogue(**settings)
    assert target_of(where, f"bedrock/{model}") == ("bedrock-models", model)
    assert target_of(where, model, "bedrock") == ("bedrock-models", model)


def test_bedrock_and_an_agents_name_is_the_agent() -> None:
    where = catalogue(**AGENTS, OPENAI_API_KEY="k")
    for name in ("bedrock-agent", "sales", "support"):
        assert target_of(where, f"bedrock/{name}") == ("bedrock", name)


def test_a_name_that_no_agent_has_is_a_404_that_lists_them() -> None:
    with pytest.raises(UnknownModel, match="the agents are bedrock-agent, sales, support") as caught:
        catalogue(**AGENTS).route("bedrock/gpt-4o-mini")
    assert (caught.value.status, caught.value.param) == (404, "model")


@pytest.mark.parametrize("model", ["gpt-4o-mini", ""])
def test_a_voice_platforms_default_is_answered_by_the_agent(model: str) -> None:
    """It names a model that no agent has; who is the default, or named beside it, answers."""
    agents: dict[str, Any] = dict(AGENTS)
    assert target_of(catalogue(**agents), model) == ("bedrock", "bedrock-agent")
    assert target_of(catalogue(**agents, OPENAI_API_KEY="k"), model, "bedrock") == ("bedrock", "bedrock-agent")


def test_a_provider_in_the_body_goes_before_the_models_prefix() -> None:
    where = catalogue(**AGENTS, GROQ_API_KEY="k")
    assert target_of(where, "bedrock/amazon.nova-lite-v1:0", "groq") == ("groq", "bedrock/amazon.nova-lite-v1:0")


def test_a_gateway_by_a_clouds_name_takes_its_place(tmp_path: Path) -> None:
    """It gets the ids of the cloud's models, and is no provider of agents."""
    file = tmp_path / "models.yaml"
    gateway = "{kind: openai_compatible, base_url: 'http://gateway/v1'}"
    file.write_text(f"providers: {{oci: {gateway}, bedrock: {gateway}, bedrock-models: {gateway}}}")
    where = catalogue(MODELS_FILE=file, OPENAI_API_KEY="k")
    assert target_of(where, "cohere.command-a-03-2025") == ("oci", "cohere.command-a-03-2025")
    assert target_of(where, "amazon.nova-lite-v1:0") == ("bedrock-models", "amazon.nova-lite-v1:0")
    assert target_of(where, "bedrock/amazon.nova-lite-v1:0") == ("bedrock", "amazon.nova-lite-v1:0")
    assert target_of(where, "bedrock/claude") == ("bedrock", "claude")


def test_one_more_account_gets_only_what_names_it(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("providers: {second: {kind: bedrock-models, profile: p}}")
    where = catalogue(MODELS_FILE=file, OPENAI_API_KEY="k", **AWS)
    assert target_of(where, "amazon.nova-lite-v1:0") == ("bedrock-models", "amazon.nova-lite-v1:0")
    assert target_of(where, "second/amazon.nova-lite-v1:0") == ("second", "amazon.nova-lite-v1:0")
