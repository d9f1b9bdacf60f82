"""How a model speaks on the phone: `voice` of its row in models.yaml, as pure values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where tools are carried out, and the key that signs what is sent there; `timeout` in seconds."""

    url: str
    secret: str = field(default="", repr=False)
    timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class VoiceConfig:
    """instructions    the system message; {{name}} stands for a fact of the call
    greeting        the first sentence, "" for none
    platform_tools  names of tools that the platform carries out (voice/tools.py), None for the usual ones
    transfer_to     the only numbers that calls are transferred to; none: any
    sounds          recordings that may be played, by name
    tools           functions that the webhook carries out, as OpenAI spells them
    """

    instructions: str = ""
    greeting: str = ""
    platform_tools: tuple[str, ...] | None = None
    transfer_to: tuple[str, ...] = ()
    sounds: Mapping[str, str] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()
    webhook: Webhook | None = None


NO_VOICE = VoiceConfig()
