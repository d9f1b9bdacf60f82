"""The parts of server/sockets that need no server: frames, the handshake, which turn runs."""

import gc
import os
import threading
import time
import weakref

import pytest
from websockets.frames import Close, Frame, Opcode

from core.errors import InvalidRequest
from server.sockets import framing
from server.sockets.dispatcher import USUAL, Dispatcher
from server.sockets.framing import Framing
from server.sockets.handshake import UpgradeRequired, accept
from server.sockets.socket import Socket
from server.sockets.timers import Timers
from server.worker import _MethodQueue
from tests.conftest import EVER, until

HANDSHAKE = {
    "REQUEST_METHOD": "GET",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "PATH_INFO": "/v1/ws",
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "keep-alive, Upgrade",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
}


def text(data: bytes | str, *, fin: bool = True, opcode: Opcode = Opcode.TEXT) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return Frame(opcode, raw, fin).serialize(mask=True)


def test_the_answer_to_a_handshake_is_the_rfcs() -> None:
    headers = {name.lower(): value for name, value in accept(HANDSHAKE)}
    assert headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, 1.3
    assert (headers["upgrade"], headers["connection"]) == ("websocket", "Upgrade")


@pytest.mark.parametrize(
    ("offered", "ours", "agreed"),
    [("chat, other", "chat", "chat"), ("other", "chat", None), (None, "chat", None), ("chat", None, None)],
)
def test_a_subprotocol_holds_if_it_is_offered(offered, ours, agreed) -> None:
    environ = HANDSHAKE | ({"HTTP_SEC_WEBSOCKET_PROTOCOL": offered} if offered else {})
    assert dict(accept(environ, ours)).get("Sec-WebSocket-Protocol") == agreed


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({"HTTP_UPGRADE": "h2c"}, UpgradeRequired),
        ({"HTTP_CONNECTION": "close"}, UpgradeRequired),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, UpgradeRequired),
        ({"REQUEST_METHOD": "HEAD"}, UpgradeRequired),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, UpgradeRequired),
        ({"HTTP_SEC_WEBSOCKET_VERSION": "8, 12"}, UpgradeRequired),
        ({"HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ=="}, InvalidRequest),
        ({"HTTP_SEC_WEBSOCKET_KEY": "Ü"}, InvalidRequest),
        ({"HTTP_UPGRADE": "websocket websocket"}, InvalidRequest),
    ],
)
def test_what_is_no_handshake(change, failure) -> None:
    with pytest.raises(failure):
        accept(HANDSHAKE | change)


def test_a_message_comes_in_any_pieces() -> None:
    frames = Framing(1000)
    data = text("Grü", fin=False) + text(b"", opcode=Opcode.PING) + text("ße", opcode=Opcode.CONT) + text("again")
    found = [message for at in range(len(data)) for message in frames.feed(data[at : at + 1])]
    assert found == ["Grüße", "again"]
    assert frames.output == b"\x8a\x00"  # the pong


def test_a_character_may_be_cut_between_two_frames() -> None:
    first, rest = "ü".encode()[:1], "ü".encode()[1:]
    assert Framing(1000).feed(text(first, fin=False) + text(rest, opcode=Opcode.CONT)) == ["ü"]


def test_binary_messages_are_bytes() -> None:
    assert Framing(1000).feed(text(b"\x00\xff", opcode=Opcode.BINARY)) == [b"\x00\xff"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (text(b"\xff"), 1007),
        (text(b"\xed\xa0\x80"), 1007),
        (text("x" * 101), 1009),
        (text("x" * 60, fin=False) + text("x" * 60, opcode=Opcode.CONT), 1009),
        (text("x", opcode=Opcode.CONT), 1002),
        (text("x", fin=False) + text("y"), 1002),
    ],
    ids=["no UTF-8", "a surrogate", "large", "large in pieces", "no beginning", "no end"],
)
def test_what_is_wrong_is_told_by_its_code(data: bytes, code: int) -> None:
    frames = Framing(100)
    assert frames.feed(data) == []
    assert not frames.is_open
    assert Close.parse(bytes(frames.output[2:])).code == code


def test_a_message_of_endless_small_pieces_is_slow_and_bounded() -> None:
    frames = Framing(100)
    assert frames.feed(text("x", fin=False) + text(b"", opcode=Opcode.CONT, fin=False) * 1000) == []
    assert frames.buffered == 1
    assert frames.reads_from > time.monotonic() + 5


def test_who_sends_faster_than_it_may_is_read_later() -> None:
    frames = Framing(10_000_000)
    frames.feed(text("x") * framing.MESSAGES_AT_ONCE)
    assert frames.reads_from < time.monotonic()
    frames.feed(text("x") * 100)
    assert frames.reads_from > time.monotonic()


def test_a_large_message_takes_its_time_but_not_that_of_many() -> None:
    frames = Framing(30_000_000)
    (message,) = frames.feed(text("x" * 20_000_000))
    assert len(message) == 20_000_000
    assert frames.reads_from < time.monotonic() + 3


def test_a_long_reason_is_cut_where_a_character_ends() -> None:
    frames = Framing(100)
    frames.close(1008, "ü" * 200)
    assert Close.parse(bytes(frames.output[2:])) == Close(1008, "ü" * 61)
    frames.close(1000, "again")
    assert len(frames.output) == 2 + 2 + 122


def test_what_is_due_comes_in_order_unless_it_was_taken_back() -> None:
    timers, done = Timers(), []
    assert timers.add(3, lambda: done.append(3))[1]
    assert timers.add(1, lambda: done.append(1))[1]
    cancel, is_next = timers.add(2, lambda: done.append(2))
    assert not is_next
    cancel()
    for job in timers.take(2.5):
        job()
    assert (done, timers.next) == ([1], 3)


class Handled:
    """A connection whose handler waits until it may end."""

    def __init__(self, may_end: threading.Event) -> None:
        self.may_end = may_end
        self.begun = threading.Event()

    def handle_next(self) -> None:
        self.begun.set()
        self.may_end.wait(EVER)


def test_handlers_that_do_not_end_hold_up_no_others() -> None:
    def do(job):
        threading.Thread(target=job, daemon=True).start()

    may_end = threading.Event()
    dispatcher = Dispatcher(do)
    stuck = [Handled(may_end) for _ in range(USUAL)]
    other = Handled(may_end)
    for each in [*stuck, other]:
        dispatcher.add(each)
    assert all(each.begun.wait(EVER) for each in stuck)
    assert not other.begun.is_set()
    until(lambda: dispatcher.relieve() or other.begun.is_set(), "one thread more")
    may_end.set()


def test_another_server_than_ours_says_so(app_with) -> None:
    client = app_with()
    answer = client.get("/v1/ws")
    assert (answer.status_code, answer.json["error"]["code"]) == (426, "upgrade_required")
    fields = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": HANDSHAKE["HTTP_SEC_WEBSOCKET_KEY"],
    }
    answer = client.get("/v1/ws", headers=fields, environ_overrides={"SERVER_PROTOCOL": "HTTP/1.1"})
    assert answer.status_code == 501
    assert "make run" in answer.json["error"]["message"]


def test_a_thread_that_is_late_writes_into_no_other_file(tmp_path) -> None:
    """gunicorn closes its pipe at the end of the worker's last turn, and threads write to it when they are done."""
    queue = _MethodQueue()
    queue.init()
    queue.close()
    with (tmp_path / "file").open("wb") as file:
        queue.defer(print)
        assert file.fileno() not in (queue._read_fd, queue._write_fd)
    assert (tmp_path / "file").read_bytes() == b""
    assert os.read(queue.fileno(), 10) == b"\0"


class Quiet:
    """A keeper that does nothing, but for what `timers` have."""

    def __init__(self) -> None:
        self.timers = Timers()

    def call_at(self, due, job):
        return self.timers.add(due, job)[0]

    def __getattr__(self, name):
        return lambda *_: None


class Deaf:
    """A handler."""

    def opened(self, socket) -> None: ...

    def receive(self, message) -> None: ...

    def closed(self) -> None: ...


@pytest.mark.slow
def test_a_connection_that_is_closed_is_held_by_no_timer() -> None:
    keeper = Quiet()
    connection = Socket(keeper, Deaf(), None, 1000)
    connection.call_later(3600, Deaf().closed)
    gone = weakref.ref(connection)
    connection.close()
    del connection
    gc.collect()
    assert gone() is None


def test_a_timer_that_is_taken_back_or_over_is_forgotten() -> None:
    keeper = Quiet()
    connection = Socket(keeper, Deaf(), None, 1000)
    cancel = connection.call_later(0, Deaf().closed)
    connection.call_later(0, Deaf().closed)
    cancel()
    (job,) = keeper.timers.take(time.monotonic() + 1)
    job()
    assert len(connection._jobs) == 2  # `opened` is the first
    assert not connection._timers
