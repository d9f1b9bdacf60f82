"""Two endpoints side by side: figures, habits, and where they differ."""

import json
from collections.abc import Iterator, Mapping, Sequence

from tools.streamcheck.chunk_checks import first_delta, keys_used
from tools.streamcheck.judge import Judged
from tools.streamcheck.stream import Chunk, Stream, shorten
from tools.streamcheck.timing import milliseconds

LEVELS = ("chunk", "choice", "delta", "usage")
CELL = 40


def facts(judged: Judged) -> Mapping[str, str]:
    """The rows of the table."""
    stream, times = judged.stream, judged.timing
    pieces = [len(part.delta["content"]) for part in stream.spoken if isinstance(part.delta.get("content"), str)]
    return {
        "model asked": judged.endpoint.model,
        "model answered": _first(stream, "model"),
        "connect": milliseconds(times.connect),
        "headers": milliseconds(times.headers),
        "first byte of body": milliseconds(times.first_byte),
        "first token": _first_token(judged),
        "total": milliseconds(times.total),
        "frames": str(len(stream.frames)),
        "frames of the answer": str(len(stream.spoken)),
        "heartbeats": str(len(stream.comments)),
        "characters": str(len(stream.text)),
        "characters a frame": f"{sum(pieces) / len(pieces):.1f}" if pieces else "-",
        "median gap": milliseconds(times.gap),
        "95 % of gaps below": milliseconds(times.gap_95),
        "longest silence": milliseconds(times.silence),
        "first delta": _first_delta(stream),
        "finish_reason": str(stream.finish),
        "tool calls": str(len(stream.calls)),
        **{f"{level} keys": " ".join(keys_used(stream, level)) or "-" for level in LEVELS},
    }


def shape(chunk: Chunk) -> str:
    """A chunk with its own values blanked: what stands where."""
    return json.dumps(_blank(chunk.body), ensure_ascii=False)


def differences(one: Judged, other: Judged) -> Iterator[str]:
    """What one sends and the other does not. Facts, not failures."""
    for level in LEVELS:
        mine, theirs = keys_used(one.stream, level), keys_used(other.stream, level)
        for key in theirs:
            if key not in mine:
                yield f"{_name(other)} sends `{key}` in the {level}, {_name(one)} does not"
        for key in mine:
            if key not in theirs:
                yield f"{_name(one)} sends `{key}` in the {level}, {_name(other)} does not"
    if one.stream.finish != other.stream.finish:
        yield f"finish_reason is {one.stream.finish} at {_name(one)}, {other.stream.finish} at {_name(other)}"
    shapes = [shape(judged.stream.chunks[0]) for judged in (one, other) if judged.stream.chunks]
    if len(set(shapes)) > 1:
        yield f"the first frame at {_name(one)}: {shapes[0]}"
        yield f"the first frame at {_name(other)}: {shapes[1]}"


def names(all_judged: Sequence[Judged]) -> list[str]:
    """What to call the endpoints: by model too where they would have one name."""
    plain = [judged.endpoint.name for judged in all_judged]
    if len(set(plain)) == len(plain):
        return plain
    return [f"{judged.endpoint.name} {judged.endpoint.model}" for judged in all_judged]


def _name(judged: Judged) -> str:
    return f"{judged.endpoint.name} ({judged.endpoint.model})"


def _first(stream: Stream, key: str) -> str:
    return shorten(str(stream.chunks[0].body.get(key))) if stream.chunks else "-"


def _first_token(judged: Judged) -> str:
    times = judged.first_tokens
    if len(times) < 2:  # noqa: PLR2004 - a range needs two
        return milliseconds(judged.first_token)
    spread = f"{milliseconds(min(times))} to {milliseconds(max(times))}"
    return f"{milliseconds(judged.first_token)} (median of {len(times)}, {spread})"


def _first_delta(stream: Stream) -> str:
    return shorten(json.dumps(first_delta(stream.chunks[0]), ensure_ascii=False), CELL) if stream.chunks else "-"


def _blank(value: object, key: str = "") -> object:
    if isinstance(value, Mapping):
        return {name: _blank(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [_blank(inner) for inner in value[:1]]
    if key in ("object", "role", "type", "index", "finish_reason") or value is None or value == "":
        return value
    return type(value).__name__
