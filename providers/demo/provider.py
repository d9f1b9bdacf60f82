"""The embedded provider: offline and deterministic. It answers in a fresh clone, and is for tests of a voice platform.

script.py decides the text, tools.py the tool calls; this module makes events of them.
"""

import hashlib
import json
import math
import operator
import re
from base64 import b64encode
from collections.abc import Generator, Iterable, Iterator, Sequence

from core.context import CallContext
from core.errors import Cancelled, InvalidRequest
from core.events import (
    Event,
    Events,
    Finish,
    Images,
    Ranks,
    Reasoning,
    Text,
    ToolArguments,
    ToolCall,
    Usage,
    Vectors,
)
from core.models import ListedModel
from core.requests import ChatRequest, EmbeddingsRequest, Image, ImagesRequest, RerankRequest
from core.token_estimate import CJK, estimate_tokens
from providers.base import Provider, Target
from providers.common.words import words
from providers.demo.picture import USUAL, picture
from providers.demo.script import Script, messages, script_for, text_of

DIMENSIONS = 256
"""The vector's length, unless the request has `dimensions`."""

MOST_DIMENSIONS = 4096
MOST_CHOICES = 128

SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_FEATURE = re.compile(rf"[{CJK}]|[^\W{CJK}]+")
_SPOKEN = (Text, Reasoning, ToolArguments)


class DemoProvider(Provider):
    """Answers from a script, word by word. Streams have `pace_ms` milliseconds between words; 0 is no pause."""

    default_model = "demo"

    def __init__(self, *, pace_ms: float = 20.0, name: str = "demo") -> None:
        self.name = name
        self.pace = pace_ms / 1000

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """The same events, streamed or not; only the pace differs."""
        spoken = False
        for event in answer(request):
            if request.stream and isinstance(event, _SPOKEN):
                if spoken:
                    self._pause(call)
                spoken = True
            if call.gone:
                raise Cancelled
            yield event

    def embed(self, request: EmbeddingsRequest, target: Target, call: CallContext) -> Events:
        """A unit-length vector for each input; texts with common words have near vectors."""
        dimensions = DIMENSIONS if request.dimensions is None else request.dimensions
        if not 1 <= dimensions <= MOST_DIMENSIONS:
            raise InvalidRequest(
                f"dimensions must be from 1 to {MOST_DIMENSIONS}.", param="dimensions", code="invalid_value"
            )
        vectors = []
        for each in request.inputs:
            if call.gone:
                raise Cancelled
            vectors.append(vector(_readable(each), dimensions))
        tokens = sum(_tokens(_readable(each)) for each in request.inputs)
        yield Vectors(vectors, "demo-embedding", Usage(tokens, 0))

    def rerank(self, request: RerankRequest, target: Target, call: CallContext) -> Events:
        """The documents that share most words with the query are first."""
        query = vector(request.query, DIMENSIONS)
        ranks = []
        for index, document in enumerate(request.documents):
            if call.gone:
                raise Cancelled
            alike = sum(map(operator.mul, query, vector(document, DIMENSIONS)))
            ranks.append((index, round((1 + alike) / 2, 6)))
        tokens = sum(map(_tokens, (request.query, *request.documents)))
        yield Ranks(sorted(ranks, key=lambda rank: -rank[1]), "demo-rerank", Usage(tokens, 0))

    def images(self, request: ImagesRequest, target: Target, call: CallContext) -> Events:
        """Patterns derived from the prompt, as PNGs: in a data: URL, or as base64."""
        size = SIZE.fullmatch(request.size)
        wanted = (int(size[1]), int(size[2])) if size else USUAL
        data = []
        for number in range(request.n):
            if call.gone:
                raise Cancelled
            encoded = b64encode(picture(request.prompt, number, wanted)).decode()
            how = {"b64_json": encoded} if request.as_base64 else {"url": f"data:image/png;base64,{encoded}"}
            data.append({**how, "revised_prompt": request.prompt})
        yield Images(data)

    def models(self, call: CallContext) -> Sequence[ListedModel]:
        """One model for chat and one for embeddings; the demo answers to other names too."""
        return [ListedModel(self.default_model, "thinkline"), ListedModel("demo-embedding", "thinkline")]

    def _pause(self, call: CallContext) -> None:
        if self.pace > 0:
            call.wait(self.pace)


def answer(request: ChatRequest) -> Events:
    """The whole answer to a request, without pauses. Pure. Raises InvalidRequest."""
    script = script_for(request)
    stops = [each for each in request.stop if isinstance(each, str) and each]
    finishes: list[Finish] = []
    completion = reasoning = 0
    for choice in range(_choices(request)):
        meter = Meter(request.max_tokens)
        for thought in meter.take(script.thoughts):
            yield Reasoning(thought, choice)
        reasoning += meter.spent
        finishes.append((yield from _perform(script, stops, meter, choice)))
        completion += meter.spent
    yield from finishes
    yield Usage(prompt_tokens(request), completion, reasoning=reasoning)


def _perform(script: Script, stops: Sequence[str], meter: "Meter", choice: int) -> Generator[Event, None, Finish]:
    """The calls or the text of one choice, and its finish reason."""
    for key, (name, arguments) in enumerate(script.calls):
        if not meter.spend(name):
            break
        yield ToolCall(key, name, choice=choice)
        # An object has at least its two braces, so there are at least two pieces.
        for piece in meter.take([arguments[0], *words(arguments[1:])]):
            yield ToolArguments(key, piece, choice)
    for piece in until_stop(meter.take(words(script.text)), stops):
        yield Text(piece, choice)
    if meter.full:
        return Finish("length", choice)
    return Finish("tool_calls" if script.calls else "stop", choice)


class Meter:
    """Counts tokens up to a limit for one choice (None: no limit); `full` once a text did not fit."""

    def __init__(self, cap: int | None) -> None:
        self.cap = math.inf if cap is None else cap
        self.spent = 0
        self.full = False

    def spend(self, text: str) -> bool:
        """Count a text, if it fits. After one that does not fit, no text fits."""
        cost = estimate_tokens(text)
        self.full = self.full or self.spent + cost > self.cap
        if not self.full:
            self.spent += cost
        return not self.full

    def take(self, pieces: Iterable[str]) -> Iterator[str]:
        """The pieces that fit."""
        for piece in pieces:
            if not self.spend(piece):
                return
            yield piece


def until_stop(pieces: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """The text before the first stop sequence, which may span pieces; only its possible beginning is held back."""
    held = ""
    for piece in pieces:
        held += piece
        found = [at for at in (held.find(stop) for stop in stops) if at >= 0]
        if found:
            held = held[: min(found)]
            break
        safe = len(held) - max((_overlap(held, stop) for stop in stops), default=0)
        if safe:
            yield held[:safe]
            held = held[safe:]
    if held:
        yield held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are the beginning of `stop`."""
    most = min(len(text), len(stop) - 1)
    return next((size for size in range(most, 0, -1) if text.endswith(stop[:size])), 0)


def prompt_tokens(request: ChatRequest) -> int:
    """An estimate over the text of all messages, the calls in them, and the declared tools."""
    total = 0
    for message in messages(request):
        total += estimate_tokens(text_of(message.get("content")))
        if calls := message.get("tool_calls"):
            total += estimate_tokens(json.dumps(calls))
    return total + (estimate_tokens(json.dumps(tools)) if (tools := request.tools) else 0)


def _choices(request: ChatRequest) -> int:
    wanted = request.body.get("n")
    return max(1, min(wanted, MOST_CHOICES)) if isinstance(wanted, int) else 1


def _readable(given: str | Sequence[int] | Image) -> str | Sequence[int]:
    """The demo does not look at images: it counts their URLs."""
    return given.url if isinstance(given, Image) else given


def _tokens(text: str | Sequence[int]) -> int:
    return estimate_tokens(text) if isinstance(text, str) else len(text)


def vector(text: str | Sequence[int], dimensions: int) -> list[float]:
    """A vector of length 1: the normalised sum of the vectors of the words, or of the token ids.

    A word's vector has a few entries, 1 or -1, at places that its hash gives (random indexing).
    """
    total = [0.0] * dimensions
    for feature in _features(text) or [""]:
        digest = hashlib.sha256(feature.encode("utf-8", "surrogatepass")).digest()
        for at in range(0, len(digest), 2):
            place, sign = divmod(int.from_bytes(digest[at : at + 2], "big"), 2)
            total[place % dimensions] += 1 - 2 * sign
    length = math.hypot(*total)
    if not length:  # the words' vectors cancelled out
        return [1.0, *total[1:]]
    return [each / length for each in total]


def _features(text: str | Sequence[int]) -> list[str]:
    if isinstance(text, str):
        return _FEATURE.findall(text.lower()) or [text]
    return [f"#{each}" for each in text]
