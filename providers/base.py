"""The interface of a provider, and the target that it answers for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.context import CallContext, Timeouts
from core.errors import Unsupported
from core.events import Events, ModerationsRequest, Usage
from core.guardrails import GuardrailRules, Side, Verdict
from core.models import ListedModel
from core.prices import Price
from core.requests import ChatRequest, EmbeddingsRequest, ImagesRequest, RerankRequest
from core.token_estimate import estimate_prompt_tokens

USER_AGENT = "thinkline"


@dataclass(frozen=True, slots=True)
class ParameterRules:
    """How a model's requests differ from callers' requests; applied in this order (LLM Bridge's param_config).

    update  parameters that replace the caller's     rename  old name -> new name
    add     parameters that the request lacks        delete  parameters that are not sent
    """

    update: Mapping[str, Any] = field(default_factory=dict)
    add: Mapping[str, Any] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    delete: tuple[str, ...] = ()

    def apply(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body for this model."""
        changed = {**self.add, **body, **self.update}
        for old, new in self.rename.items():
            if old in changed:
                changed[new] = changed.pop(old)
        return {key: value for key, value in changed.items() if key not in self.delete}


@dataclass(frozen=True, slots=True)
class Target:
    """One upstream model: a provider, the provider's name for the model, and the public name.

    `max_tokens` is the largest that a request may have; `rules` change the request's body. `ttft_timeout`, in
    seconds, applies while another target is left. `details` has the source's other values: region, compartment, type.
    `refused` are parameters that the model is known to refuse, by OpenAI's names; the request has none of them. `price`
    is None where it is not known.
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
    price: Price | None = None

    @property
    def name(self) -> str:
        """`provider/model`, for logs and breakers."""
        return f"{self.provider.name}/{self.model}"


class Provider:
    """One configured upstream. A provider supports a kind of request by overriding its method.

    Built once for each configured upstream, lazily, and shared by all threads. The generators check the request and
    raise before they yield; core/events.py describes what they yield.
    """

    name: str
    default_model: str
    acts = False
    """Whether an answer may act in the world, as an agent's does: such a request never runs twice at a time."""

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """Yield the answer's events, streamed if `request.stream`. Raises errors.GatewayError and errors.Cancelled."""
        raise Unsupported(f"{self.name} has no chat models.", param="model")

    def passes(self, request: ChatRequest, target: Target) -> bool:
        """Whether a request in another dialect than OpenAI's chat, and its answer, pass unchanged at this upstream."""
        return False

    def count_tokens(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """Yield one Usage with the prompt's tokens: an estimate, where the upstream does not count them. Raises as
        `chat` does.
        """
        yield Usage(estimate_prompt_tokens(request.body), 0)

    def embed(self, request: EmbeddingsRequest, target: Target, call: CallContext) -> Events:
        """Yield one Vectors. Raises as `chat` does."""
        raise Unsupported(f"{self.name} has no embedding models.", param="model")

    def rerank(self, request: RerankRequest, target: Target, call: CallContext) -> Events:
        """Yield one Ranks. Raises as `chat` does."""
        raise Unsupported(f"{self.name} does not rerank.", param="model")

    def moderate(self, request: ModerationsRequest, target: Target, call: CallContext) -> Events:
        """Yield one Verbatim, OpenAI's body. Raises as `chat` does."""
        raise Unsupported(f"{self.name} does not moderate.", param="model")

    def guard(self, text: str, side: Side, rules: GuardrailRules, call: CallContext, seconds: float) -> Verdict:
        """Check a text by the rules, within so many seconds: the call has no other deadlines. Raises as `chat` does."""
        raise Unsupported(f"{self.name} has no guardrails.", param="model")

    def warm(self, call: CallContext, timeouts: Timeouts) -> None:
        """Keep a connection open for the next request, if connecting takes long. Raises as `chat` does."""

    def images(self, request: ImagesRequest, target: Target, call: CallContext) -> Events:
        """Yield one Images. Raises as `chat` does."""
        raise Unsupported(f"{self.name} makes no pictures.", param="model")

    def models(self, call: CallContext) -> Sequence[ListedModel]:
        """The models that this upstream lists. Sends a request each time; model_lists.py caches.
        Raises as `chat` does.
        """
        return [ListedModel(self.default_model, self.name)]

    def check(self, call: CallContext) -> str:
        """For the doctor, after `models`: check the rest, if that costs nothing. Returns what could not be checked.
        Raises as `chat` does.
        """
        return "not asked: it has no list of them" if type(self).models is Provider.models else ""
