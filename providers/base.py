"""What a provider is, and what it is given: a target to answer from, and the call that it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.context import CallContext, Timeouts
from core.errors import Unsupported
from core.events import Events, ModerationsRequest
from core.models import ListedModel
from core.requests import ChatRequest, EmbeddingsRequest, ImagesRequest, RerankRequest

USER_AGENT = "thinkline"


@dataclass(frozen=True, slots=True)
class ParameterRules:
    """How a model's requests differ from what callers send, in this order (seed 002's param_config).

    update  parameters that are always so       rename  old name -> new name
    add     parameters where the caller has none  delete  parameters that are not sent
    """

    update: Mapping[str, Any] = field(default_factory=dict)
    add: Mapping[str, Any] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    delete: tuple[str, ...] = ()

    def apply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body as this model is to be sent it."""
        changed = {**self.add, **body, **self.update}
        for old, new in self.rename.items():
            if old in changed:
                changed[new] = changed.pop(old)
        return {key: value for key, value in changed.items() if key not in self.delete}


@dataclass(frozen=True, slots=True)
class Target:
    """One upstream model that can answer: a provider, its own name for the model, and the name callers know.

    `max_tokens` is what a caller may ask for at most; `rules` are applied to what is sent. `ttft_timeout`, in seconds,
    holds while another target is left. `details` is what else the source says: region, compartment, endpoint, type.
    `refused` are parameters that the model is known to refuse, by OpenAI's names: the request has none of them left.
    """

    provider: "Provider"
    model: str
    public_name: str = ""
    timeouts: Timeouts = field(default_factory=Timeouts)
    ttft_timeout: float | None = None
    max_tokens: int | None = None
    rules: ParameterRules = field(default_factory=ParameterRules)
    details: Mapping[str, Any] = field(default_factory=dict)
    refused: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """`provider/model`, as logs and the breaker know it."""
        return f"{self.provider.name}/{self.model}"


class Provider:
    """One upstream, under the name callers use for it. A capability is a method that is overridden.

    Built once per configured upstream, lazily, and shared by all threads. The generators check the request and
    raise before they yield; what they yield is described in core.events.py.
    """

    name: str
    default_model: str
    acts = False
    """Whether an answer does things in the world, as agents do: such a request is never made twice at a time."""

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """Answer, streaming or not as `request.stream` says. Raises errors.ProxyError and errors.HungUp."""
        raise Unsupported(f"{self.name} has no chat models.", param="model")

    def embed(self, request: EmbeddingsRequest, target: Target, call: CallContext) -> Events:
        """Yield one Vectors. Raises as `chat` does."""
        raise Unsupported(f"{self.name} has no embedding models.", param="model")

    def rerank(self, request: RerankRequest, target: Target, call: CallContext) -> Events:
        """Yield one Ranks. Raises as `chat` does."""
        raise Unsupported(f"{self.name} does not rerank.", param="model")

    def moderate(self, request: ModerationsRequest, target: Target, call: CallContext) -> Events:
        """Yield one Verbatim, OpenAI's body. Raises as `chat` does."""
        raise Unsupported(f"{self.name} does not moderate.", param="model")

    def warm(self, call: CallContext, timeouts: Timeouts) -> None:
        """Have a connection at hand for the next caller, if one takes long to make. Raises as `chat` does."""

    def images(self, request: ImagesRequest, target: Target, call: CallContext) -> Events:
        """Yield one Images. Raises as `chat` does."""
        raise Unsupported(f"{self.name} makes no pictures.", param="model")

    def models(self, call: CallContext) -> Sequence[ListedModel]:
        """The models that this upstream lists, asked of it each time; the catalogue caches. Raises as `chat` does."""
        return [ListedModel(self.default_model, self.name)]

    def check(self, call: CallContext) -> str:
        """For the doctor, after `models`: ask what that did not, if it costs nothing. What stays unknown, as a phrase.
        Raises as `chat` does.
        """
        return "not asked: it has no list of them" if type(self).models is Provider.models else ""
