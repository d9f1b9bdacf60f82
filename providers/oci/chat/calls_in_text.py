"""Reads calls that a model writes into its text: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.

The servers of some imported models on OCI do not read them (https://github.com/NousResearch/Hermes-Function-Calling).
"""

from collections.abc import Iterable, Iterator

import orjson

from core.events import Event, Events, Finish, Text, ToolArguments, ToolCall

OPENS, CLOSES = "<tool_call>", "</tool_call>"


def calls_in_text(events: Iterable[Event]) -> Events:
    """The events with the calls in the first choice's text as calls. Text that only resembles a call stays text."""
    held, calls = "", 0
    for event in events:
        if isinstance(event, Text) and event.choice == 0:
            held += event.text
            while CLOSES in held or OPENS not in held:
                before, opened, rest = held.partition(OPENS)
                if not opened:
                    kept = _beginning(held)
                    text, held = held[: len(held) - kept], held[len(held) - kept :]
                    yield from _text_events(text, after_calls=calls > 0)
                    break
                inside, closed, after = rest.partition(CLOSES)
                if not closed:
                    break
                yield from _text_events(before, after_calls=calls > 0)
                yield from _call(inside, calls)
                held, calls = after, calls + 1
            continue
        if isinstance(event, Finish) and event.choice == 0:
            yield from _text_events(held, after_calls=calls > 0)
            held = ""
        yield event


def _text_events(text: str, *, after_calls: bool) -> Iterator[Event]:
    """Text without the white space between calls."""
    if text and not (after_calls and text.isspace()):
        yield Text(text)


def _beginning(text: str) -> int:
    """How many characters at the end may be the beginning of a call."""
    return next((size for size in range(len(OPENS) - 1, 0, -1) if text.endswith(OPENS[:size])), 0)


def _call(inside: str, number: int) -> Iterator[Event]:
    try:
        made = orjson.loads(inside)
        name, arguments = str(made["name"]), made.get("arguments", {})
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        yield Text(f"{OPENS}{inside}{CLOSES}")
        return
    key = f"in text {number}"
    yield ToolCall(key, name)
    yield ToolArguments(key, arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode())
