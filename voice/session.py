"""A phone call on a WebSocket: turns of a conversation, whichever platform carries it.

    state      a turn begins    interrupted   text      calls tools  is finished   fails      socket closes
    IDLE       ASKING           IDLE (trims)  -         -            -             -          CLOSED
    ASKING     ASKING (cancels) IDLE          SPEAKING  CALLING      IDLE          IDLE       CLOSED
    SPEAKING   ASKING (cancels) IDLE (trims)  SPEAKING  CALLING      IDLE          IDLE       CLOSED
    CALLING    ASKING (cancels) IDLE (trims)  -         -            ASKING, IDLE  IDLE       CLOSED
    CLOSED     -                -             -         -            -             -          -

One turn is answered at a time. A newer turn and an interruption cancel it: the connection to its upstream is closed at
once, and no further frame of it is sent. From CALLING a turn returns to ASKING with the results of the tools. It ends
instead if the platform is to hang up, transfer the call or press keys.
"""

from collections.abc import Callable
from functools import partial
from logging import getLogger

from core import lenient_json
from core.errors import Cancelled, GatewayError
from core.json_values import BAD_SHAPE, Json
from dispatch.routing.voice_config import VoiceConfig
from voice.call import Call, Socket, State, Turn
from voice.conversation import Conversation, KeptConversations
from voice.platform import (
    Begin,
    Command,
    Complaint,
    Describe,
    HangUp,
    Interruption,
    KeyPress,
    Platform,
    Reply,
    Transcript,
    TurnEnded,
    Utterance,
)
from voice.tools import Action, EndCall, TransferCall
from voice.turns import Ask, ToolWebhook, TurnAnswerer

log = getLogger("thinkline.voice")

LONGEST_ID = 200
SHOWN = 500
"""The most characters of a platform's error in the log."""
MOST_THREADS = 2
"""The most threads of one phone call. If its platform does not read, its turns end slowly, and must not use up the
threads of other calls.
"""


class Session:
    """A SocketHandler: one phone call. `webhook` carries out the tools of `config`; None where there is none."""

    def __init__(
        self, platform: Platform, ask: Ask, config: VoiceConfig, webhook: ToolWebhook | None, kept: KeptConversations
    ) -> None:
        self._platform = platform
        self._conversation = Conversation(config)
        self._call = Call(platform, self._conversation)
        self._answerer = TurnAnswerer(self._call, ask, config, webhook)
        self._kept = kept
        self._newest: int | None = None
        self._has_begun = False
        self._is_over = False

    @property
    def state(self) -> State:
        """The state of the call."""
        return self._call.state

    def opened(self, socket: Socket) -> None:
        """Begin: the connection is open."""
        self._call.socket = socket
        try:
            self._call.send(self._platform.open())
            if self._call.id:
                self._begin(Begin(self._call.id))
        except Cancelled:
            pass  # the socket is closed: `closed` will be called

    def receive(self, message: str | bytes) -> None:
        """Handle a frame. A broken one is ignored, as platforms ignore ours."""
        try:
            frame: Json = lenient_json.loads(message.encode() if isinstance(message, str) else message)
            command = self._platform.read(frame)
        except BAD_SHAPE:
            log.debug("a frame without a meaning", extra={"facts": {"platform": self._platform.name}})
            return
        try:
            self._obey(command)
        except Cancelled:
            pass  # the socket is closed: `closed` will be called

    def closed(self) -> None:
        """End the call: the platform has left, or the socket was closed here."""
        with self._call.lock:
            self._call.drop_turn()
            self._call.state = State.CLOSED
        socket = self._call.socket
        if not self._is_over and (socket.closing or not socket.framing.is_finished):  # the platform will dial again
            self._kept.keep(self._call.id, self._conversation)

    def _obey(self, command: Command | None) -> None:
        conversation = self._conversation
        match command:
            case Begin():
                self._begin(command)
            case Describe():
                conversation.variables = command.variables
            case Transcript():
                self._start(command.turn, partial(conversation.replace, command.messages))
            case Utterance():
                self._start(None, partial(conversation.hear, command.text))
            case KeyPress():
                self._start(None, partial(conversation.hear_key, command.digit))
            case Interruption():
                self._interrupt(command.heard)
            case Reply():
                self._call.send(command.frames)
            case Complaint():
                facts = {"platform": self._platform.name, "call": self._call.id, "said": command.text[:SHOWN]}
                log.warning("the platform tells of an error", extra={"facts": facts})
            case HangUp():
                self._is_over = True
                with self._call.lock:
                    self._call.drop_turn()
                self._call.socket.close(1000)

    def _begin(self, begin: Begin) -> None:
        """Begin the call, once."""
        if self._has_begun:
            return
        self._has_begun = True
        self._call.id = begin.call_id[:LONGEST_ID]
        self._conversation.variables |= begin.variables
        restored = self._kept.restore(self._call.id, self._conversation)
        self._call.send(self._platform.greet("" if restored else self._conversation.greet()))
        if restored and self._conversation.awaits_answer and not self._platform.remembers:
            self._start(None, lambda: None)

    def _start(self, number: int | None, hear: Callable[[], None]) -> None:
        """Answer a turn, which cancels the one under way. A turn with an older number than the newest is ignored."""
        call = self._call
        with call.lock:
            if call.state is State.CLOSED or (number is not None and self._is_stale(number)):
                return
            call.drop_turn()
            hear()
            turn = call.turn = Turn(number, self._conversation.messages())
            self._newest, call.state = number, State.ASKING
            has_thread = call.threads >= MOST_THREADS
            call.threads += not has_thread
        if has_thread:
            return  # it answers this turn next
        try:
            call.socket.run_turn(self._answer_turns)
        except (GatewayError, Cancelled) as error:
            with call.lock:
                call.threads -= 1
            if isinstance(error, Cancelled):
                raise
            if not call.socket.closing:  # else it is answered when the platform has dialled again
                self._fail(turn, error)

    def _is_stale(self, number: int) -> bool:
        running = self._call.turn is not None
        return self._newest is not None and (number < self._newest or (number == self._newest and running))

    def _interrupt(self, heard: str | None) -> None:
        with self._call.lock:
            self._call.drop_turn()
            if heard is not None:
                self._conversation.keep_heard(heard)

    def _answer_turns(self) -> None:
        """Answer the newest turn, and go on while there is one that no thread answers."""
        call = self._call
        while True:
            with call.lock:
                turn = call.turn
                if turn is None or turn.has_begun:
                    call.threads -= 1
                    return
                turn.has_begun = True
            self._run(turn)
            if call.socket.closing:
                with call.lock:
                    call.threads -= 1
                return

    def _run(self, turn: Turn) -> None:
        try:
            self._finish(turn, self._answerer.answer(turn))
        except Cancelled:
            pass  # cancelled by a newer turn, an interruption, or the end of the call
        except GatewayError as error:
            self._fail(turn, error)
        except Exception:  # a fault of our own must not leave the platform waiting
            log.exception("unexpected failure in a turn")
            self._fail(turn, GatewayError("Something went wrong here."))

    def _finish(self, turn: Turn, action: Action | None) -> None:
        def end() -> None:
            self._conversation.end_answer()
            self._is_over = isinstance(action, (EndCall, TransferCall))
            self._call.turn, self._call.state = None, State.IDLE

        self._call.emit(turn, TurnEnded(action), end)

    def _fail(self, turn: Turn, error: GatewayError) -> None:
        """End a turn that says nothing more. The platform gets its end, as it would wait for more otherwise."""
        log.debug("a turn failed", extra={"facts": {"platform": self._platform.name, "error": error.message}})
        try:
            self._finish(turn, None)
        except Cancelled:
            pass  # another turn is under way, or the platform has left
