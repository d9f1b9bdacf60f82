"""Answers in the Responses dialect: events to its stream, or to one resource.

The rules of each stream, whichever provider sends it: consecutive numbers; one item at a time, each added, filled and
done before the next; full resources at both ends; one [DONE], and nothing after it.

Some upstreams send several tool calls at the same time. If the arguments of a call are incomplete when the next item
begins, that item is held back until they are complete, or until the answer finishes.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import time
from types import MappingProxyType
from typing import Any

from core import lenient_json
from core.errors import GatewayError, RequestCancelled, UpstreamDown
from core.events import (
    AnswerStart,
    Citation,
    Event,
    FillerText,
    Finish,
    Picture,
    Reasoning,
    Refusal,
    Text,
    ToolArguments,
    ToolCall,
    Usage,
    Verbatim,
)
from core.json_values import Json
from schemas.chat.encode import DONE, HEARTBEAT, dumps
from schemas.responses import output
from schemas.responses.calls import Call, CustomCall
from schemas.responses.frames import (
    ended_response,
    error_fields,
    events_of,
    next_number,
    response_error,
    usage_body,
)
from schemas.responses.output import Item, Message, NamedFields, PictureItem
from schemas.responses.tools import DeclaredTool

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}

Keep = Callable[[Json, list[Json], bool], None]
"""Called with a response that has ended, its items that the model has generated, and whether it passed unchanged."""


class ResponsesEncoder:
    """Encodes one answer's events as the bytes of a stream: `encode` for each, then `end`, or `error` instead.

    response     the resource at its beginning (ResponsesRequest.resource)
    named_tools  the tools that have another name in a chat, by the names of their functions there
    begins       called once with this encoder, when `response` has the id that the caller gets
    one_end      a failed answer ends with one event, instead of an error and the response: on a WebSocket, clients read
                 the next response's events after the first end
    """

    heartbeat = HEARTBEAT

    def __init__(
        self,
        response: Json,
        *,
        include_reasoning: bool = False,
        named_tools: Mapping[str, DeclaredTool] = MappingProxyType({}),
        streams: bool = True,
        one_end: bool = False,
        begins: Callable[["ResponsesEncoder"], None] = lambda _: None,
        keep: Keep = lambda *_: None,
    ) -> None:
        self.response = response
        self._include_reasoning = include_reasoning
        self._named_tools = named_tools
        self._streams = streams
        self._one_end = one_end
        self._begins = begins
        self._keep = keep
        self._number = 0
        self._begun = False
        self._items: list[Item] = []
        self._waiting: deque[Item] = deque()
        self._calls: dict[int | str, Call] = {}
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._last = b""

    @property
    def finished(self) -> bool:
        """Whether the answer has its finish."""
        return self._finish is not None

    def encode(self, event: Event) -> bytes:
        """The bytes for one event; b"" if the event is not for the caller."""
        match event:
            case Verbatim():
                return self._pass_through(event.data)
            case Usage():
                self._usage = event
            case AnswerStart():
                self._start(event)
            case Finish():
                return self._encode_finish(event)
            case _ if getattr(event, "choice", 0) or self.finished:
                pass  # a response has one choice, and nothing after its finish
            case Reasoning() if not self._include_reasoning:
                pass
            case Text(text="", logprobs=None):
                pass
            case FillerText():
                return self._feed(self._add(Message(len(self._items), is_filler=True)), Text(event.text))
            case Text() | Refusal() | Reasoning() | Citation() | ToolCall() | ToolArguments() | Picture():
                return self._feed(self._item_for(event), event)
            case _:
                raise TypeError(f"{type(event).__name__} has no place in a response")
        return b""

    def end(self) -> bytes:
        """The last bytes. An answer without a finish ends with an error."""
        if self._last:
            if (ended := ended_response(self._last)) is not None:
                self._keep(ended, ended["output"], True)
            return DONE
        if self._finish is None:
            return self.error(UpstreamDown("The upstream's answer ended before it was finished."))
        reason = INCOMPLETE.get(self._finish.reason)
        self.response = {
            **self.response,
            "status": "incomplete" if reason else "completed",
            "completed_at": None if reason else int(time()),
            "incomplete_details": {"reason": reason} if reason else None,
            "output": self._output("incomplete" if reason else "completed"),
            "usage": usage_body(self._usage),
        }
        self._keep(self.response, [item.body("completed") for item in self._model_items()], False)
        return self._write("response.incomplete" if reason else "response.completed", response=self.response) + DONE

    def error(self, error: GatewayError) -> bytes:
        """The end of a failed answer: an error, which every client reads, and the response with the output so far. A
        cancelled answer has not failed: its response is incomplete.
        """
        if self._last:
            self._catch_up()
        cancelled = isinstance(error, RequestCancelled)
        if self._one_end and not (self._begun or cancelled):
            return self._write("error", status=error.status, **error_fields(error))
        begun = self.begin()
        if cancelled:
            begun += self._advance("incomplete")
        self.response = {
            **self.response,
            "status": "cancelled" if cancelled else "failed",
            "error": None if cancelled else response_error(error),
            "output": self._output("incomplete"),
            "usage": usage_body(self._usage) if self._usage else None,
        }
        # The caller has heard the texts so far, so they are kept. Results of incomplete calls cannot follow.
        self._keep(
            self.response, [item.body("incomplete") for item in self._model_items() if isinstance(item, Message)], False
        )
        if cancelled:
            return begun + self._write("response.incomplete", response=self.response) + DONE
        error_event = b"" if self._one_end else self._write("error", **error_fields(error))
        return begun + error_event + self._write("response.failed", response=self.response) + DONE

    def _start(self, start: AnswerStart) -> None:
        if not self._begun:
            tier = {} if start.service_tier is None else {"service_tier": start.service_tier}
            self.response = {**self.response, "model": start.model or self.response["model"], **tier}

    def begin(self) -> bytes:
        """The response at its beginning, once: with the first event, or earlier."""
        if self._begun:
            return b""
        self._begun = True
        self._begins(self)
        return self._write("response.created", response=self.response) + self._write(
            "response.in_progress", response=self.response
        )

    def _feed(self, item: Item, event: Event) -> bytes:
        """Add an event to an item of the output; returns the bytes that can be sent by now."""
        item.held.append(event)
        return self.begin() + self._advance()

    def _add(self, item: Item) -> Item:
        self._items.append(item)
        self._waiting.append(item)
        return item

    def _item_for(self, event: Event) -> Item:
        """The item that an event belongs to: the newest one if it is of its kind, else a new one."""
        newest, index = (self._items[-1] if self._items else None), len(self._items)
        match event:
            case ToolArguments():
                return self._calls[event.key]
            case ToolCall():
                tool = self._named_tools.get(event.name) or DeclaredTool(event.name)
                call = (CustomCall if tool.is_custom else Call)(index, event, tool)
                self._calls[event.key] = call
                return self._add(call)
            case Picture():
                return self._add(PictureItem(index, event))
            case Reasoning():
                return newest if isinstance(newest, output.Reasoning) else self._add(output.Reasoning(index))
        continues = isinstance(newest, Message) and not newest.is_filler
        return newest if newest is not None and continues else self._add(Message(index))

    def _advance(self, status: str = "") -> bytes:
        """The bytes of the first open item, and of its end if it is complete and another item follows. With a status,
        all items are closed, the last one with that status.
        """
        data = b""
        while self._waiting:
            item = self._waiting[0]
            data += self._write_all(item.flush())
            if not status and (len(self._waiting) == 1 or not item.is_whole):
                break
            self._waiting.popleft()
            data += self._write_all(item.close("completed" if self._waiting or not status else status))
        return data

    def _encode_finish(self, event: Finish) -> bytes:
        if self.finished or event.choice:
            return b""
        self._finish = event
        if not self._model_items():
            self._add(Message(len(self._items))).held.append(Text(""))
        return self.begin() + self._advance("incomplete" if event.reason in INCOMPLETE else "completed")

    def _model_items(self) -> list[Item]:
        """The items that the model has generated."""
        return [item for item in self._items if not (isinstance(item, Message) and item.is_filler)]

    def _output(self, last: str) -> list[Json]:
        """The items of the output, the last one with the status `last`."""
        return [item.body(last if item is self._items[-1] else "completed") for item in self._items]

    def _write_all(self, events: Iterator[NamedFields]) -> bytes:
        return b"".join([self._write(kind, **fields) for kind, fields in events])

    def _write(self, kind: str, **fields: Any) -> bytes:
        """One event of the stream; b"" for an answer that is not streamed."""
        if not self._streams:
            return b""
        number, self._number = self._number, self._number + 1
        data = dumps({"type": kind, "sequence_number": number, **fields})
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

    def _pass_through(self, data: bytes) -> bytes:
        """Pass on a stream's frames of an upstream of this dialect."""
        if not self._begun:
            self._begun = True
            for event in events_of(data):
                if event.get("type") == "response.created" and isinstance(event.get("response"), dict):
                    self.response = {**self.response, **event["response"]}
            self._begins(self)
        self._last = data
        return data

    def pass_whole(self, response: Json) -> None:
        """Note the whole answer of an upstream of this dialect, which is passed on unchanged."""
        self.response = response
        self._keep(response, response["output"], True)

    def _catch_up(self) -> None:
        """Continue the numbers of the frames that were passed on."""
        self._number, self._last = next_number(self._last), b""


def whole(encoder: ResponsesEncoder, events: Iterable[Event]) -> bytes:
    """The whole answer as one JSON body, by an encoder that does not stream. Raises UpstreamDown for an answer without
    an end.
    """
    for event in events:
        if isinstance(event, Verbatim):
            encoder.pass_whole(lenient_json.loads(event.data))
            return event.data
        encoder.encode(event)
    if not encoder.finished:
        raise UpstreamDown("The upstream's answer ended before it was finished.")
    encoder.end()
    return dumps(encoder.response)
