"""The same conversations through every dialect give the same answers in OpenAI's; so does everything that can go wrong.

tests/conversations.py is the table of what is said, tests/upstreams/dialects.py that of who says it; `pytest -s` shows
the two as one.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import pytest

from app import create_app
from config import Settings
from tests.conftest import environment
from tests.conversations import CONVERSATIONS, HI, Conversation, Wanted
from tests.frames import chunks, completion, error, payloads
from tests.upstreams.dialects import DIALECTS, Dialect
from tests.upstreams.scripted import Scripted

HURRIED = {"FIRST_EVENT_TIMEOUT": 0.2, "IDLE_TIMEOUT": 0.2, "RETRIES": 0, "BREAKER_FAILURES": 10_000}
TIMED_OUT = {"stalled_before_headers", "slow_headers", "stalled_after_headers", "comments_only", "stalled"}
LOUD = {"endless_headers", "endless_line"}
"""Megabytes that the transport refuses whoever sends them: tests/test_faults.py has them once."""


@dataclass(frozen=True)
class Line:
    """A dialect, its emulated vendor, and a client of ours that knows nothing of it."""

    dialect: Dialect
    upstream: Scripted
    client: Any

    def ask(self, body: Mapping[str, Any], stream: bool) -> Any:
        options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        asked = {"model": self.dialect.model, "provider": self.dialect.name, "messages": HI, **options, **body}
        return self.client.post("/v1/chat/completions", json=asked)


@contextmanager
def line_to(dialect: Dialect, **settings: object) -> Iterator[Line]:
    with dialect.upstream() as upstream:
        values = environment(
            RETRIES=0, BREAKER_FAILURES=10_000, LOG_LEVEL="NONE", **dialect.settings(upstream), **settings
        )
        yield Line(dialect, upstream, create_app(Settings.load(values)).test_client())


def got(response: Any, stream: bool) -> Wanted:
    """An answer as the table has it."""
    if response.status_code != 200:
        code, retry_after = error(response.data)["code"], response.headers.get("Retry-After")
        return Wanted("", (), "", (), "", response.status_code, code, retry_after)
    return _streamed(response.data) if stream else _whole(completion(response.data))


def _streamed(data: bytes) -> Wanted:
    text, reasoning, finish, usage, calls = "", "", "", None, list[list[str]]()
    for chunk in _with_reasoning(data):
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            delta = choice["delta"]
            text += delta.get("content") or ""
            reasoning += delta.get("reasoning_content") or ""
            finish = choice["finish_reason"] or finish
            for call in delta.get("tool_calls") or []:
                if call.get("id"):
                    calls.append([call["function"]["name"], ""])
                calls[call["index"]][1] += call["function"].get("arguments") or ""
    return Wanted(text, tuple((name, json.loads(each)) for name, each in calls), finish, _tokens(usage), reasoning)


def _with_reasoning(data: bytes) -> list[dict[str, Any]]:
    """The chunks, which must be OpenAI's to the letter where no thinking was asked for."""
    return [json.loads(each) for each in payloads(data)] if b"reasoning_content" in data else chunks(data)


def _whole(body: dict[str, Any]) -> Wanted:
    (choice,) = body["choices"]
    message = choice["message"]
    called = message.get("tool_calls") or []
    assert len({call["id"] for call in called}) == len(called)
    calls = [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in called]
    text, reasoning = message["content"] or "", message.get("reasoning_content") or ""
    return Wanted(text, tuple(calls), choice["finish_reason"], _tokens(body["usage"]), reasoning)


def _tokens(usage: Any) -> tuple[int, ...]:
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    details = usage["prompt_tokens_details"]["cached_tokens"], usage["completion_tokens_details"]["reasoning_tokens"]
    return usage["prompt_tokens"], usage["completion_tokens"], *details


def leaves(value: Any) -> Iterator[str]:
    """Every text in a JSON value, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from leaves(each)


# The same answers


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_the_same_answers(stream: bool) -> None:
    """N1, N2, N4, N11, N19: nothing of what is asked is lost, and each answer and failure is OpenAI's own."""
    table: dict[str, list[str]] = {said.name: [] for said in CONVERSATIONS}
    wrong: list[str] = []
    for dialect in DIALECTS:
        with line_to(dialect) as line:
            for said in CONVERSATIONS:
                if said.name in dialect.without:
                    table[said.name].append("-")
                    continue
                found = _differences(line, said, stream)
                table[said.name].append("differs" if found else "same")
                wrong += [f"{dialect}, {said}: {each}" for each in found]
    print(_shown("streamed" if stream else "whole", table))  # noqa: T201 - the table is what is to be seen
    assert not wrong, "\n".join(["", *wrong])


def _shown(title: str, table: Mapping[str, list[str]]) -> str:
    width = max(map(len, table)) + 2
    rows = [(title, [dialect.name for dialect in DIALECTS]), *table.items()]
    lines = [f"{name:{width}}" + "".join(f"{cell:12}" for cell in cells) for name, cells in rows]
    lines += [f"- {each} has no {name}: {why}" for each in DIALECTS for name, why in each.without.items()]
    return "\n".join(["", *lines])


def _differences(line: Line, said: Conversation, stream: bool) -> list[str]:
    """What is not as the table has it."""
    before = len(line.upstream.received)
    line.upstream.enqueue(said.answer)
    response = line.ask(said.body, stream)
    line.upstream.forget()
    try:
        found = got(response, stream)
    except (AssertionError, KeyError, ValueError) as wrong:
        return [f"{type(wrong).__name__}: {wrong} in {response.data!r}"]
    wanted = asdict(said.wanted if said.wanted.status == 200 else replace(said.wanted, text="", finish="", usage=()))
    differences = [
        f"{name} is {value!r} instead of {wanted[name]!r}: {response.data[:600]!r}"
        for name, value in asdict(found).items()
        if value != wanted[name] and not (name == "code" and wanted["code"] is None)
    ]
    bodies = [each.json for each in line.upstream.received[before:] if each.body]
    sent = " ".join(text for body in bodies for text in leaves(body))
    return differences + [f"{text!r} has not reached the vendor: {sent!r}" for text in said.told if text not in sent]
