"""The dialects that the common suite speaks through (tests/test_dialects.py): to plug one in, add a row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .openai import OpenAIUpstream
from .scripted import Scripted


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


DIALECTS = (
    Dialect(
        "openai",
        OpenAIUpstream,
        lambda upstream: {"OPENAI_API_KEY": upstream.key, "OPENAI_BASE_URL": upstream.base_url},
        "gpt-4o-mini",
        {"reasoning": "api.openai.com keeps its thinking to itself"},
    ),
)
