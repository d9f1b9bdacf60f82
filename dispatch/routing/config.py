"""What the sources contain, as pure values: the providers, and the models by name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from core.api_keys import ApiKey
from core.guardrails import GuardrailRules, Side
from core.prices import Price
from dispatch.routing.voice_config import NO_VOICE, VoiceConfig
from providers.base import ParameterRules, Provider

Task = Literal["", "chat", "images"]
"""What a provider or a model is for, if it is for nothing else: chats, or images; "" for any."""


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """A configured provider, or one that lacks something.

    kind                    a key of PROVIDERS in providers/vendors.py
    options                 the arguments of the provider's class, with `name`
    missing                 the missing setting or package; "" if the provider can be used
    timeouts                overrides of core.context.Timeouts, by field, in seconds
    order                   the default is the first that can be used: of a lower order, then in the sources' order
    is_fallback             answers only as long as nothing else is configured, as the demo does
    is_default_candidate    whether it may be the default without being chosen by PROVIDER_NAME
    task                    what it is for
    accepts_any_model       answers to any model name, as single-model providers do
    has_only_listed_models  has no models but those that its source lists
    has_vendor_prefixes     its models' ids begin with a vendor's name: cohere.command-r-v1:0
    model_ids               the form of ids that mean this provider where a request names none; None for no ids
    agents                  the names of its agents
    models_provider         the provider of the models beside its agents: an id of that provider's form means a model
                            there, and any other name behind this one's an agent; "" for none
    """

    name: str
    kind: str
    default_model: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    missing: str = ""
    timeouts: Mapping[str, float] = field(default_factory=dict)
    order: int = 0
    is_fallback: bool = False
    is_default_candidate: bool = True
    task: Task = ""
    accepts_any_model: bool = False
    has_only_listed_models: bool = False
    has_vendor_prefixes: bool = False
    model_ids: re.Pattern[str] | None = None
    agents: tuple[str, ...] = ()
    models_provider: str = ""

    @property
    def available(self) -> bool:
        """Whether the provider can be used."""
        return not self.missing

    def has_id(self, model: str) -> bool:
        """Whether a model's id has the form that means this provider."""
        return self.model_ids is not None and self.model_ids.fullmatch(model) is not None

    @property
    def price_list(self) -> str:
        """Whose prices its models have: the vendor's, or a cloud's."""
        vendor = self.options.get("vendor")
        return str(vendor.prices or vendor.name) if vendor else self.kind


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment of a model: the provider's name, the model's name there, the share of the requests, and the
    number of requests a minute (None: no limit).
    """

    provider: str
    model: str
    weight: int = 1
    rpm: int | None = None


@dataclass(frozen=True, slots=True)
class Filler:
    """The texts to send, in rotation, after `after` seconds without a first token.

    0 turns it off; None, or no text, uses the setting. A Filler is true if it has a time and a text.
    """

    after: float | None = None
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, milliseconds: float | None, texts: Iterable[str]) -> "Filler":
        """A configured filler. Each text gets an end at which a voice pauses: `... `."""
        given = [text for each in texts if (text := each.rstrip())]
        pausing = tuple(f"{each} " if each[-1] in ".!?\u2026" else f"{each}... " for each in given)
        return cls(None if milliseconds is None else milliseconds / 1000, pausing)

    def over(self, settings: "Filler") -> "Filler":
        """This filler, with the settings' value for each part that it lacks."""
        return Filler(settings.after if self.after is None else self.after, self.texts or settings.texts)

    def __bool__(self) -> bool:
        return bool(self.after and self.texts)


NO_FILLER = Filler()


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A check of the input to a model and of its output, by the account of `provider`.

    sides       what is checked: input, output
    phrase      the text that replaces blocked text; "" for the guardrail's own
    deadline    seconds that one check may take
    fails_open  whether a text passes that could not be checked; else it counts as blocked
    """

    provider: str
    rules: GuardrailRules
    sides: frozenset[Side] = frozenset({"input", "output"})
    phrase: str = ""
    deadline: float = 2.0
    fails_open: bool = False


@dataclass(frozen=True, slots=True)
class Guard:
    """A guardrail, and the provider that checks."""

    provider: Provider
    config: Guardrail


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model under a name that callers use.

    upstreams     its deployments; requests rotate through them
    aliases       its other names
    fallbacks     names of other rows, in order
    timeouts      overrides of core.context.Timeouts, by field, in seconds
    ttft_timeout  seconds to the first token while another target is left; None: no limit of its own
    hedge_after   seconds without a token after which a second target is tried too; None: never
    hedge_agents  whether agents, which act in the world, are hedged too
    filler        the text while the first token is awaited; the settings fill what it lacks
    speech        whether the text is made fit to be read aloud
    voice         how it speaks on the phone
    guardrail     the check of requests and answers
    max_tokens    the largest max_tokens of a request
    tools, stream_tools, images   whether the model has them; a request that needs a missing one is refused
    price         in the user's own currency; None: that of the vendor's list
    description   a sentence for users who choose a model; not part of the configuration
    details       the source's other values: region, compartment, endpoint, kind
    task          what it is for
    """

    name: str
    upstreams: tuple[Deployment, ...]
    aliases: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    timeouts: Mapping[str, float] = field(default_factory=dict)
    ttft_timeout: float | None = None
    hedge_after: float | None = None
    hedge_agents: bool = False
    filler: Filler = NO_FILLER
    speech: bool = False
    voice: VoiceConfig = NO_VOICE
    guardrail: Guardrail | None = None
    max_tokens: int | None = None
    rules: ParameterRules = field(default_factory=ParameterRules)
    tools: bool = True
    stream_tools: bool = True
    images: bool = True
    price: Price | None = None
    owned_by: str = ""
    created: int = 0
    description: str = field(default="", compare=False)
    details: Mapping[str, Any] = field(default_factory=dict)
    task: Task = ""


@dataclass(frozen=True, slots=True)
class SourceContents:
    """The contents of one source. `aliases` map a name to any name that a request may have, also `provider/model`;
    `keys` are those that callers may send.
    """

    entries: tuple[ProviderConfig, ...] = ()
    rows: tuple[ModelConfig, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    keys: tuple[ApiKey, ...] = ()
