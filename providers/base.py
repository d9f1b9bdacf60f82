"""What a provider is, and what it is given: a target to answer from, and the call that it answers."""

import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Any, Protocol

from errors import Cancelled, GatewayError, Unsupported
from events import ChatRequest, EmbeddingsRequest, Events, ImagesRequest, ModerationsRequest, RerankRequest

USER_AGENT = "thinkline"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds (R7): to connect, to the first event, between upstream bytes once begun, and for the whole answer."""

    connect: float = 3.0
    first_event: float = 15.0
    idle: float = 30.0
    total: float = 300.0


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


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model that an upstream lists. `created` is Unix seconds, 0 when unknown; `description` is for people."""

    id: str
    owned_by: str
    created: int = 0
    description: str = ""


class KeyValueStore(Protocol):
    """A small store that outlives a restart, and that all workers (and replicas) share; see dispatch/state.py.

    Keys and values are text; what is kept is gone after `seconds`. Safe for all threads. Never raises: a store that is
    out of reach forgets.
    """

    def put(self, key: str, value: str, seconds: float) -> None:
        """Keep a value."""

    def get(self, key: str) -> str | None:
        """The value, and leave it."""

    def pop(self, key: str) -> str | None:
        """The value, and take it away: of all who ask at the same time, one gets it."""


class CallContext:
    """One caller's request while it is answered: how long it may take, and whether the caller is still there.

    `patience` is how many times its FIRST_EVENT_TIMEOUT an upstream may take: an answer that is not streamed has one
    event, at its end. `beat_by` is when the line to the caller must hear something: the transport reports a Silence
    by then at the latest, whether or not bytes trickle in. All times are of the monotonic clock.

    `caller` is the name of the key that came with it, "" without keys; `state` is where a provider may keep what the
    next request needs, None where nothing is kept.

    The transport tells it every socket it uses (`attach`, `detach`); `hang_up`, from any thread and in any phase,
    shuts them at once, so that a blocked read returns. After that, `attach` and `wait` raise HungUp. `reason` is why,
    when it was not the caller who left. A `child` is the same request asked of another target: it ends with it, or
    alone.
    """

    def __init__(
        self,
        request_id: str = "",
        heartbeat: float = 5.0,
        patience: float = 1.0,
        *,
        caller: str = "",
        state: KeyValueStore | None = None,
    ) -> None:
        self.request_id = request_id
        self.caller = caller
        self.state = state
        self.patience = patience
        self.heartbeat = heartbeat
        self.started = monotonic()
        self.first_event_by = inf
        self.total_by = inf
        self.beat_by = self.started + heartbeat
        self.gone = False
        self.reason: GatewayError | None = None
        self._children: list[CallContext] = []
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._left: threading.Event | None = None

    def child(self) -> "CallContext":
        """A call within this one, with deadlines of its own. Raises HungUp when the caller has left already."""
        child = CallContext(self.request_id, self.heartbeat, self.patience, caller=self.caller, state=self.state)
        child.started = self.started
        with self._lock:
            if self.gone:
                raise Cancelled
            self._children.append(child)
        return child

    def begin(self, timeouts: Timeouts) -> None:
        """An attempt starts: its deadlines count from now, the total from the call's own start."""
        self.first_event_by = monotonic() + timeouts.first_event * self.patience
        self.total_by = self.started + timeouts.total

    def mark_first_event(self) -> None:
        """From here on only the idle and the total time-outs apply."""
        self.first_event_by = inf

    def attach(self, sock: socket.socket) -> None:
        """The transport talks on this socket from now on. Raises HungUp when the caller has left already."""
        with self._lock:
            if self.gone:
                raise Cancelled
            self._sockets.add(sock)

    def detach(self, sock: socket.socket) -> None:
        """The socket is no longer this call's; it may serve another from now on."""
        with self._lock:
            self._sockets.discard(sock)

    def cancel(self, reason: GatewayError | None = None) -> None:
        """The caller has left, or is told `reason`: wake whoever works for them."""
        with self._lock:
            self.gone = True
            self.reason = self.reason or reason
            for child in self._children:
                child.cancel()
            for sock in self._sockets:
                try:
                    # Not SSLSocket.shutdown, which drops the TLS object while another thread reads through it.
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
                except OSError:
                    pass  # closed by the other side first
            if self._left is not None:
                self._left.set()

    def wait(self, seconds: float) -> None:
        """Sleep, unless the caller leaves meanwhile. Raises HungUp."""
        with self._lock:
            if self.gone:
                raise Cancelled
            if self._left is None:
                self._left = threading.Event()
        if self._left.wait(seconds):
            raise Cancelled


class Provider:
    """One upstream, under the name callers use for it. A capability is a method that is overridden.

    Built once per configured upstream, lazily, and shared by all threads. The generators check the request and
    raise before they yield; what they yield is described in events.py.
    """

    name: str
    default_model: str
    acts = False
    """Whether an answer does things in the world, as agents do: such a request is never made twice at a time."""

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """Answer, streaming or not as `request.stream` says. Raises errors.ProxyError and errors.HungUp."""
        raise Unsupported(f"{self.name} has no chat models.", param="model")

    def embed(self, request: EmbeddingsRequest, target: Target, call: CallContext) -> Events:
        """Yield one Vectors (and Silence before it). Raises as `chat` does."""
        raise Unsupported(f"{self.name} has no embedding models.", param="model")

    def rerank(self, request: RerankRequest, target: Target, call: CallContext) -> Events:
        """Yield one Ranks (and Silence before it). Raises as `chat` does."""
        raise Unsupported(f"{self.name} does not rerank.", param="model")

    def moderate(self, request: ModerationsRequest, target: Target, call: CallContext) -> Events:
        """Yield one Verbatim, OpenAI's body (and Silence before it). Raises as `chat` does."""
        raise Unsupported(f"{self.name} does not moderate.", param="model")

    def warm(self, call: CallContext, timeouts: Timeouts) -> None:
        """Have a connection at hand for the next caller, if one takes long to make. Raises as `chat` does."""

    def images(self, request: ImagesRequest, target: Target, call: CallContext) -> Events:
        """Yield one Images (and Silence before it). Raises as `chat` does."""
        raise Unsupported(f"{self.name} makes no pictures.", param="model")

    def models(self, call: CallContext) -> Sequence[ListedModel]:
        """The models that this upstream lists, asked of it each time; the catalogue caches. Raises as `chat` does."""
        return [ListedModel(self.default_model, self.name)]

    def check(self, call: CallContext) -> str:
        """For the doctor, after `models`: ask what that did not, if it costs nothing. What stays unknown, as a phrase.
        Raises as `chat` does.
        """
        return "not asked: it has no list of them" if type(self).models is Provider.models else ""
