"""The trace that a request belongs to, as W3C's headers carry it: https://www.w3.org/TR/trace-context/."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import getrandbits
from typing import Any

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
STATE_CHARACTERS = 512
"""The longest tracestate that is passed on; W3C wants at least as many characters."""
STATE_MEMBER = re.compile(
    r"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
SAMPLED = 0x01


@dataclass(frozen=True, slots=True)
class Parent:
    """The caller's span. `state` is for tracing systems, and only passed on."""

    trace_id: str
    span_id: str
    sampled: bool
    state: str = ""


@dataclass(slots=True)
class Words:
    """The texts of a conversation, for its trace: the messages in OpenAI's form (`asked`), and the pieces of each
    attempt's answer by the id of its span (`said`).
    """

    asked: Sequence[Mapping[str, Any]] = ()
    said: dict[str, list[str]] = field(default_factory=dict)

    def forget(self) -> None:
        """Drop the texts, since the spans are sent: the request's record is kept longer, and must not have them."""
        self.asked = ()
        self.said.clear()


@dataclass(slots=True)
class AnswerFacts:
    """What an upstream has said of its answer: its id and its model, "" for none, and why choices have ended, each as
    (choice, reason).
    """

    id: str = ""
    model: str = ""
    reasons: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """A request's trace, with the id of its own span; ids are lower-case hexadecimal. `parent` is None if the trace
    begins here. `words` has the conversation's texts, None if traces are to have no texts. `answers` has the answer of
    each attempt, by the id of its span.
    """

    trace_id: str
    span_id: str
    sampled: bool = True
    parent: Parent | None = None
    words: Words | None = None
    answers: dict[str, AnswerFacts] = field(default_factory=dict)

    def headers(self, span_id: str) -> dict[str, str]:
        """The headers that make another service's span a child of span `span_id`."""
        headers = {"traceparent": f"00-{self.trace_id}-{span_id}-{int(self.sampled):02x}"}
        if self.parent is not None and self.parent.state:
            headers["tracestate"] = self.parent.state
        return headers


def parse_parent(traceparent: str, tracestate: str = "") -> Parent | None:
    """The caller's span; None if the header is invalid: then the trace begins here, as W3C wants it."""
    found = TRACEPARENT.fullmatch(traceparent.strip())
    if found is None or (found[4] and traceparent.lstrip().startswith("00")):
        return None
    return Parent(found[1], found[2], bool(int(found[3], 16) & SAMPLED), _state(tracestate))


def _state(header: str) -> str:
    """The tracestate to pass on, "" if the header is invalid."""
    if len(header) > STATE_CHARACTERS:
        return ""
    members = [member for each in header.split(",") if (member := each.strip())]
    return ",".join(members) if all(map(STATE_MEMBER.fullmatch, members)) else ""


def new_trace_id() -> str:
    """16 random bytes, not all zero."""
    return f"{getrandbits(128) or 1:032x}"


def new_span_id() -> str:
    """8 random bytes, not all zero."""
    return f"{getrandbits(64) or 1:016x}"
