"""What an emulated Bedrock says: a `Turn` describes it, of a model (Converse) or of an agent (InvokeAgent)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.emulators.answers import TEXTS, Call
from tests.emulators.bedrock.event_stream import CONTENT_TYPE, dumps, event, exception
from tests.emulators.fault import Fault
from tests.emulators.reply import Kind, Piece, Reply

__all__ = ["TEXTS", "USAGE", "Call", "Turn"]

USAGE: Mapping[str, Any] = {
    "inputTokens": 17,
    "outputTokens": 12,
    "totalTokens": 36,
    "cacheReadInputTokens": 4,
    "cacheWriteInputTokens": 3,
}
"""Converse counts what it read from and wrote to the cache beside inputTokens, and in the total."""

STATUSES = {
    "AccessDeniedException": 403,
    "UnrecognizedClientException": 403,
    "ValidationException": 400,
    "ServiceQuotaExceededException": 400,
    "ResourceNotFoundException": 404,
    "ModelTimeoutException": 408,
    "ConflictException": 409,
    "ModelErrorException": 424,
    "DependencyFailedException": 424,
    "ModelNotReadyException": 429,
    "ThrottlingException": 429,
    "InternalServerException": 500,
    "BadGatewayException": 502,
    "ServiceUnavailableException": 503,
}


@dataclass(frozen=True)
class Turn:
    """One answer. As it stands: TEXTS or a demanded tool of a model; an agent repeats what the session holds.

    What a model says: `reasoning`, `texts` and `calls` in this order; `stop_reason` follows from them. What an agent
    says: `texts` (bytes may split a character), then `controls` (invocationInputs of a returnControl), `files`;
    `citations` go with the last text; `usages` are (input, output) of each of its model's invocations.
    `guardrail`: it intervened.

    When, in seconds: `delay` before the head, `first_delay` before the first event, `frame_delay` before later ones.

    A failure: `exception` instead of an answer (ThrottlingException), or `breaks_with` in the stream
    (throttlingException) after so many pieces of content (`breaks_after`). `message` is what it says, `headers` go
    with any answer. `fault` spoils the answer on the wire.
    """

    texts: Sequence[str | bytes] | None = None
    reasoning: Sequence[str] = ()
    calls: Sequence[Call] = ()
    stop_reason: str | None = None
    usage: Mapping[str, Any] | None = field(default_factory=lambda: USAGE)

    controls: Sequence[Mapping[str, Any]] = ()
    files: Sequence[Mapping[str, Any]] = ()
    citations: Sequence[Mapping[str, Any]] = ()
    usages: Sequence[tuple[int, int]] = ((11, 7),)
    guardrail: bool = False

    delay: float = 0.0
    first_delay: float = 0.0
    frame_delay: float = 0.0

    exception: str = ""
    breaks_with: str = ""
    breaks_after: int = 0
    message: str = "Something is wrong at arn:aws:bedrock:us-east-1:123456789012:x"
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None


Event = tuple[Kind, str, Mapping[str, Any]]


def failed(name: str, message: str, status: int = 0) -> Reply:
    """An exception as an answer."""
    body = dumps({"message": message})
    kind = {"x-amzn-errortype": f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"}
    return Reply((Piece(body),), status or STATUSES[name], {"Content-Type": "application/json", **kind}, whole=body)


def streamed(turn: Turn, events: Sequence[Event], whole: bytes = b"", **headers: str) -> Reply:
    """Events as a stream, in the turn's own time, broken as it says."""
    pieces, content = [], 0
    for kind, name, members in events:
        if turn.breaks_with and kind in ("content", "finish") and content >= turn.breaks_after:
            break
        content += kind == "content"
        pieces.append((kind, event(name, members)))
    if turn.breaks_with:
        pieces.append(("finish", exception(turn.breaks_with, turn.message)))
    timed = [Piece(data, kind, turn.frame_delay if at else turn.first_delay) for at, (kind, data) in enumerate(pieces)]
    return Reply(
        tuple(timed),
        headers={"Content-Type": CONTENT_TYPE, **headers},
        stream=True,
        whole=whole,
        error=dumps({"message": turn.message}),
        error_frame=exception("internalServerException", turn.message),
    )
