"""Answers a turn: asks the model, sends its answer, and carries out its tool calls, until it calls no more tools."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from logging import getLogger
from math import inf
from time import monotonic
from typing import Protocol

from core.context import CallContext
from core.errors import Cancelled, UpstreamDown
from core.events import Event, Finish, Refusal, Text, ToolArguments, ToolCall
from core.json_values import Json
from dispatch.routing.voice_config import VoiceConfig
from schemas.chat.arguments import object_text
from schemas.chat.encode import new_call_id
from voice.call import Call, State, Turn
from voice.platform import Speech, ToolEnded, ToolStarted
from voice.tools import ENDS_TURN, TOOLS, Action, BadArguments, action_of, arguments_of, build_tools

log = getLogger("thinkline.voice")

MOST_ROUNDS = 6
"""How often the model is asked in one turn, since a model that only calls tools says nothing to the caller."""


class ToolFailed(Exception):
    """A tool failed; the message is for the model."""


class ToolWebhook(Protocol):
    """Carries tools out (voice/webhook.py)."""

    def call(self, body: Json, call: CallContext) -> str:
        """Run the tool, and return its answer. Raises ToolFailed, and Cancelled with the call."""


class Answer(Protocol):
    """One answer of a model, while it is under way.

    call     its context; cancelling it ends the answer
    events   the answer's events
    filler   the phrase to send while the model is silent, and when it is due by the monotonic clock; ("", inf) for none
    """

    call: CallContext
    events: Iterable[Event]
    filler: tuple[str, float]

    def note_filler(self) -> None:
        """Note that the filler was sent."""


Ask = Callable[[Sequence[Json], Sequence[Json], str], AbstractContextManager[Answer]]
"""Ask the model: messages, tools, the conversation's id. Entering and leaving it raise GatewayError and Cancelled."""


@dataclass(slots=True)
class ToolUse:
    """A tool call of the model."""

    id: str
    name: str
    pieces: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        """The arguments, as the JSON text of an object."""
        return object_text("".join(self.pieces))

    @property
    def message(self) -> Json:
        """The call in the form of an assistant's message."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


class TurnAnswerer:
    """Answers the turns of a call. `webhook` carries out the tools of `config`; None where there is none."""

    def __init__(self, call: Call, ask: Ask, config: VoiceConfig, webhook: ToolWebhook | None) -> None:
        self._call = call
        self._ask = ask
        self._config = config
        self._webhook = webhook
        self._own = frozenset(tool["name"] for tool in config.tools)

    def answer(self, turn: Turn) -> Action | None:
        """Ask the model until it calls no more tools; returns the platform's action then, None for none."""
        tools = build_tools(self._call.platform.actions, self._config)
        with ExitStack() as fillers:
            for number in range(MOST_ROUNDS):
                uses = self._round(turn, tools, None if number else fillers)
                if not uses:
                    return None
                for at, use in enumerate(uses):
                    action = self._carry_out(turn, use, continues=at > 0)
                    if isinstance(action, ENDS_TURN):
                        return action
        log.warning("a model calls tools again and again", extra={"facts": {"platform": self._call.platform.name}})
        return None

    def _round(self, turn: Turn, tools: Sequence[Json], fillers: ExitStack | None) -> list[ToolUse]:
        """Speak one answer of the model; returns the calls in it. With `fillers`, a phrase is said if nothing else is,
        until that is closed.
        """
        uses: dict[int | str, ToolUse] = {}
        finished = False
        with self._ask(self._with_rounds(turn), tools, self._call.id) as answer:
            self._call.attach(turn, answer.call, State.ASKING)
            if fillers is not None and answer.filler[1] < inf:
                fillers.callback(self._plan_filler(turn, answer))
            for event in answer.events:
                match event:
                    case Text() | Refusal() if event.text and not event.choice:
                        self._say(turn, event.text)
                    case ToolCall(choice=0):
                        uses[event.key] = ToolUse(event.id or new_call_id(), event.name)
                    case ToolArguments(choice=0):
                        uses[event.key].pieces.append(event.text)
                    case Finish(choice=0):
                        finished = True
            if not finished:
                raise UpstreamDown("The upstream's answer ended before it was finished.")
        return list(uses.values())

    def _with_rounds(self, turn: Turn) -> list[Json]:
        with self._call.current(turn):
            return [*turn.asked, *self._call.conversation.rounds]

    def _plan_filler(self, turn: Turn, answer: Answer) -> Callable[[], None]:
        """Have a filler sent when it is due, unless something was sent before; returns a function that cancels it."""
        text, due = answer.filler

        def note() -> None:
            if turn.has_spoken:
                raise Cancelled
            self._call.conversation.say_filler(text)
            answer.note_filler()

        def fill() -> None:
            if (
                not self._call.writing.locked()
            ):  # else the turn is sending a frame, and this thread must not wait for it
                self._call.emit(turn, Speech(text), note)

        return self._call.socket.call_later(max(0.0, due - monotonic()), fill)

    def _say(self, turn: Turn, text: str) -> None:
        def note() -> None:
            self._call.state, turn.has_spoken = State.SPEAKING, True
            self._call.conversation.say(text)

        self._call.emit(turn, Speech(text), note)

    def _carry_out(self, turn: Turn, use: ToolUse, *, continues: bool) -> Action | None:
        """Run a tool, and note its answer."""
        action: Action | None = None
        upstream = CallContext()
        self._call.attach(turn, upstream, State.CALLING)
        if use.name in TOOLS and use.name in self._call.platform.actions and use.name not in self._own:
            content, action = self._act(turn, use)
        elif use.name in self._own and self._webhook is not None:
            content = self._by_webhook(turn, use, self._webhook, upstream)
        else:
            content = f"There is no tool {use.name!r}."
        with self._call.current(turn):
            self._call.conversation.add_call(use.message, content, continues=continues)
        return action

    def _act(self, turn: Turn, use: ToolUse) -> tuple[str, Action | None]:
        try:
            action = action_of(use.name, arguments_of(use.arguments), self._config)
        except BadArguments as error:
            return str(error), None
        if not isinstance(action, ENDS_TURN):
            self._call.emit(turn, action)
        return "Done.", action

    def _by_webhook(self, turn: Turn, use: ToolUse, webhook: ToolWebhook, upstream: CallContext) -> str:
        self._call.emit(turn, ToolStarted(use.id, use.name, use.arguments))
        succeeded = True
        try:
            content = webhook.call(self._tool_body(use), upstream)
        except ToolFailed as error:
            content, succeeded = str(error), False
        self._call.emit(turn, ToolEnded(use.id, content, succeeded))
        return content

    def _tool_body(self, use: ToolUse) -> Json:
        call = {"id": use.id, "name": use.name, "arguments": arguments_of(use.arguments)}
        where = {"platform": self._call.platform.name, "conversation": self._call.id}
        return {
            "type": "tool.call",
            "data": {**where, "variables": self._call.conversation.variables, "tool_call": call},
        }
