"""The dialects that tests/dialects/test_dialects.py tests; a new one needs a row here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import yaml

from tests.emulators.anthropic.server import AnthropicUpstream
from tests.emulators.bedrock.agentcore import HARNESS, RUNTIME, AgentCoreUpstream, HarnessUpstream, RuntimeUpstream
from tests.emulators.cohere.server import CohereUpstream
from tests.emulators.gemini.server import GeminiUpstream
from tests.emulators.oci.agents import ENDPOINT, AgentUpstream
from tests.emulators.oci.server import OCIUpstream
from tests.emulators.openai.server import OpenAIUpstream
from tests.emulators.scripted import Scripted


@dataclass(frozen=True)
class Dialect:
    """A provider of ours, and the emulated vendor that it talks to.

    `settings` are what configures the provider for that vendor; `model` is one of its that can do all the suite
    wants. `without` names the suite's conversations and faults that it cannot have: name -> why. `providers` are those
    of models.yaml, for what only that can configure; `opens` the requests before a chat's own; `counts` whether it
    tells tokens.
    """

    name: str
    upstream: Callable[[], Scripted]
    settings: Callable[[Any], Mapping[str, str]]
    model: str
    without: Mapping[str, str] = field(default_factory=dict)
    providers: Callable[[Any], Mapping[str, Any]] = lambda _: {}
    opens: int = 0
    counts: bool = True

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

OWN = "an agent has its own"
LONE = {
    "any tool": "an agent cannot be made to call",
    "a named tool": "an agent cannot be made to call",
    "images": "an agent takes text",
    "JSON schema": "an agent answers in text",
    "JSON object": "an agent answers in text",
    "parameters": OWN,
    "an unknown model": "any name is the agent's",
}
TOOLLESS = {
    **LONE,
    "a schema with $ref": OWN,
    "instructions": OWN,
    "parallel tools": OWN,
    "reasoning": OWN,
    "usage": "it counts none of the cache",
    "length": "it has no word for it",
    "refusal": "it has no word for it",
    "an unknown call's result": "a result that it does not wait for is told as what was said",
}

ENDLESS = dict.fromkeys(
    ("no_finish", "done_without_finish", "no_done", "held_after_finish", "held_after_done", "finished_twice"),
    "the end of the response is the only end that its stream is known to have",
)

AGENTS = (
    Dialect(
        "concierge",
        HarnessUpstream,
        lambda upstream: upstream.settings,
        "concierge",
        {
            **LONE,
            "usage": "it counts no tokens of reasoning",
            "comments_only": "its stream is none of SSE",
            "lump": "it has no other form",
        },
        lambda upstream: _agentcore("concierge", "harness", HARNESS, upstream),
    ),
    Dialect(
        "app",
        RuntimeUpstream,
        lambda upstream: upstream.settings,
        "app",
        {**TOOLLESS, **ENDLESS, PLANS: OWN, "a tool without arguments": OWN},
        lambda upstream: _agentcore("app", "runtime", RUNTIME, upstream),
        counts=False,
    ),
    Dialect(
        "oci-help",
        AgentUpstream,
        lambda upstream: upstream.settings,
        "oci-help",
        {**TOOLLESS, **ENDLESS},
        lambda upstream: {"oci-help": {"kind": "oci-agent", "agent_endpoint": ENDPOINT, "base_url": upstream.url}},
        opens=1,
    ),
)
"""Agents that keep sessions, which have no settings but in models.yaml."""


def _agentcore(name: str, what: str, arn: str, upstream: AgentCoreUpstream) -> Mapping[str, Any]:
    return {name: {"kind": f"agentcore-{what}", "arn": arn, "base_url": upstream.url}}


def models_file(providers: Mapping[str, Any]) -> str:
    """The path of a models.yaml with these providers."""
    path = Path(mkdtemp(dir=Path.home()), "models.yaml")
    path.write_text(yaml.safe_dump({"providers": dict(providers)}))
    return str(path)
