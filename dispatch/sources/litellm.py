"""Translates LiteLLM's configuration to models.yaml: its `model_list`, fallbacks and aliases. Pure.

https://docs.litellm.ai/docs/proxy/configs: several deployments of one `model_name` are deployments of one model here.
Its other settings (routing strategy, callbacks, caches) have no counterpart, and the log names them.
"""

from collections.abc import Iterator, Mapping
from logging import getLogger
from typing import Any

from core.json_values import Json
from dispatch.sources.consistency import Inconsistent
from dispatch.sources.yaml_lines import YamlPath

log = getLogger("thinkline.models_file")


ENVIRONMENT = "os.environ/"
VENDORS: Mapping[str, str] = {
    "azure": "azure",
    "anthropic": "anthropic",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "codestral": "mistral",
    "deepseek": "deepseek",
    "fireworks_ai": "fireworks",
    "gemini": "gemini",
    "groq": "groq",
    "hosted_vllm": "vllm",
    "lm_studio": "lmstudio",
    "mistral": "mistral",
    "ollama": "ollama",
    "ollama_chat": "ollama",
    "openai": "openai",
    "openrouter": "openrouter",
    "text-completion-openai": "openai",
    "together_ai": "together",
    "vllm": "vllm",
    "xai": "xai",
}
"""LiteLLM's name of a vendor -> ours."""
CLOUDS: Mapping[str, str] = {"bedrock": "bedrock-models", "bedrock_converse": "bedrock-models", "oci": "oci"}
"""The same for vendors that need more than an address and a key."""
PLACES: Mapping[str, str] = {
    "aws_region_name": "region",
    "aws_profile_name": "profile",
    "oci_region": "region",
    "oci_compartment_id": "compartment",
}
STARTS: Mapping[str, str] = {
    "claude": "anthropic",
    "command": "cohere",
    "deepseek": "deepseek",
    "gemini": "gemini",
    "mistral": "mistral",
}
"""Prefixes of model names that have no vendor before them; all other names are OpenAI's."""
ANY_SERVER = frozenset({"openai", "text-completion-openai", "custom_openai", "openai_like", "litellm_proxy"})
"""Vendors that mean any server, if there is an address."""
BEDROCK_ROUTES = ("converse/", "converse_like/", "invoke/")
DEFAULTS = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop", "reasoning_effort")
"""Parameters for requests that do not have them."""
HEEDED = frozenset({"model_list", "router_settings", "litellm_settings"})


def is_litellm(data: Any) -> bool:
    """Whether a file is LiteLLM's."""
    return isinstance(data, dict) and "model_list" in data


def from_litellm(data: Mapping[str, Any], variables: Mapping[str, str]) -> Json:
    """The file in our shape: providers, models, aliases. Raises Inconsistent with the place in LiteLLM's file."""
    providers: dict[str, Json] = {}
    models: dict[str, Json] = {}
    for at, given in enumerate(_rows(data.get("model_list"))):
        place: YamlPath = ("model_list", at)
        name, params = given.get("model_name"), given.get("litellm_params")
        if not isinstance(name, str) or not isinstance(params, dict) or not isinstance(params.get("model"), str):
            raise Inconsistent(place, "it needs a model_name, and litellm_params with a model")
        if "*" in name:  # names with a provider before the model need no row
            continue
        params = {
            key: _resolve_variables(value, variables, (*place, "litellm_params", key)) for key, value in params.items()
        }
        provider, model = _provider(params, providers)
        row = models.setdefault(name, {"name": name, "model": model, "upstreams": [], **_beside(params, given)})
        row["upstreams"].append({"provider": provider, "model": model, **_share(params)})
    settings = [data.get(key) or {} for key in ("litellm_settings", "router_settings")]
    for name, others in _fallbacks(settings, list(models)).items():
        models[name]["fallbacks"] = others
    if ignored := sorted(data.keys() - HEEDED):
        log.info("settings of LiteLLM's that have no counterpart here", extra={"facts": {"settings": ignored}})
    return {"providers": providers, "models": list(models.values()), "aliases": _aliases(settings, models)}


def _rows(given: Any) -> list[Json]:
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise Inconsistent(("model_list",), "it must be a list of models")
    return given


def _resolve_variables(value: Any, variables: Mapping[str, str], place: YamlPath) -> Any:
    if not isinstance(value, str) or not value.startswith(ENVIRONMENT):
        return value
    name = value.removeprefix(ENVIRONMENT)
    if name not in variables:
        raise Inconsistent(place, f"the variable {name} is not set")
    return variables[name]


def _provider(params: Json, providers: dict[str, Json]) -> tuple[str, str]:
    """The provider of a deployment, which is added to `providers`, and the model's name there."""
    vendor, model = _vendor_and_model(params)
    address = str(params.get("api_base") or params.get("base_url") or "")
    if address and (vendor in ANY_SERVER or vendor not in VENDORS.keys() | CLOUDS.keys()):
        row: Json = {"kind": "openai_compatible"}
    elif vendor in CLOUDS:
        row = {"kind": CLOUDS[vendor]}
    else:
        row = {"vendor": VENDORS[vendor]} if vendor in VENDORS else {"kind": vendor}
    if vendor in CLOUDS:
        model = next((model.removeprefix(each) for each in BEDROCK_ROUTES if model.startswith(each)), model)
        row |= {ours: params[theirs] for theirs, ours in PLACES.items() if params.get(theirs)}
    row |= {"base_url": address} if address else {}
    row |= {"api_key": str(params["api_key"])} if params.get("api_key") else {}
    seconds = params.get("timeout")
    row |= {"timeout": seconds} if isinstance(seconds, (int, float)) and seconds > 0 else {}
    if row.keys() <= {"vendor", "kind"} and (known := row.get("vendor") or CLOUDS.get(vendor)):
        return known, model  # the environment has it already
    stem = row.get("vendor", vendor)
    names = (f"{stem}-{number}" for number in range(1, len(providers) + 2))
    name = next(each for each in names if providers.get(each, row) == row)
    providers[name] = row
    return name, model


def _vendor_and_model(params: Json) -> tuple[str, str]:
    """LiteLLM's vendor and the model's name there: `azure/gpt-4o` is azure's gpt-4o."""
    model = params["model"]
    if given := params.get("custom_llm_provider"):
        return str(given), model.removeprefix(f"{given}/")
    prefix, slash, rest = model.partition("/")
    if slash and (prefix in VENDORS or prefix in CLOUDS or prefix in ANY_SERVER or not params.get("api_base")):
        return prefix, rest
    return next((vendor for start, vendor in STARTS.items() if model.startswith(start)), "openai"), model


def _share(params: Json) -> Json:
    """The deployment's share of the requests, from 1 to 100."""
    share = {key: params[key] for key in ("weight", "rpm") if isinstance(params.get(key), int) and params[key] > 0}
    return {**share, **({"weight": min(share["weight"], 100)} if "weight" in share else {})}


def _beside(params: Json, given: Json) -> Json:
    """A model's default parameters, and its price per million tokens."""
    defaults = {key: params[key] for key in DEFAULTS if params.get(key) is not None}
    options: Json = {"params": {"add": defaults}} if defaults else {}
    info = {**params, **(given.get("model_info") or {})}
    prices = [info.get(f"{kind}_cost_per_token") for kind in ("input", "output")]
    if all(isinstance(price, (int, float)) for price in prices):
        prompt, completion = (round(price * 1e6, 6) for price in prices if price is not None)
        options["price"] = {"prompt": prompt, "completion": completion}
    return options


def _fallbacks(settings: list[Json], names: list[str]) -> dict[str, list[str]]:
    """Each model's fallbacks that exist, without those that lead back to the model."""
    found: dict[str, list[str]] = {}
    for name, others in _pairs(settings, names):
        for other in others:
            if other in names and other != name and name not in _reachable(other, found):
                found.setdefault(name, []).append(other)
    return found


def _pairs(settings: list[Json], names: list[str]) -> Iterator[tuple[str, list[str]]]:
    given = [each for section in settings for each in section.get("fallbacks") or () if isinstance(each, dict)]
    own = {name: others for each in given for name, others in each.items() if name in names}
    common: list[str] = next(
        (section["default_fallbacks"] for section in settings if section.get("default_fallbacks")), []
    )
    yield from own.items()
    yield from ((name, common) for name in names if name not in own)


def _reachable(name: str, found: Mapping[str, list[str]]) -> set[str]:
    ahead, seen = [name], set[str]()
    while ahead:
        each = ahead.pop()
        if each not in seen:
            seen.add(each)
            ahead += found.get(each, [])
    return seen


def _aliases(settings: list[Json], models: Mapping[str, Json]) -> dict[str, str]:
    found: dict[str, str] = {}
    for section in settings:
        for alias, name in (section.get("model_group_alias") or {}).items():
            target = name.get("model") if isinstance(name, dict) else name
            if isinstance(target, str) and target in models and alias not in models:
                found[alias] = target
    return found
