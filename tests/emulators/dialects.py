"""The dialects that the common suite speaks through (tests/dialects/test_dialects.py): to plug one in, add a row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.anthropic.server import AnthropicUpstream
from tests.emulators.cohere.server import CohereUpstream
from tests.emulators.gemini.server import GeminiUpstream
from tests.emulators.oci.server import OCIUpstream
from tests.emulators.openai.server import OpenAIUpstream
from tests.emulators.scripted import Scripted


@dataclass(frozen=True)
class Dialect:
    """A provider of ours, and the emulated vendor that it talks to.

    `settings` are what configures the provider for that vendor; `model` is one of its that can do all the suite
    wants. `without` names the suite's conversations that it cannot have: name -> why.
    """

    name: str
    upstream: Callable[[], Scripted]
    settings: Callable[[Any], Mapping[str, str]]
    model: str
    without: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


NO_PICTURES = {"images": "it sees nothing"}
HELD = {"line kept after a stream": "its streams stay open, and are left at their finish"}
PLANS = "words, then a tool"
COHERE = {
    **NO_PICTURES,
    **HELD,
    "any tool": "the style cannot insist on one of several tools",
    PLANS: "what a whole answer says before a call is its plan, and is kept back",
    "reasoning": "the style has no thinking",
}

DIALECTS = (
    Dialect(
        "openai",
        OpenAIUpstream,
        lambda upstream: upstream.settings(),
        "gpt-4o-mini",
        {"reasoning": "api.openai.com keeps its thinking to itself"},
    ),
    Dialect(
        "gemini",
        GeminiUpstream,
        lambda upstream: {"GEMINI_API_KEY": upstream.key, "GEMINI_BASE_URL": upstream.base_url},
        "gemini-3-flash-preview",
    ),
    Dialect(
        "anthropic",
        AnthropicUpstream,
        lambda upstream: {"ANTHROPIC_API_KEY": upstream.key, "ANTHROPIC_BASE_URL": upstream.url},
        "claude-haiku-4-5",
    ),
    Dialect(
        "cohere",
        CohereUpstream,
        lambda upstream: {"COHERE_API_KEY": upstream.key, "COHERE_BASE_URL": upstream.base_url},
        "command-a-reasoning-08-2025",
        {"usage": "Cohere counts no tokens of reasoning"},
    ),
    Dialect("oci", OCIUpstream, OCIUpstream.settings, "meta.llama-4-maverick-17b-128e-instruct-fp8"),
    Dialect("oci", OCIUpstream, OCIUpstream.settings, "openai.gpt-4.1"),
    Dialect("oci", OCIUpstream, OCIUpstream.settings, "google.gemini-2.5-flash"),
    Dialect("oci", OCIUpstream, OCIUpstream.settings, "cohere.command-a-03-2025", COHERE),
    Dialect(
        "oci",
        OCIUpstream,
        OCIUpstream.settings,
        "cohere.command-a-vision",
        {"refusal": "it has no word for it", **HELD},
    ),
)
