"""The items of a response's output. Each makes its own events, in this order:

    Item         added ............................................................ done
    Message      part added, (text delta | refusal delta | annotation)*, text done, part done
    Reasoning    summary part added, summary text delta*, summary text done, summary part done
    Call         arguments delta*, arguments done; a custom tool's: input delta, input done
    PictureItem  nothing

An event is (type, fields). The encoder numbers and writes the events.
"""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from core import lenient_json
from core.events import Citation, Event, Picture, Refusal, Text
from core.events import Reasoning as Thought
from core.json_values import Json

NamedFields = tuple[str, Json]
Status = str
"""in_progress, completed or incomplete."""


class Halves:
    """Joins halves of surrogate pairs within pieces of a text, and across them."""

    def __init__(self) -> None:
        self._half = ""

    def join(self, piece: str) -> str:
        """Add a piece; returns the text without a first half at its end, which waits for the next piece."""
        if not self._half and piece.isascii():
            return piece
        piece, self._half = self._half + piece, ""
        if piece and "\ud800" <= piece[-1] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        return lenient_json.join_surrogates(piece)

    def rest(self) -> str:
        """Return the half that still waits, as U+FFFD."""
        rest, self._half = self._half, ""
        return lenient_json.join_surrogates(rest)


class Item:
    """One item of the output, with its index. `held` are events that wait until the items before are complete."""

    prefix = ""

    def __init__(self, index: int) -> None:
        self.id = f"{self.prefix}_{uuid4().hex}"
        self.at: Json = {"item_id": self.id, "output_index": index}
        self.held: list[Event] = []
        self._index = index
        self._opened = False
        self._halves = Halves()

    @property
    def is_whole(self) -> bool:
        """Whether the item is complete once another item has begun."""
        return True

    def body(self, status: Status) -> Json:
        """The item with its content so far."""
        raise NotImplementedError

    def flush(self) -> Iterator[NamedFields]:
        """The events of the beginning, if they are still to come, and of all that was held."""
        if not self._opened:
            self._opened = True
            yield from self.open()
        for event in self.held:
            yield from self.feed(event)
        self.held.clear()

    def open(self) -> Iterator[NamedFields]:
        """The events that begin it."""
        yield "response.output_item.added", {"output_index": self._index, "item": self.body("in_progress")}

    def feed(self, event: Event) -> Iterator[NamedFields]:
        """The events of this dialect for one event of the answer."""
        raise NotImplementedError

    def finish(self) -> Iterator[NamedFields]:
        """The events that end its parts."""
        yield from ()

    def close(self, status: Status) -> Iterator[NamedFields]:
        """The events that end it."""
        yield from self.finish()
        yield "response.output_item.done", {"output_index": self._index, "item": self.body(status)}


class Message(Item):
    """Texts and refusals, each as a part. `is_filler`: it is a filler, and not of the model's."""

    prefix = "msg"

    def __init__(self, index: int, *, is_filler: bool = False) -> None:
        super().__init__(index)
        self.is_filler = is_filler
        self._parts: list[Json] = []
        self._texts: list[str] = []

    def body(self, status: Status) -> Json:
        """The item with its content so far."""
        return {"type": "message", "id": self.id, "status": status, "role": "assistant", "content": self._content()}

    def feed(self, event: Event) -> Iterator[NamedFields]:
        """The events of this dialect for one event of the answer."""
        if isinstance(event, Refusal):
            yield from self._part("refusal")
            if text := self._halves.join(event.text):
                yield self._delta("refusal", text)
            return
        yield from self._part("output_text")
        if isinstance(event, Text):
            logprobs = [_logprob_body(each) for each in (event.logprobs or {}).get("content") or ()]
            self._parts[-1]["logprobs"] += logprobs
            if text := self._halves.join(event.text):
                yield self._delta("output_text", text, logprobs=logprobs)
        elif isinstance(event, Citation):
            yield self._annotation_added(event)

    def finish(self) -> Iterator[NamedFields]:
        """The events that end its parts."""
        if not self._parts:
            return
        part, at = self._parts[-1], self._at()
        kind = part["type"]
        if lost := self._halves.rest():
            yield self._delta(kind, lost, **({"logprobs": []} if kind == "output_text" else {}))
        part |= self._whole(part)
        if kind == "output_text":
            yield "response.output_text.done", {**at, "text": part["text"], "logprobs": part["logprobs"]}
        else:
            yield "response.refusal.done", {**at, "refusal": part["refusal"]}
        yield "response.content_part.done", {**at, "part": dict(part)}

    def _part(self, kind: str) -> Iterator[NamedFields]:
        """Begin a part of this kind, unless the last one is of this kind."""
        if self._parts and self._parts[-1]["type"] == kind:
            return
        yield from self.finish()
        self._texts = []
        empty: Json = {"text": "", "annotations": [], "logprobs": []} if kind == "output_text" else {"refusal": ""}
        self._parts.append({"type": kind, **empty})
        yield "response.content_part.added", {**self._at(), "part": {"type": kind, **_copy_lists(empty)}}

    def _delta(self, kind: str, text: str, **fields: Any) -> NamedFields:
        self._texts.append(text)
        return f"response.{kind}.delta", {**self._at(), "delta": text, **fields}

    def _annotation_added(self, citation: Citation) -> NamedFields:
        annotations = self._parts[-1]["annotations"]
        where = {"start_index": citation.start, "end_index": citation.end}
        annotations.append({"type": "url_citation", "url": citation.url, "title": citation.title, **where})
        fields = {"annotation_index": len(annotations) - 1, "annotation": annotations[-1]}
        return "response.output_text.annotation.added", {**self._at(), **fields}

    def _at(self) -> Json:
        return {**self.at, "content_index": len(self._parts) - 1}

    def _whole(self, part: Json) -> Json:
        return {"text" if part["type"] == "output_text" else "refusal": "".join(self._texts)}

    def _content(self) -> list[Json]:
        return [{**part, **(self._whole(part) if part is self._parts[-1] else {})} for part in self._parts]


class Reasoning(Item):
    """The model's thinking, as a summary of one part."""

    prefix = "rs"

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self._texts: list[str] = []

    def body(self, status: Status) -> Json:
        """The item with its content so far."""
        summary = [{"type": "summary_text", "text": "".join(self._texts)}] if self._texts else []
        return {"type": "reasoning", "id": self.id, "summary": summary}

    def open(self) -> Iterator[NamedFields]:
        """The events that begin it."""
        yield from super().open()
        part = {"type": "summary_text", "text": ""}
        yield "response.reasoning_summary_part.added", {**self.at, "summary_index": 0, "part": part}

    def feed(self, event: Event) -> Iterator[NamedFields]:
        """The events of this dialect for one event of the answer."""
        if isinstance(event, Thought) and (text := self._halves.join(event.text)):
            yield self._delta(text)

    def finish(self) -> Iterator[NamedFields]:
        """The events that end its parts."""
        if lost := self._halves.rest():
            yield self._delta(lost)
        at, text = {**self.at, "summary_index": 0}, "".join(self._texts)
        yield "response.reasoning_summary_text.done", {**at, "text": text}
        yield "response.reasoning_summary_part.done", {**at, "part": {"type": "summary_text", "text": text}}

    def _delta(self, text: str) -> NamedFields:
        self._texts.append(text)
        return "response.reasoning_summary_text.delta", {**self.at, "summary_index": 0, "delta": text}


class PictureItem(Item):
    """A picture in base64, or by its address if the upstream gave only that."""

    prefix = "ig"

    def __init__(self, index: int, picture: Picture) -> None:
        super().__init__(index)
        self._data = picture.url.partition(";base64,")[2] or picture.url

    def body(self, status: Status) -> Json:
        """The item with its content so far."""
        done = status != "in_progress"
        state = {"status": "completed" if done else status, "result": self._data if done else None}
        return {"type": "image_generation_call", "id": self.id, **state}

    def feed(self, event: Event) -> Iterator[NamedFields]:
        """The events of this dialect for one event of the answer."""
        yield from ()


def _copy_lists(part: Json) -> Json:
    return {key: list(value) if isinstance(value, list) else value for key, value in part.items()}


def _logprob_body(token: Json) -> Json:
    """The log probability of a token, with bytes and alternatives, which clients of this dialect require."""
    others = [{**each, "bytes": each.get("bytes") or []} for each in token.get("top_logprobs") or ()]
    return {**token, "bytes": token.get("bytes") or [], "top_logprobs": others}
