"""Checks of streamed tool calls: what clients need to put them together."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tools.streamcheck.check import Need, Problem, Skipped, check, error
from tools.streamcheck.stream import Part, Stream, shorten


@check("tool called", Need.ANSWER)
def tool_called(stream: Stream) -> Iterator[Problem]:
    """A tool is called when one is required."""
    if not stream.asked.tools:
        raise Skipped("none was asked for: --tools")
    if not any(part.calls for part in stream.parts):
        yield error("a tool was required (tool_choice) and none is called")


@check("one call a delta")
def one_call_a_delta(stream: Stream) -> Iterator[Problem]:
    """A delta has one tool call at most; some clients read only the first."""
    for part in stream.parts:
        given = part.delta.get("tool_calls")
        if given is not None and not isinstance(given, list):
            yield error(f"frame {part.chunk.number} has tool_calls that are no list")
        elif given is not None and len(given) != 1:
            yield error(f"frame {part.chunk.number} has {len(given)} tool calls")


@check("call indices", Need.CALLS)
def call_indices(stream: Stream) -> Iterator[Problem]:
    """Tool calls are numbered 0, 1, 2 ..., one after the other."""
    for parts in stream.choices.values():
        seen: list[Any] = []
        for call in _calls(parts):
            index = call.get("index")
            if type(index) is not int:
                yield error(f"a tool call's index is {shorten(repr(index))}")
            elif index == len(seen):
                seen.append(index)
            elif not seen or index != seen[-1]:
                after = f"after {seen[-1]}" if seen else "first"
                yield error(f"the tool call index {index} comes {after}")


@check("call names", Need.CALLS)
def call_names(stream: Stream) -> Iterator[Problem]:
    """A call's id, type and name come once, together, when it begins; ids are unique."""
    for parts in stream.choices.values():
        ids: dict[str, str] = {}
        for call in _calls(parts):
            place = repr(call.get("index"))
            name = _function(call).get("name")
            if place in ids:
                repeated = [key for key, value in (("id", call.get("id")), ("name", name)) if value]
                if repeated:
                    yield error(f"tool call {place} tells its {' and '.join(repeated)} again")
                continue
            given = call.get("id")
            if not isinstance(given, str) or not given:
                yield error(f"tool call {place} begins with the id {shorten(repr(given))}")
            elif given in ids.values():
                yield error(f"two tool calls have the id {shorten(given)}")
            ids[place] = str(given)
            if call.get("type") != "function":
                yield error(f"tool call {place} has the type {shorten(repr(call.get('type')))}")
            if not isinstance(name, str) or not name:
                yield error(f"tool call {place} begins with the name {shorten(repr(name))}")


@check("call arguments", Need.CALLS)
def call_arguments(stream: Stream) -> Iterator[Problem]:
    """A call's arguments join to a JSON object."""
    for parts in stream.choices.values():
        joined: dict[str, str] = {}
        for call in _calls(parts):
            place, piece = repr(call.get("index")), _function(call).get("arguments")
            if piece is not None and not isinstance(piece, str):
                yield error(f"tool call {place} has arguments that are no text: {shorten(repr(piece))}")
            joined[place] = joined.get(place, "") + (piece if isinstance(piece, str) else "")
        for place, whole in joined.items():
            try:
                if not isinstance(json.loads(whole), dict):
                    yield error(f"the arguments of tool call {place} are no object: {shorten(whole)}")
            except (ValueError, RecursionError):
                yield error(f"the arguments of tool call {place} are no JSON: {shorten(whole)}")


def _calls(parts: list[Part]) -> Iterator[Mapping[str, Any]]:
    for part in parts:
        yield from part.calls


def _function(call: Mapping[str, Any]) -> Mapping[str, Any]:
    given = call.get("function")
    return given if isinstance(given, Mapping) else {}
