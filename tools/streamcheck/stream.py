"""What a captured stream says: its frames read as OpenAI's chunks, as far as they are."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tools.streamcheck.capture import DONE, Capture
from tools.streamcheck.frames import Frame, frames

SPOKEN = ("content", "refusal", "tool_calls", "function_call")
"""Where in a delta the answer stands."""


@dataclass(frozen=True)
class Asked:
    """What of the request the answer must fit."""

    usage: bool = True
    tools: bool = False


@dataclass(frozen=True)
class Chunk:
    """A frame that is a JSON object. `number` counts frames from 1."""

    number: int
    frame: Frame
    body: Mapping[str, Any]

    @property
    def choices(self) -> list[Any]:
        """Its choices; [] where there is no list of them."""
        found = self.body.get("choices")
        return found if isinstance(found, list) else []


@dataclass(frozen=True)
class Part:
    """One choice of one chunk. `index` is None where it has none."""

    chunk: Chunk
    index: int | None
    choice: Mapping[str, Any]
    delta: Mapping[str, Any]

    @property
    def at(self) -> float:
        """When it came."""
        return self.chunk.frame.at

    @property
    def calls(self) -> list[Mapping[str, Any]]:
        """The tool calls in its delta."""
        found = self.delta.get("tool_calls")
        return [call for call in found if isinstance(call, Mapping)] if isinstance(found, list) else []

    @property
    def size(self) -> int:
        """How many characters of the answer it carries: text, refusal or arguments."""
        functions = (call.get("function") for call in self.calls)
        pieces = [self.delta.get("content"), self.delta.get("refusal")]
        pieces += [function.get("arguments") for function in functions if isinstance(function, Mapping)]
        return sum(len(piece) for piece in pieces if isinstance(piece, str))

    @property
    def speaks(self) -> bool:
        """Whether it carries some of the answer."""
        return any(self.delta.get(name) for name in SPOKEN)


class Stream:
    """A capture, read. Nothing here raises for any input."""

    def __init__(self, capture: Capture, asked: Asked | None = None) -> None:
        self.capture = capture
        self.asked = asked or Asked()
        self.frames = tuple(frames(capture.arrivals))
        self.chunks: list[Chunk] = []
        self.errors: list[Chunk] = []
        self.unreadable: list[tuple[int, str]] = []
        self.done: list[int] = []
        for number, frame in enumerate(self.frames, start=1):
            if frame.kind in ("event", "mixed"):
                self._read(number, frame)

    def _read(self, number: int, frame: Frame) -> None:
        if frame.data == DONE:
            self.done.append(number)
            return
        try:
            body = json.loads(frame.data, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            self.unreadable.append((number, str(error)))
            return
        if not isinstance(body, dict):
            self.unreadable.append((number, "JSON, but no object"))
        elif body.get("error"):
            self.errors.append(Chunk(number, frame, body))
        else:
            self.chunks.append(Chunk(number, frame, body))

    @cached_property
    def parts(self) -> list[Part]:
        """All choices of all chunks."""
        return [part for chunk in self.chunks for part in _parts(chunk)]

    @cached_property
    def choices(self) -> Mapping[int | None, list[Part]]:
        """The same by the choice's index."""
        found: dict[int | None, list[Part]] = {}
        for part in self.parts:
            found.setdefault(part.index, []).append(part)
        return found

    @cached_property
    def spoken(self) -> list[Part]:
        """The parts that carry the answer: where a listener hears something."""
        return [part for part in self.parts if part.speaks]

    @property
    def text(self) -> str:
        """What the first choice says."""
        return "".join(
            part.delta["content"]
            for part in self.parts
            if part.index in (0, None) and isinstance(part.delta.get("content"), str)
        )

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Name and arguments of the first choice's tool calls, put together as a client does."""
        found: dict[Any, list[str]] = {}
        for part in self.parts:
            for call in part.calls if part.index in (0, None) else ():
                name, arguments = found.setdefault(str(call.get("index")), ["", ""])
                function = call.get("function")
                function = function if isinstance(function, Mapping) else {}
                found[str(call.get("index"))] = [
                    name + str(function.get("name") or ""),
                    arguments + str(function.get("arguments") or ""),
                ]
        return [(name, arguments) for name, arguments in found.values()]

    @property
    def finish(self) -> str | None:
        """The finish reason of the first choice."""
        reasons = (part.choice.get("finish_reason") for part in self.parts if part.index in (0, None))
        return next((str(reason) for reason in reasons if reason is not None), None)

    @property
    def usage(self) -> Mapping[str, Any] | None:
        """The usage, wherever it was told."""
        found = (chunk.body.get("usage") for chunk in self.chunks)
        return next((usage for usage in found if isinstance(usage, Mapping)), None)

    @property
    def comments(self) -> list[Frame]:
        """The heartbeats."""
        return [frame for frame in self.frames if frame.kind == "comment"]


def error_message(body: bytes) -> str:
    """The message of an error body, or how the body begins."""
    try:
        return message(json.loads(body))
    except ValueError:
        return shorten(body.decode(errors="replace").strip(), 200)


def message(body: Any) -> str:
    """The message in an error object of any common shape."""
    error = body.get("error", body) if isinstance(body, Mapping) else body
    text = error.get("message") if isinstance(error, Mapping) else None
    return shorten(str(text or json.dumps(error, ensure_ascii=False)), 200)


def shorten(text: str, most: int = 60) -> str:
    """The text, printable and on one line, or how it begins."""
    line = " ".join(text[: most * 10].split())
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _parts(chunk: Chunk) -> Iterator[Part]:
    for choice in chunk.choices:
        if isinstance(choice, Mapping):
            index, delta = choice.get("index"), choice.get("delta")
            yield Part(
                chunk, index if type(index) is int else None, choice, delta if isinstance(delta, Mapping) else {}
            )


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
