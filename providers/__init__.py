"""The table of dialects: which class speaks which. A module is loaded only when a provider of its kind is configured.

An OpenAI-shaped vendor is no line here but a row in vendors.py.
"""

from importlib import import_module
from typing import Any

from providers.base import Provider

PROVIDERS = {
    "anthropic": "providers.anthropic:Anthropic",
    "bedrock": "providers.bedrock_agent:BedrockAgent",
    "bedrock-models": "providers.bedrock_models:BedrockModels",
    "cohere": "providers.cohere:Cohere",
    "demo": "providers.demo:DemoProvider",
    "gemini": "providers.gemini:Gemini",
    "ideogram": "providers.ideogram:Ideogram",
    "oci": "providers.oci:OCI",
    "openai_compatible": "providers.openai_compatible:OpenAICompatible",
    "recraft": "providers.recraft:Recraft",
}


def build(kind: str, options: dict[str, Any]) -> Provider:
    """A provider of a kind. Raises ValueError for options that it cannot be built from."""
    module, _, name = PROVIDERS[kind].partition(":")
    provider: Provider = getattr(import_module(module), name)(**options)
    return provider
