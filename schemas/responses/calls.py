"""The items of tool calls: see output.py."""

from collections.abc import Iterator

import orjson

from core.events import Event, ToolArguments, ToolCall
from core.json_values import Json
from schemas.chat.arguments import Arguments
from schemas.chat.encode import new_call_id
from schemas.responses.items import CUSTOM_INPUT
from schemas.responses.output import Item, NamedFields, Status
from schemas.responses.tools import DeclaredTool


class Call(Item):
    """A call of a function."""

    prefix = "fc"

    def __init__(self, index: int, call: ToolCall, tool: DeclaredTool) -> None:
        super().__init__(index)
        self._named = {"name": tool.name, **({"namespace": tool.namespace} if tool.namespace else {})}
        self._call_id = call.id or new_call_id()
        self._arguments = Arguments()
        self._texts: list[str] = []

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are a complete object."""
        try:
            return isinstance(orjson.loads("".join(self._texts)), dict)
        except orjson.JSONDecodeError:
            return False

    @property
    def text(self) -> str:
        """Its arguments so far."""
        return "".join(self._texts)

    def body(self, status: Status) -> Json:
        """The item with its content so far."""
        made = {"type": "function_call", "id": self.id, "call_id": self._call_id, **self._named}
        return {**made, "arguments": self.text, "status": status}

    def feed(self, event: Event) -> Iterator[NamedFields]:
        """The events of this dialect for one event of the answer."""
        if isinstance(event, ToolArguments):
            yield from self._delta(self._halves.join(self._arguments.feed(event.text)))

    def finish(self) -> Iterator[NamedFields]:
        """The events that end its parts."""
        yield from self._delta(self._halves.rest() + self._arguments.close())
        yield (
            "response.function_call_arguments.done",
            {**self.at, "name": self._named["name"], "arguments": self.text},
        )

    def _delta(self, text: str) -> Iterator[NamedFields]:
        if text:
            self._texts.append(text)
            yield "response.function_call_arguments.delta", {**self.at, "delta": text}


class CustomCall(Call):
    """A call of a tool that takes a text. Its input is sent at its end: the text is part of the arguments, which must
    be complete to be parsed.
    """

    prefix = "ctc"

    def body(self, status: Status) -> Json:
        """The item with its content so far."""
        input_text = "" if status == "in_progress" else self._input()
        return {
            "type": "custom_tool_call",
            "id": self.id,
            "call_id": self._call_id,
            **self._named,
            "input": input_text,
        }

    def finish(self) -> Iterator[NamedFields]:
        """The events that end its parts."""
        for _ in super().finish():
            pass  # the arguments are completed, and not sent
        input_text = self._input()
        if input_text:
            yield "response.custom_tool_call_input.delta", {**self.at, "delta": input_text}
        yield "response.custom_tool_call_input.done", {**self.at, "input": input_text}

    def _delta(self, text: str) -> Iterator[NamedFields]:
        self._texts.append(text)
        yield from ()

    def _input(self) -> str:
        try:
            found = orjson.loads(self.text).get(CUSTOM_INPUT)
        except (orjson.JSONDecodeError, AttributeError):
            found = None
        return found if isinstance(found, str) else self.text
