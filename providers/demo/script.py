"""The demo's text and tool calls. Pure: the same request always has the same script.

Malformed parts of a request are ignored.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from core.requests import ChatRequest
from providers.common.words import words
from providers.demo.schema_examples import example
from providers.demo.tools import Tool, chosen_tools, string_at

MOST_WORDS = 5000
"""The longest answer, in words."""

_ECHO = 300
_PASSAGE = (
    "This is the demo voice, and it keeps talking so that you can hear how the line sounds. "
    "Every word comes on its own, at a steady pace, and nothing is lost on the way. "
    "You may interrupt it whenever you like. "
)
_HELLO = "Hello! I am the Thinkline demo voice, and I hear you well. Say something, and I will say it back."
_ABOUT = (
    "I am the demo voice of Thinkline: I work offline, repeat what I hear and call the tools I am given. "
    "To talk to a real model, put a provider's key, such as OPENAI_API_KEY, into the .env file and start me again."
)
_GREETINGS = (
    "hi hello hey hallo hola bonjour ciao servus moin welcome greetings good morning afternoon evening day there "
    "again everyone demo thinkline 你好 您好 こんにちは"
)
_NUMBER_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand"
)
_NUMBERS = dict(zip(_NUMBER_WORDS.split(), [*range(1, 20), *range(20, 101, 10), 1000], strict=True))
_NUMBER = rf"(?:an?\s+|one\s+)??(\d+|{'|'.join(_NUMBERS)})"

_REPEAT = re.compile(r"\s*(?:please\s+)?repeat\s+after\s+me(?:\s*[:,]\s*|\s+)(\S.*)", re.IGNORECASE | re.DOTALL)
_WORDS = re.compile(rf"\b(?:say|speak|write|tell me|give me)\s+{_NUMBER}\s+words?\b", re.IGNORECASE)
_COUNT = re.compile(rf"\bcount\s+(?:up\s+)?to\s+{_NUMBER}\b", re.IGNORECASE)
_SAY = re.compile(r"\s*(?:please\s+)?say(?:\s*[:,]\s*|\s+)(\S.*)", re.IGNORECASE | re.DOTALL)
_ASKED_ABOUT_ITSELF = re.compile(
    r"^\W*help\b|\b(?:who|what) are you\b|\babout yourself\b|\byour name\b|\bwhat can you do\b|\bset you up\b",
    re.IGNORECASE,
)
_OBJECT = re.compile(r"^[ \t]*(?=\{)", re.MULTILINE)
_SCHEMAS = 3
"""The number of objects that are examined in a message."""

_ATTACHMENTS = {
    "image_url": "image",
    "input_image": "image",
    "input_audio": "audio clip",
    "audio_url": "audio clip",
    "video_url": "video",
    "file": "file",
    "input_file": "file",
}


@dataclass(frozen=True, slots=True)
class Script:
    """An answer: thoughts, then either calls (name and JSON text of the arguments) or a text."""

    thoughts: Sequence[str] = ()
    calls: Sequence[tuple[str, str]] = ()
    text: str = ""


def script_for(request: ChatRequest) -> Script:
    """The answer to a request. Raises InvalidRequest if it requires a tool that is not declared."""
    results = tool_results(request)
    content = _last_user_content(request)
    prompt = text_of(content)
    tools = [] if results else chosen_tools(request, prompt)
    calls = [(each.name, _arguments(each, prompt)) for each in tools]
    text = "" if calls else _format_reply(request, prompt, _reply(prompt, content, results))
    return Script(_thoughts(request, prompt, tools), calls, text)


def messages(request: ChatRequest) -> list[Mapping[str, Any]]:
    """The messages that are objects."""
    given = request.body.get("messages")
    return [each for each in given if isinstance(each, Mapping)] if isinstance(given, list) else []


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or the texts of its parts, one a line."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (each if isinstance(each, str) else string_at(each, "text") for each in parts)
    return "\n".join(each for each in texts if each)


def attachments(content: Any) -> str:
    """A spoken list of a message's parts besides text: "2 images and 1 audio clip"; "" for none."""
    parts = content if isinstance(content, list) else []
    kinds = (_ATTACHMENTS.get(string_at(each, "type")) for each in parts)
    counts = Counter(kind for kind in kinds if kind)
    return " and ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items())


def tool_results(request: ChatRequest) -> list[str]:
    """The results of tools since the last message with text."""
    results: list[str] = []
    for message in reversed(messages(request)):
        if message.get("role") in ("tool", "function"):
            results.insert(0, text_of(message.get("content")))
        elif not (results and message.get("tool_calls")):  # LiveKit sends parallel calls and results in turn
            break
    return results


def speech(prompt: str) -> str:
    """The answer to the user's text, from commands ("say", "count to") down to an echo."""
    if match := _REPEAT.match(prompt):
        return match[1]
    if long := _of_length(prompt):
        return long
    if match := _SAY.match(prompt):
        return match[1]
    if _is_greeting(prompt):
        return _HELLO
    if _ASKED_ABOUT_ITSELF.search(prompt):
        return _ABOUT
    return f"I hear you. You said: {_shorten(prompt)}"


def _of_length(prompt: str) -> str:
    """As many words, or numbers, as the user wants; "" if the user wants no such thing."""
    if match := _WORDS.search(prompt):
        return " ".join(islice(cycle(_PASSAGE.split()), _amount(match[1]))).rstrip(",.") + "."
    if match := _COUNT.search(prompt):
        return ", ".join(str(each) for each in range(1, _amount(match[1]) + 1)) + "."
    return ""


def _arguments(tool: Tool, prompt: str) -> str:
    value = example(tool.parameters, prompt)
    return json.dumps(value if isinstance(value, dict) else {}, ensure_ascii=False)


def _format_reply(request: ChatRequest, prompt: str, reply: str) -> str:
    """The reply in the requested response_format."""
    wanted = request.body.get("response_format")
    kind = string_at(wanted, "type")
    if kind == "json_schema" and isinstance(wanted, Mapping):
        described = wanted.get("json_schema")
        schema = described.get("schema") if isinstance(described, Mapping) else None
        return json.dumps(example(schema, prompt), ensure_ascii=False)
    if kind != "json_object":
        return reply
    schema = _schema_in_messages(request)
    return json.dumps(example(schema, prompt) if schema else {"message": reply}, ensure_ascii=False)


def _schema_in_messages(request: ChatRequest) -> Mapping[str, Any] | None:
    """The JSON schema in a message; some clients send it there with json_object (instructor does)."""
    for message in messages(request):
        text = text_of(message.get("content"))
        for start in islice(_OBJECT.finditer(text), _SCHEMAS):
            try:
                found, _ = json.JSONDecoder().raw_decode(text, start.end())
            except (ValueError, RecursionError):
                continue
            if isinstance(found.get("properties"), dict):
                schema: Mapping[str, Any] = found
                return schema
    return None


def _reply(prompt: str, content: Any, results: Sequence[str]) -> str:
    if results:
        return " ".join(f"The tool says: {_shorten(each)}" for each in results)
    got = attachments(content)
    if got and not prompt.strip():
        return f"Hello! I got {got}."
    text = speech(prompt)
    if not got:
        return text
    return f"{text}{'.' * text[-1].isalnum()} I also got {got}."


def _thoughts(request: ChatRequest, prompt: str, tools: Sequence[Tool]) -> list[str]:
    if not request.include_reasoning and request.body.get("reasoning_effort", "none") == "none":
        return []
    plan = f"call {', '.join(each.name for each in tools)}" if tools else "answer at once"
    count = len(prompt.split())
    return [f"The user's last message has {count} word{'s' * (count != 1)}. ", f"I will {plan}."]


def _last_user_content(request: ChatRequest) -> Any:
    return next((each.get("content") for each in reversed(messages(request)) if each.get("role") == "user"), None)


def _is_greeting(prompt: str) -> bool:
    words = re.findall(r"\w+", prompt.lower())
    return not prompt.strip() or (bool(words) and set(words).issubset(_GREETINGS.split()))


def _amount(number: str) -> int:
    """A number in digits or as a word, within 1 and MOST_WORDS."""
    value = _NUMBERS.get(number.lower()) or int(number[:9])
    return max(1, min(value, MOST_WORDS))


def _shorten(text: str) -> str:
    """A text on one line, cut after a word if it is too long to listen to."""
    joined = " ".join(text.split())
    if len(joined) <= _ECHO:
        return joined
    beginning = "".join(_up_to(_ECHO, words(joined))).rstrip()
    return f"{beginning} ..." if beginning else "one very long word."


def _up_to(limit: int, pieces: Iterator[str]) -> Iterator[str]:
    for piece in pieces:
        limit -= len(piece)
        if limit < 0:
            return
        yield piece
