"""An emulated vendor whose answers are scripted, in any dialect.

with AnthropicUpstream() as upstream:
    upstream.enqueue(Answer(texts=["Hi", " there"]))       the next chat request
    upstream.always(Answer(status=429), path="/v1/models")  all others of this path, until told otherwise
"""

import threading
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from tests.emulators import faults
from tests.emulators.answers import ScriptedAnswer
from tests.emulators.connection import Connection, Received
from tests.emulators.reply import Reply, play
from tests.emulators.server import Server

KEY = "test-upstream-key"
NO_SUCH_MODEL = "no-such-model"
"""A model that every emulated vendor says it does not have."""


class Scripted(Server):
    """Plays what `answer_to` makes of a request. One that is refused uses up no queued answer.

    `chat` is the path whose answers are queued where no other is named.
    """

    chat: ClassVar[str] = "/chat/completions"

    def __init__(self, *, key: str = KEY, tls: bool = False) -> None:
        super().__init__(self._handle, tls=tls)
        self.key = key
        self._queues: dict[str, deque[ScriptedAnswer]] = defaultdict(deque)
        self._defaults: dict[str, ScriptedAnswer] = {}
        self._script = threading.Lock()

    def answer_to(self, received: Received) -> tuple[ScriptedAnswer, Reply]:
        """The answer to a request that is in order, or an `Answer()` with the reply that refuses it."""
        raise NotImplementedError

    def identity(self, connection: Connection) -> Mapping[str, str]:
        """The headers that this vendor puts on every answer."""
        return {"x-request-id": f"req_{connection.number}_{connection.requests}"}

    def enqueue(self, *answers: ScriptedAnswer, path: str = "") -> None:
        """Answer the next requests of this path so."""
        if any(answer.fault is faults.refused for answer in answers):
            raise ValueError("Nobody can ask for it once nothing listens: use always().")
        with self._script:
            self._queues[path or self.chat].extend(answers)

    def always(self, answer: ScriptedAnswer, path: str = "") -> None:
        """Answer so whenever the queue is empty. With faults.refused nothing listens, until the next `always`."""
        with self._script:
            self._defaults[path or self.chat] = answer
        if answer.fault is faults.refused:
            self.refuse()
        else:
            self.listen()

    def forget(self) -> None:
        """Empty the queues, of answers that nobody came for."""
        with self._script:
            self._queues.clear()

    def next(self, path: str = "") -> ScriptedAnswer:
        """What is to be answered on this path now."""
        with self._script:
            queue = self._queues[path or self.chat]
            return queue.popleft() if queue else self._defaults.get(path or self.chat, ScriptedAnswer())

    def _handle(self, connection: Connection, received: Received) -> None:
        answer, reply = self.answer_to(received)
        headers = {**reply.headers, **self.identity(connection), **answer.headers}
        reply = replace(reply, headers=headers, delay=answer.delay)
        (answer.fault.play if answer.fault else play)(connection, reply)
