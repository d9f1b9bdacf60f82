"""Phone calls without a network: a socket and a model that do as a test says."""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from types import SimpleNamespace
from typing import Any

from core.context import CallContext
from core.errors import Cancelled, GatewayError, Overloaded
from core.events import Event, Finish, Text, ToolArguments, ToolCall
from core.json_values import Json
from dispatch.routing.voice_config import NO_VOICE, VoiceConfig
from tests.conftest import until
from voice.conversation import KeptConversations
from voice.platform import Platform
from voice.session import Session


class FakeSocket:
    """Keeps what is sent. A turn runs on a thread of its own."""

    def __init__(self) -> None:
        self.frames: list[Json] = []
        self.closing = False
        self.framing = SimpleNamespace(is_finished=True)
        self.is_full = False
        self.closed_with: int | None = None
        self.later: list[Callable[[], None]] = []

    def send(self, text: str) -> None:
        if self.closed_with is not None:
            raise Cancelled
        self.frames.append(json.loads(text))

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed_with = code

    def run_turn(self, work: Callable[[], None]) -> None:
        if self.is_full or self.closing:
            raise Overloaded("full")
        threading.Thread(target=work, daemon=True).start()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        self.later.append(callback)
        return lambda: self.later.remove(callback) if callback in self.later else None


Step = Event | GatewayError | threading.Event


class ScriptedAnswer:
    """An answer: its events; an error is raised, and at a threading.Event it waits for that or its cancellation."""

    def __init__(self, steps: Sequence[Step], filler: tuple[str, float] = ("", inf)) -> None:
        self.call = CallContext()
        self.filler = filler
        self.filled = False
        self.ended = False
        self._steps = steps

    @property
    def events(self) -> Iterator[Event]:
        for step in self._steps:
            if isinstance(step, threading.Event):
                with self.call.on_cancel(step.set):
                    step.wait(20)
                if self.call.gone:
                    raise Cancelled
            elif isinstance(step, GatewayError):
                raise step
            else:
                yield step

    def note_filler(self) -> None:
        self.filled = True


class FakeModel:
    """Gives the scripted answers one after the other, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[Json], list[Json], str]] = []
        self.given: list[ScriptedAnswer] = []
        self._script: deque[ScriptedAnswer | GatewayError] = deque()

    def will(self, *steps: Step, **options: Any) -> ScriptedAnswer:
        answer = ScriptedAnswer(steps, **options)
        self._script.append(answer)
        return answer

    def will_say(self, *texts: str) -> ScriptedAnswer:
        return self.will(*map(Text, texts), Finish("stop"))

    def will_call(self, name: str, arguments: Json, text: str = "", **options: Any) -> ScriptedAnswer:
        said = [Text(text)] if text else []
        call = (ToolCall(0, name, f"call_{name}"), ToolArguments(0, json.dumps(arguments)))
        return self.will(*said, *call, Finish("stop"), **options)

    def will_refuse(self, error: GatewayError) -> None:
        self._script.append(error)

    def next(self) -> ScriptedAnswer | GatewayError:
        return self._script.popleft()

    @contextmanager
    def ask(self, messages: Sequence[Json], tools: Sequence[Json], conversation: str) -> Iterator[ScriptedAnswer]:
        self.asked.append((json.loads(json.dumps(messages)), list(tools), conversation))
        answer = self.next()
        if isinstance(answer, GatewayError):
            raise answer
        self.given.append(answer)
        try:
            yield answer
        finally:
            answer.ended = True


class FakeCall:
    """A session on both."""

    def __init__(
        self, platform: Platform, config: VoiceConfig = NO_VOICE, *, webhook: Any = None, state: Any = None
    ) -> None:
        self.socket = FakeSocket()
        self.model = FakeModel()
        self.session = Session(platform, self.model.ask, config, webhook, KeptConversations(state, "ann"))
        self.session.opened(self.socket)

    @property
    def frames(self) -> list[Json]:
        return self.socket.frames

    def takes(self, **frame: Any) -> None:
        self.session.receive(json.dumps(frame))

    def has_sent(self, *frames: Json) -> None:
        """Wait until the newest frames are these."""
        until(lambda: self.frames[len(self.frames) - len(frames) :] == list(frames), f"{frames}, not {self.frames}", 5)

    def is_asked(self, times: int) -> None:
        until(lambda: len(self.model.given) == times, f"{times} questions", 5)
