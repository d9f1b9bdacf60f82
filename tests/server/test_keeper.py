"""The thread that keeps lines, on a pair of sockets."""

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from weakref import ref

import pytest

from core.context import CallContext
from server import lines
from server.line import Line
from server.lines import LineKeeper
from server.response import RESPONSE, Response, send_now
from tests.conftest import EVER, until

HEARTBEAT = b": keep-alive\n\n"


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(EVER)
    with ours, theirs:
        yield ours, theirs


def stream(keeper: LineKeeper, ours: socket.socket, call: CallContext, **kept: Any) -> tuple[Line, Response]:
    """A stream that waits for its first event, as a view would have it."""
    body = SimpleNamespace(reader=SimpleNamespace(length=0), buf=SimpleNamespace(tell=lambda: 0), failed=False)
    request = SimpleNamespace(version=(1, 1), method="POST", body=body, should_close=lambda: False)
    response = Response(request, ours, SimpleNamespace())
    line = keeper.watch({"gunicorn.socket": ours, RESPONSE: response}, call)
    start = lambda: response.start_response("200 OK", [("Content-Type", "text/event-stream")])  # noqa: E731
    line.keep(**{"start": start, "heartbeat": HEARTBEAT, "filler": lambda: b"", "filler_by": float("inf"), **kept})
    return line, response


def receive_until(sock: socket.socket, what: bytes) -> bytes:
    heard = b""
    while what not in heard:
        data = sock.recv(4096)
        assert data, heard
        heard += data
    return heard


def test_a_stream_is_opened_late_once_and_kept(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    line, response = stream(LineKeeper(0.05, 0.2), ours, CallContext())
    heard = receive_until(theirs, HEARTBEAT)
    assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
    assert line.begin(), "it is open"
    response.write(b"data: one\n\n")
    assert receive_until(theirs, b"data: one\n\n").count(b"HTTP/1.1") == 0
    assert receive_until(theirs, HEARTBEAT * 1)
    line.end()
    response.close()
    assert receive_until(theirs, b"0\r\n\r\n")


def test_a_filler_is_written_once_at_its_time_and_never_after_the_first_event(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    keeper, call = LineKeeper(0.05, 60), CallContext()
    line, _ = stream(keeper, ours, call, filler=lambda: b"data: wait\n\n", filler_by=call.started + 0.1)
    heard = receive_until(theirs, HEARTBEAT)
    assert heard.count(b"data: wait") == 1
    assert heard.index(b"data: wait") < heard.index(HEARTBEAT)
    assert line.begin()
    line.end()


def test_what_has_begun_in_time_gets_no_filler(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    keeper, call = LineKeeper(0.05, 60), CallContext()
    line, response = stream(keeper, ours, call, filler=lambda: b"data: wait\n\n", filler_by=call.started + 0.1)
    assert not line.begin(), "its head is still to be made"
    response.start_response("200 OK", [])
    response.write(b"data: one\n\n")
    assert b"wait" not in receive_until(theirs, HEARTBEAT)
    line.end()


def test_a_caller_who_takes_no_heartbeat_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    """The keeper waits for nobody: another line has its heartbeats meanwhile."""
    monkeypatch.setattr(lines, "STALLED_SECONDS", 0.5)
    ours, theirs = pair
    keeper, call = LineKeeper(0.05, 0.1), CallContext()
    while send_now(ours, b"x" * 65_536):
        pass  # until nothing more fits
    line, _ = stream(keeper, ours, call)
    one, other = socket.socketpair()
    other.settimeout(EVER)
    with one, other:
        second, _ = stream(keeper, one, CallContext())
        receive_until(other, HEARTBEAT)
        until(lambda: call.gone, "the line to be cut off")
        receive_until(other, HEARTBEAT)
        second.end()
    line.end()
    while theirs.recv(1_000_000):
        pass


def test_unsent_bytes_are_sent_as_soon_as_the_caller_reads(pair: tuple[socket.socket, socket.socket]) -> None:
    """And not with the next heartbeat, which is a minute away."""
    ours, theirs = pair
    while send_now(ours, b"x" * 65_536):
        pass  # until nothing more fits
    line, response = stream(LineKeeper(60, 0.05), ours, CallContext())
    until(lambda: response.unsent, "the first heartbeat not to fit")
    receive_until(theirs, HEARTBEAT)
    line.end()


def test_an_ended_line_is_freed_before_its_check_is_due(
    pair: tuple[socket.socket, socket.socket], collector_off: None
) -> None:
    """A line holds its whole answer, and thousands of calls may end within a minute."""
    ours, _ = pair
    keeper = LineKeeper(5, 60)
    line, _ = stream(keeper, ours, CallContext())
    freed = ref(line)
    line.begin()
    line.end()
    line.call.end()
    del line
    until(lambda: freed() is None, "the line to be freed")


def test_a_writer_that_waits_holds_up_no_other_line(pair: tuple[socket.socket, socket.socket]) -> None:
    """It has the lock while its caller does not read."""
    ours, theirs = pair
    keeper, call = LineKeeper(0.05, 60), CallContext()
    line, response = stream(keeper, ours, call)
    line.begin()
    response.start_response("200 OK", [])
    data = b"x" * 8_000_000
    writer = threading.Thread(target=response.write, args=(data,), daemon=True)
    writer.start()
    one, other = socket.socketpair()
    other.settimeout(EVER)
    with one, other:
        second, opened = stream(keeper, one, CallContext())
        second.begin()
        opened.start_response("200 OK", [])
        opened.write(b"data: one\n\n")
        receive_until(other, HEARTBEAT)
        second.end()
    received = 0
    while received < len(data):
        received += len(theirs.recv(1_000_000))
    writer.join(EVER)
    assert not writer.is_alive()
    line.end()


def test_a_caller_who_leaves_ends_the_call(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    call = CallContext()
    line, _ = stream(LineKeeper(5, 8), ours, call)
    theirs.close()
    until(lambda: call.gone, "the call to be cancelled")
    line.end()


def test_what_comes_together_is_written_together_and_in_order(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    call = CallContext()
    line, response = stream(LineKeeper(5, 60), ours, call)
    assert not line.begin()
    response.start_response("200 OK", [])
    assert line.gather(b"data: one\n\n")
    assert line.gather(b"data: two\n\n")
    theirs.settimeout(0.2)
    with pytest.raises(TimeoutError):
        theirs.recv(1)
    theirs.settimeout(EVER)
    call.flush()  # as whatever waits does
    assert b"data: one\n\ndata: two\n\n" in receive_until(theirs, b"two\n\n")
    line.gather(b"data: last\n\n" * 2000)
    assert receive_until(theirs, b"last\n\n"), "so much waits for nothing"
    line.end()


def test_after_a_piece_that_was_cut_off_there_is_no_end(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[socket.socket, socket.socket]
) -> None:
    """A caller who reads on after all must not take half an answer for a whole one."""
    monkeypatch.setattr("server.response.STALLED_SECONDS", 0.2)
    ours, theirs = pair
    call = CallContext()
    line, response = stream(LineKeeper(5, 60), ours, call)
    line.begin()
    response.start_response("200 OK", [])
    line.gather(b"x" * 8_000_000)  # more than fits
    assert call.gone
    with pytest.raises(OSError, match="nothing was read"):
        response.close()
    ours.shutdown(socket.SHUT_WR)
    heard = b""
    while data := theirs.recv(1_000_000):
        heard += data
    assert not heard.endswith(b"0\r\n\r\n")
    line.end()


def test_an_old_connections_event_does_not_end_a_new_call(pair: tuple[socket.socket, socket.socket]) -> None:
    """The number of a closed socket may be a new one's, whose thread has yet to register it."""
    ours, _ = pair
    keeper, call = LineKeeper(60, 60), CallContext()
    line, _ = stream(keeper, ours, call)
    keeper._poller.unregister(ours)
    keeper._run_step(line, keeper._handle_caller_event, ours.fileno(), lines.HANGUP)
    assert not call.gone
    line.end()
