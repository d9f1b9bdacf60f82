"""The table of dialects -> provider classes. A module is imported only when a provider of its kind is configured.

An OpenAI-shaped vendor is a row in vendors.py, not a line here.
"""

from importlib import import_module
from typing import Any

from core.extras import missing_extra
from providers.base import Provider

PROVIDERS = {
    "agentcore-harness": "providers.bedrock.agentcore.harness:AgentCoreHarness",
    "agentcore-runtime": "providers.bedrock.agentcore.runtime:AgentCoreRuntime",
    "anthropic": "providers.anthropic.provider:Anthropic",
    "bedrock": "providers.bedrock.agents.provider:BedrockAgent",
    "bedrock-models": "providers.bedrock.models.provider:BedrockModels",
    "cohere": "providers.cohere.provider:Cohere",
    "demo": "providers.demo.provider:DemoProvider",
    "gemini": "providers.gemini.provider:Gemini",
    "ideogram": "providers.images.ideogram:Ideogram",
    "oci": "providers.oci.provider:OCI",
    "oci-agent": "providers.oci.agents.provider:OciAgent",
    "openai_compatible": "providers.openai_compatible.provider:OpenAICompatible",
    "recraft": "providers.images.recraft:Recraft",
}

PACKAGES = {"oci": ("oci", "oci"), "bedrock": ("aws", "botocore"), "bedrock-models": ("aws", "botocore")}
"""Kinds that need an optional dependency -> the extra, and its package."""


def missing_package(kind: str) -> str:
    """The package to install for a provider of a kind; "" if none is missing."""
    return missing_extra(*PACKAGES[kind]) if kind in PACKAGES else ""


def build(kind: str, options: dict[str, Any]) -> Provider:
    """A provider of a kind. Raises ValueError for options that it cannot be built from."""
    module, _, name = PROVIDERS[kind].partition(":")
    provider: Provider = getattr(import_module(module), name)(**options)
    return provider
