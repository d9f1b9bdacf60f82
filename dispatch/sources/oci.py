"""OCI Generative AI as a source: the settings, the environment and models.yaml become a config. Reads no file."""

import os
import re
from collections.abc import Mapping
from typing import Any

from dispatch.routing.config import ProviderConfig
from dispatch.sources.addresses import VISIBLE, is_address
from dispatch.sources.proxies import proxy_for
from providers.vendors import OCI_PREFIXES

OCI, OCI_AGENT = "oci", "oci-agent"
"""The kinds of the two providers; the environment has the first under that name."""
MODEL_IDS = re.compile("|".join(re.escape(prefix) + ".*" for prefix in OCI_PREFIXES), re.DOTALL)
"""Ids of on-demand models. One without a provider means the account of the environment, not one more of models.yaml."""
DEFAULT_MODEL = "meta.llama-3.3-70b-instruct"
"""On demand in most regions: https://docs.oracle.com/en-us/iaas/Content/generative-ai/pretrained-models.htm."""
AUTH_TYPE, CONFIG_FILE, PROFILE = "API_KEY", "~/.oci/config", "DEFAULT"
AGENT_HOST = "https://agent-runtime.generativeai.{region}.oci.oraclecloud.com"
HOST = "https://inference.generativeai.{region}.oci.oraclecloud.com"
"""The addresses that are compared with NO_PROXY to choose the environment's proxy."""
MISSING = "OCI_REGION and OCI_COMPARTMENT, and a key in OCI_CONFIG_FILE or another AUTH_TYPE"
REGION = re.compile(r"[A-Za-z0-9-]{1,40}")
AGENT_ENDPOINT = re.compile(r"ocid1\.genaiagentendpoint\.[A-Za-z0-9._-]{1,250}")
CREDENTIALS = ("user", "tenancy", "fingerprint", "key_content", "key_file", "pass_phrase", "security_token_file")


def entry(
    name: str, settings: Mapping[str, Any], variables: Mapping[str, str], given: Mapping[str, Any]
) -> ProviderConfig:
    """The config of an account at OCI; the options of models.yaml go before the settings. Raises ValueError.

    It can be used if there is a way to a credential: the environment names a region, a compartment or a key; a profile
    or another way to sign in is given; or there is a configuration file at its usual place.
    """

    def value(field: str, setting: str, default: str = "") -> str:
        return str(given.get(field) or settings.get(setting) or default)

    options: dict[str, Any] = {
        "name": name,
        "model": value("model", "oci_model", DEFAULT_MODEL),
        "auth_type": value("auth_type", "auth_type", AUTH_TYPE),
        "config_file": value("config_file", "oci_config_file", CONFIG_FILE),
        "profile": value("profile", "oci_config_profile", PROFILE),
        "credentials": {field: given[field] for field in CREDENTIALS if given.get(field)},
        "region": value("region", "oci_region"),
        "compartment": given.get("compartment_id") or value("compartment", "oci_compartment"),
        "places": tuple(given.get("places", ())),
        "endpoint": value("base_url", "oci_service_endpoint"),
        "api_key": given.get("api_key") or settings.get("oci_api_key", ""),
        "api_format": given.get("api_format", ""),
        "proxy": given.get("proxy", ""),
        "cohere_max_tokens": settings.get("oci_cohere_max_tokens", 4000),
        "embed_truncate": settings.get("embed_truncate", "END"),
        "debug": settings.get("debug_oci_sdk", False),
    }
    _check(options)
    is_configured = (
        any(settings.get(field) for field in ("oci_region", "oci_compartment"))
        or any(options[key] for key in ("credentials", "api_key"))
        or options["auth_type"] != AUTH_TYPE
        or (options["config_file"], options["profile"]) != (CONFIG_FILE, PROFILE)
        or os.path.isfile(os.path.expanduser(CONFIG_FILE))  # noqa: PTH111, PTH113 - these know homes that cannot be read
    )
    if is_configured and not options["proxy"]:
        options["proxy"] = proxy_for(options["endpoint"] or HOST.format(region=options["region"]), variables)
    missing = "" if is_configured else MISSING
    model_ids = MODEL_IDS if name == OCI else None
    return ProviderConfig(name, OCI, options["model"], options, missing, model_ids=model_ids)


def agent(
    name: str, settings: Mapping[str, Any], variables: Mapping[str, str], given: Mapping[str, Any]
) -> ProviderConfig:
    """The config of an agent's endpoint, with the account of the settings or of models.yaml. Raises ValueError."""
    account = entry(name, settings, variables, given).options
    agent_endpoint, model = given.get("agent_endpoint", ""), given.get("model") or name
    if agent_endpoint and not AGENT_ENDPOINT.fullmatch(agent_endpoint):
        raise ValueError(f"AGENT_ENDPOINT is {agent_endpoint!r}; allowed are OCIDs: ocid1.genaiagentendpoint.oc1...")
    endpoint = given.get("base_url", "")
    options = {
        "name": name,
        "model": model,
        "agent_endpoint": agent_endpoint,
        "login": {
            "auth_type": account["auth_type"],
            "config_file": account["config_file"],
            "profile": account["profile"],
            "given": account["credentials"],
        },
        "region": account["region"],
        "endpoint": endpoint,
        "proxy": given.get("proxy") or proxy_for(endpoint or AGENT_HOST.format(region=account["region"]), variables),
        "debug": account["debug"],
        **({"session_ttl": given["session_ttl"]} if "session_ttl" in given else {}),
    }
    missing = "" if agent_endpoint else "agent_endpoint"
    return ProviderConfig(name, OCI_AGENT, model, options, missing, accepts_any_model=True)


def _check(options: Mapping[str, Any]) -> None:
    """Raise ValueError, with the setting's name, for values that can never be used."""
    if options["api_key"] and not VISIBLE.fullmatch(options["api_key"]):
        raise ValueError("OCI_API_KEY is (not shown); allowed: visible ASCII characters, without spaces.")
    if options["endpoint"] and not is_address(options["endpoint"]):
        raise ValueError("OCI_SERVICE_ENDPOINT is no http:// or https:// address, without a password.")
    if options["compartment"] and not VISIBLE.fullmatch(options["compartment"]):
        raise ValueError(
            f"OCI_COMPARTMENT is {options['compartment']!r}; allowed are OCIDs: ocid1.compartment.oc1..aaaa."
        )
    if options["region"] and not REGION.fullmatch(options["region"]):
        raise ValueError(f"OCI_REGION is {options['region']!r}; allowed are names such as us-chicago-1.")
