"""OCI Generative AI as the settings, the environment and models.yaml have it, told as an entry. Reads no file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dispatch.entries import Entry

DEFAULT_MODEL = "meta.llama-3.3-70b-instruct"
"""On demand in most regions, by https://docs.oracle.com/en-us/iaas/Content/generative-ai/pretrained-models.htm."""
AUTH_TYPE, CONFIG_FILE, PROFILE = "API_KEY", "~/.oci/config", "DEFAULT"
CREDENTIALS = ("user", "tenancy", "fingerprint", "key_content", "key_file", "pass_phrase", "security_token_file")


def entry(name: str, settings: Mapping[str, Any], variables: Mapping[str, str], given: Mapping[str, Any]) -> Entry:
    """The entry of an account at OCI; what models.yaml gives goes before the settings. Raises ValueError.

    It can be used once anything is said of it: a region, a compartment, a key, a profile, a way to sign in, or a
    configuration file at its usual place.
    """

    def value(field: str, setting: str, default: str = "") -> str:
        return str(given.get(field) or settings.get(setting) or default)

    options: dict[str, Any] = {
        "name": name,
        "model": given.get("model") or variables.get("OCI_MODEL") or DEFAULT_MODEL,
        "auth_type": value("auth_type", "auth_type", AUTH_TYPE),
        "config_file": value("config_file", "oci_config_file", CONFIG_FILE),
        "profile": value("profile", "oci_config_profile", PROFILE),
        "credentials": {field: given[field] for field in CREDENTIALS if field in given},
        "region": value("region", "oci_region"),
        "compartment": given.get("compartment_id") or value("compartment", "oci_compartment"),
        "places": tuple(given.get("places", ())),
        "endpoint": value("base_url", "oci_service_endpoint"),
        "api_key": given.get("api_key") or variables.get("OCI_API_KEY", ""),
        "api_format": given.get("api_format", ""),
        "proxy": given.get("proxy", ""),
        "cohere_max_tokens": settings.get("oci_cohere_max_tokens", 4000),
        "embed_truncate": settings.get("embed_truncate", "END"),
        "debug": settings.get("debug_oci_sdk", False),
    }
    said = (
        any(options[key] for key in ("credentials", "region", "compartment", "places", "api_key"))
        or options["auth_type"] != AUTH_TYPE
        or (options["config_file"], options["profile"]) != (CONFIG_FILE, PROFILE)
        or Path(CONFIG_FILE).expanduser().is_file()
    )
    missing = "" if said else "OCI_REGION and OCI_COMPARTMENT, with a key in OCI_CONFIG_FILE"
    return Entry(name, "oci", options["model"], options, missing)
