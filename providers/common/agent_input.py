"""A conversation in OpenAI's dialect as an agent's turn: the history, the new message, and its files. Pure functions.

An agent has its own prompt, tools and memory; a turn is one text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidRequest, Unsupported
from core.json_values import Json
from core.requests import ChatRequest
from providers.common import translate
from providers.common.translate import tool_choice

FileConverter = Callable[[Mapping[str, Any], str], Json]
"""A `file` part and its field, as the vendor's agents take a file. Raises InvalidRequest and Unsupported."""


@dataclass(frozen=True, slots=True)
class AgentInput:
    """One turn.

    system    all of the system prompt
    before    the history as (user or assistant, text), without two of one role in a row
    received     the messages that a session must have received to belong to this conversation
    text      the user's new text; "" if only results of tools are new
    results   indices of the messages with the results, if nothing else is new; `before` has them too
    files     the new attachments; `all_files`: those of the whole conversation
    """

    system: str
    before: tuple[tuple[str, str], ...]
    received: Sequence[Mapping[str, Any]]
    text: str
    results: tuple[int, ...]
    files: tuple[Json, ...]
    all_files: tuple[Json, ...]


def require_agent_can(request: ChatRequest) -> None:
    """Raise Unsupported for what no agent does: its prompt, tools and form of answer are its own."""
    body = request.body
    if (body.get("response_format") or {}).get("type", "text") != "text":
        raise Unsupported("An agent answers in text alone.", param="response_format")
    if tool_choice(request)[0] == "required":
        raise Unsupported("An agent calls what it finds necessary, and cannot be made to.", param="tool_choice")
    if "audio" in body.get("modalities", ()):
        raise Unsupported("An agent answers in text alone.", param="modalities")
    if body.get("n", 1) > 1:
        raise Unsupported("An agent gives one answer.", param="n")


def agent_input(messages: Sequence[Mapping[str, Any]], to_file: FileConverter | None = None) -> AgentInput:
    """A conversation as an agent's turn; without `to_file` it takes no files. Raises InvalidRequest and Unsupported
    that name the message.
    """
    texts = [_text(message, at, files=to_file is not None) for at, message in enumerate(messages)]
    files = [_files(message, at, to_file) for at, message in enumerate(messages)]
    first_new = max((at + 1 for at, message in enumerate(messages) if message["role"] == "assistant"), default=0)
    new = range(first_new, len(messages))
    users = [at for at in new if messages[at]["role"] == "user"]
    results = [at for at in new if messages[at]["role"] in ("tool", "function")]
    only_results = bool(results) and not users
    # Some platforms make the agent speak first, or again, by a system message at the end.
    spoken = users or [at for at in new if messages[at]["role"] in ("system", "developer")]
    text = "" if only_results else "\n".join(filter(str.strip, (texts[at] for at in spoken)))
    if not text and not results and not any(files[at] for at in users):
        raise InvalidRequest(
            "An agent answers to what a user says: the last message must have a user's words.", param="messages"
        )
    earlier = [at for at in range(len(messages)) if at < first_new or at in results]
    return AgentInput(
        system="\n\n".join(
            texts[at]
            for at, message in enumerate(messages)
            if message["role"] in ("system", "developer") and texts[at].strip()
        ),
        before=_before([(messages[at], texts[at]) for at in earlier]),
        received=messages[:first_new],
        text=text,
        results=tuple(results) if only_results else (),
        files=tuple(file for at in users for file in files[at]),
        all_files=tuple(file for each in files for file in each),
    )


def flatten_history(before: Sequence[tuple[str, str]], text: str) -> str:
    """The history and the new message as one prompt."""
    if not before:
        return text
    lines = "\n".join(f"{role.capitalize()}: {words}" for role, words in before)
    now = f" The user now says:\n{text}" if text else ""
    return f"The conversation so far:\n{lines}\n\nGo on with it.{now}"


def _before(messages: Sequence[tuple[Mapping[str, Any], str]]) -> tuple[tuple[str, str], ...]:
    lines: list[tuple[str, str]] = []
    names: dict[str, str] = {}
    for message, text in messages:
        role, words = message["role"], text.strip()
        if role in ("system", "developer"):
            continue
        if role in ("tool", "function"):
            name = names.get(message.get("tool_call_id", "")) or message.get("name") or "a tool"
            role, words = "user", f"(The result of {name}: {words})"
        for call in message.get("tool_calls") or ():
            function = call.get("function")
            function = function if isinstance(function, dict) else {}
            names[str(call.get("id"))] = name = str(function.get("name"))
            words = f"{words} (Calls {name} with {function.get('arguments') or '{}'})".strip()
        if words and lines and lines[-1][0] == role:
            lines[-1] = role, f"{lines[-1][1]}\n{words}"
        elif words:
            lines.append((role, words))
    return tuple(lines)


def _text(message: Mapping[str, Any], at: int, *, files: bool) -> str:
    content = message.get("content")
    if isinstance(content, list) and files:
        # The other messages keep their indices, which an error names.
        content = [{"type": "text", "text": ""} if part["type"] == "file" else part for part in content]
    refusal = message.get("refusal")
    return translate.content_text(content, f"messages[{at}]") or (refusal if isinstance(refusal, str) else "")


def _files(message: Mapping[str, Any], at: int, to_file: FileConverter | None) -> list[Json]:
    content = message.get("content")
    parts = content if isinstance(content, list) and to_file else []
    return [
        to_file(part, f"messages[{at}].content[{position}]")
        for position, part in enumerate(parts)
        if to_file and part["type"] == "file"
    ]
