"""What the sources tell the catalogue, as pure values: which providers there are, and which models by which names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.base import ParameterRules


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """A provider as it is configured, or what is missing for it to be.

    kind      a key of providers.PROVIDERS, or of one that is still to come
    options   what the provider's class is built with, `name` among them
    missing   what it needs to be set or to exist; "" when the provider can be used
    named     its models' names begin with their vendors', as OCI's do: cohere.command-r-v1:0
    lenient   answers to any model name, as single-model providers do
    complete  has no models but those that are listed
    only      "images" for one that makes pictures and does not chat
    timeouts  overrides of core.context.Timeouts, by field, in seconds
    """

    name: str
    kind: str
    default_model: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    missing: str = ""
    named: bool = False
    lenient: bool = False
    complete: bool = False
    timeouts: Mapping[str, float] = field(default_factory=dict)
    only: str = ""

    @property
    def available(self) -> bool:
        """Whether it can be used."""
        return not self.missing


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place where a model can be had: an entry's name, the model's name there, its share of the requests, and how
    many a minute it takes (None: any).
    """

    provider: str
    model: str
    weight: int = 1
    rpm: int | None = None


@dataclass(frozen=True, slots=True)
class Filler:
    """What is said, `after` so many seconds of silence, while the first token is awaited; the texts take turns.

    Never with 0; None, or no text, leaves that to the settings. It is true when something is said.
    """

    after: float | None = None
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, milliseconds: float | None, texts: Iterable[str]) -> "Filler":
        """As it is configured. A text is made to end so that a voice pauses: `... `."""
        given = [text for each in texts if (text := each.rstrip())]
        pausing = tuple(f"{each} " if each[-1] in ".!?\u2026" else f"{each}... " for each in given)
        return cls(None if milliseconds is None else milliseconds / 1000, pausing)

    def over(self, settings: "Filler") -> "Filler":
        """A model's own word, and the settings' where it has none."""
        return Filler(settings.after if self.after is None else self.after, self.texts or settings.texts)

    def __bool__(self) -> bool:
        return bool(self.after and self.texts)


NO_FILLER = Filler()


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model by a name that callers use.

    upstreams     where it can be had; requests go round
    aliases       its other names
    fallbacks     names of other rows, in order
    timeouts      overrides of core.context.Timeouts, by field, in seconds
    ttft_timeout  seconds to the first token while another target is left; None: no limit of its own
    hedge_after   seconds of silence after which a second target is asked too; None: never
    hedge_agents  whether that holds for agents, which act in the world, as well
    filler        what is said while the first token is awaited, as far as it has its own
    speech        whether the text is made fit to be read aloud
    max_tokens    what a caller may ask for at most
    tools, stream_tools, images   whether it can; a request for what it cannot is refused
    price         per million tokens, (prompt, completion), in the user's own currency
    description   a sentence for people who choose a model; it changes nothing about the row
    details       what else the source says: region, compartment, endpoint, kind
    only          "chat" or "images" where the source says that it is for nothing else
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
    max_tokens: int | None = None
    rules: ParameterRules = field(default_factory=ParameterRules)
    tools: bool = True
    stream_tools: bool = True
    images: bool = True
    price: tuple[float, float] | None = None
    owned_by: str = ""
    created: int = 0
    description: str = field(default="", compare=False)
    details: Mapping[str, Any] = field(default_factory=dict)
    only: str = ""


@dataclass(frozen=True, slots=True)
class SourceContents:
    """What one source tells at one time. `aliases` are names for what a caller could ask for: `provider/model`, too."""

    entries: tuple[ProviderConfig, ...] = ()
    rows: tuple[ModelConfig, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
