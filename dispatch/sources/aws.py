"""The configs of Amazon Bedrock: `bedrock` for agents, `bedrock-models` for models, `agentcore-...` for AgentCore."""

import re
from collections.abc import Mapping
from typing import Any

from dispatch.routing.config import Deployment, ModelConfig, ProviderConfig
from dispatch.sources.proxies import proxy_for

HOST = "https://{service}.{region}.amazonaws.com"
"""The address that is compared with NO_PROXY to choose the environment's proxy."""
DEFAULT_AGENT = "bedrock-agent"
IDS = r"[0-9a-zA-Z]{1,10}"
AGENT = re.compile(rf"(?P<name>[!-<>-~]+)=(?P<ids>{IDS}/{IDS})")
REGION = re.compile(r"[a-z0-9-]{1,40}")
TOKEN = re.compile(r"[!-~]+")
AGENTCORE_ARN = re.compile(
    r"arn:[^:]+:bedrock-agentcore:(?P<region>[a-z0-9-]+):\d{12}:(?P<what>harness|runtime)/[a-zA-Z0-9_/-]+"
)
AGENTS, MODELS = "bedrock", "bedrock-models"
"""The kinds of the two providers, and the names under which the environment has them."""
MODEL_IDS = re.compile(
    r"(ai21|amazon|anthropic|deepseek|luma|minimax|mistral|moonshot(ai)?|nvidia|qwen|stability|twelvelabs|writer|zai)\..+"
    r"|(us|us-gov|eu|apac|jp|au|ca|sa|me|global)\.\w+\..+"
    r"|(cohere|meta|openai|google|xai)\..+:\d+(:\w+)?"
    r"|arn:aws[\w-]*:bedrock:.+"
)
"""Ids of models: a vendor's prefix, with or without a geography before it; for prefixes that OCI has too, a version
behind `:`; or ARNs. An id without a provider means the account of the environment, not one more of models.yaml.
"""
AGENT_FIELDS = ("qualifier", "prompt_field", "system_field", "text_path")
"""Options of a provider of agents, or of its models, for calls."""
SIGNS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_ROLE_ARN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""Any of these means that Amazon is to be used. A machine's own role is not visible, so models.yaml must request it."""

GEOGRAPHIES = {"us": "us.", "eu": "eu.", "ap": "apac."}
"""The first part of a region -> the inference profile for newer models there."""


def agents(
    name: str, clouds: Mapping[str, Any], variables: Mapping[str, str], given: Mapping[str, Any]
) -> ProviderConfig:
    """The agents of the settings, or the one that models.yaml gives. Raises ValueError."""
    ids = {setting: given.get(setting, clouds.get(setting, "")) for setting in ("agent_id", "agent_alias_id")}
    for setting, value in ids.items():
        if value and not re.fullmatch(IDS, value):
            raise ValueError(f"{setting.upper()} is {value!r}; allowed: up to 10 letters and digits.")
    known = {given.get("model") or DEFAULT_AGENT: "/".join(ids.values())} if all(ids.values()) else {}
    if "agent_id" not in given:
        known |= _parse_agents(clouds)
    missing = [setting.upper() for setting, value in ids.items() if not value] if any(ids.values()) or not known else []
    model = next(iter(known), DEFAULT_AGENT)
    options = {
        "name": name,
        "model": model,
        "agents": known,
        "trace": clouds.get("agent_trace", True),
        "account": _credentials(variables, given, "BEDROCK_AGENT_RUNTIME", used=bool(known)),
        **({"session_ttl": given["session_ttl"]} if "session_ttl" in given else {}),
    }
    return ProviderConfig(
        name,
        AGENTS,
        model,
        options,
        " and ".join(missing),
        accepts_any_model=True,
        agents=tuple(known),
        models_provider=MODELS if name == AGENTS else "",
    )


def agent_rows(clouds: Mapping[str, Any]) -> tuple[ModelConfig, ...]:
    """The agents of the settings, as models by name."""
    default = [DEFAULT_AGENT] if clouds.get("agent_id") and clouds.get("agent_alias_id") else []
    names = dict.fromkeys([*default, *_parse_agents(clouds)])
    return tuple(ModelConfig(name, (Deployment(AGENTS, name),), owned_by="amazon") for name in names)


def models(
    name: str, clouds: Mapping[str, Any], variables: Mapping[str, str], given: Mapping[str, Any]
) -> ProviderConfig:
    """Bedrock's models, with the environment's credentials or those of models.yaml. Raises ValueError."""
    ways = [given[key] for key in ("profile", "api_key") if key in given]
    configured = any(ways) or any(variables.get(sign) for sign in SIGNS) or (given and not ways)
    account = _credentials(variables, given, "BEDROCK_RUNTIME", used=bool(configured))
    geography = GEOGRAPHIES.get(account["region"].partition("-")[0], "")
    model = given.get("model") or clouds.get("bedrock_models_model") or f"{geography}amazon.nova-lite-v1:0"
    missing = (
        "" if configured else "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE or AWS_BEARER_TOKEN_BEDROCK"
    )
    options = {"name": name, "model": model, "account": account}
    return ProviderConfig(
        name,
        MODELS,
        model,
        options,
        missing,
        has_vendor_prefixes=True,
        model_ids=MODEL_IDS if name == MODELS else None,
    )


def agentcore(
    name: str, _: Mapping[str, Any], variables: Mapping[str, str], given: Mapping[str, Any]
) -> ProviderConfig:
    """A harness or a runtime of AgentCore, in the region of its ARN unless another is given. Raises ValueError."""
    arn, what = given.get("arn", ""), given["kind"].removeprefix("agentcore-")
    found = AGENTCORE_ARN.fullmatch(arn)
    if arn and (found is None or found["what"] != what):
        raise ValueError(f"ARN is {arn!r}; allowed: arn:aws:bedrock-agentcore:REGION:ACCOUNT:{what}/NAME.")
    region = given.get("region") or (found["region"] if found else "")
    model = given.get("model") or name
    options = {
        "name": name,
        "model": model,
        "arn": arn,
        "account": _credentials(variables, {**given, "region": region}, "BEDROCK_AGENTCORE", used=bool(arn)),
        "fields": {field: given[field] for field in AGENT_FIELDS if field in given},
        **{field: given[field] for field in ("session_ttl", "remembers") if field in given},
    }
    return ProviderConfig(name, given["kind"], model, options, "" if arn else "arn", accepts_any_model=True)


def _parse_agents(clouds: Mapping[str, Any]) -> dict[str, str]:
    """AGENTS as name -> agentId/aliasId. Raises ValueError."""
    found = {}
    for text in clouds.get("agents", ()):
        agent = AGENT.fullmatch(text)
        if agent is None:
            raise ValueError(f"AGENTS has {text!r}; allowed: name=agentId/aliasId, comma-separated.")
        found[agent["name"]] = agent["ids"]
    return found


def _credentials(variables: Mapping[str, str], given: Mapping[str, Any], service: str, *, used: bool) -> dict[str, Any]:
    """The arguments of AwsClient, besides its name; `service` is spelled as in AWS_ENDPOINT_URL_*. The environment's
    proxy is read if the account is `used`. Raises ValueError.
    """
    region = given.get("region") or variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION") or ""
    if region and not REGION.fullmatch(region):
        raise ValueError(f"AWS_REGION is {region!r}; allowed are names such as us-east-1.")
    key = given.get("api_key") or ""
    token = key[0] if isinstance(key, list) else key
    for name, value in (("api_key", token), *((sign, variables.get(sign, "")) for sign in SIGNS[:3])):
        if value and not TOKEN.fullmatch(value):
            raise ValueError(f"{name} is (not shown); allowed: visible ASCII characters, without spaces.")
    endpoint = given.get("endpoint") or given.get("base_url") or ""
    setting = variables.get(f"AWS_ENDPOINT_URL_{service}") or variables.get("AWS_ENDPOINT_URL")
    address = endpoint or setting or HOST.format(service=service.lower().replace("_", "-"), region=region)
    return {
        "variables": {name: value for name, value in variables.items() if name.startswith("AWS_")},
        "region": region,
        "profile": given.get("profile", ""),
        "endpoint": endpoint,
        "token": token,
        "proxy": given.get("proxy") or (proxy_for(address, variables) if used else ""),
    }
