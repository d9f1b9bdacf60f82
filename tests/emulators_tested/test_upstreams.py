"""The server under the emulated vendors: what it takes, what it keeps, and when it notices that a client leaves."""

import gc
import socket
import ssl
import struct
import threading
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic

import pytest

from tests.conftest import until
from tests.emulators import Connection, OpenAIUpstream, Received, ScriptedAnswer, Server, certificate, faults
from tests.emulators.raw import CHAT, ask, dial, request


@pytest.fixture
def upstream():
    with OpenAIUpstream() as started:
        yield started


def test_what_is_received(upstream):
    with dial(upstream) as sock:
        sock.sendall(b"POST /v1/chat/completions?a=b HTTP/1.1\r\nHost: x\r\nX-One: 1\r\nx-one: 2\r\n")
        sock.sendall(b'Transfer-Encoding: chunked\r\n\r\n3;e=1\r\n{"a\r\n5\r\n": 1}\r\n0\r\nT: 1\r\n\r\n')
        received = upstream.wait_received(1)
        assert (received.method, received.path) == ("POST", "/v1/chat/completions?a=b")
        assert received.json == {"a": 1}
        assert received.headers["x-ONE"] == "1, 2"
        assert "X-one" in received.headers
        assert received.headers.get("Nothing") is None
        assert received.connection == 1
        assert received.arrived_at <= monotonic()


def test_expect_continue(upstream):
    head, _, body = request(upstream).partition(b"\r\n\r\n")
    with dial(upstream) as sock:
        sock.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"GET / HTTP/1.1\r\nx\r\n\r\n"]
)
def test_a_bad_request(upstream, garbage):
    with dial(upstream) as sock:
        sock.sendall(garbage)
        assert sock.recv(1000).startswith(b"HTTP/1.1 400 ")
    assert upstream.received == []


def test_connections_are_kept_and_counted(upstream):
    connection = HTTPConnection("127.0.0.1", upstream.port, timeout=10)
    for _ in range(3):
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {upstream.key}"})
        assert connection.getresponse().read()
    assert (upstream.accepted, upstream.open_connections()) == (1, 1)
    assert [received.connection for received in upstream.received] == [1, 1, 1]
    connection.close()
    upstream.received[2].wait_closed()
    assert upstream.received[1].closed_at is None
    upstream.wait_open(0)
    ask(upstream)
    assert upstream.accepted == 2


def test_connection_close_is_obeyed(upstream):
    with dial(upstream) as sock:
        sock.sendall(request(upstream).replace(b"Host: x", b"Host: x\r\nConnection: close"))
        while sock.recv(65536):
            pass
    upstream.wait_open(0)


def test_tls():
    path, _ = certificate()
    with OpenAIUpstream(tls=True) as upstream:
        context = ssl.create_default_context(cafile=path)
        for _ in range(2):
            with context.wrap_socket(dial(upstream), server_hostname="localhost") as sock:
                sock.sendall(request(upstream, {**CHAT, "stream": True}))
                data = b""
                while not data.endswith(b"0\r\n\r\n"):
                    data += sock.recv(65536)
        assert "日本語".encode() in data
        upstream.received[1].wait_closed()
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(dial(upstream), server_hostname="localhost")


def test_refuse_and_listen_again(upstream):
    with dial(upstream) as kept:
        kept.sendall(request(upstream))
        assert kept.recv(100_000)
        upstream.always(ScriptedAnswer(fault=faults.refused))
        assert kept.recv(1000) == b""
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            dial(upstream)
    upstream.wait_open(0)
    assert upstream.received[0].closed_at is None
    upstream.always(ScriptedAnswer())
    assert ask(upstream)[0].status == 200
    with pytest.raises(ValueError, match="always"):
        upstream.enqueue(ScriptedAnswer(fault=faults.refused))


def test_waiting_ends(upstream):
    with pytest.raises(TimeoutError, match="0 of 1"):
        upstream.wait_received(1, timeout=0.01)
    with pytest.raises(TimeoutError, match="0 connections"):
        upstream.wait_open(1, timeout=0.01)
    with dial(upstream) as sock:
        sock.sendall(request(upstream))
        with pytest.raises(TimeoutError, match="still holds"):
            upstream.wait_received().wait_closed(0.01)


def handles():
    gc.collect()  # what other tests have left may go at any time
    return len(list(Path("/proc/self/fd").glob("*")))


def test_stop_leaves_nothing_behind():
    """In the middle of answers of all kinds, kept connections and half a request."""
    threads, open_before = threading.active_count(), handles()
    with OpenAIUpstream() as upstream:
        upstream.enqueue(
            ScriptedAnswer(delay=30),
            ScriptedAnswer(frame_delay=30),
            ScriptedAnswer(texts=["x" * 1000] * 20_000),
            ScriptedAnswer(),
        )
        socks = [dial(upstream) for _ in range(6)]
        for place, sock in enumerate(socks[:4], start=1):
            sock.sendall(request(upstream, {**CHAT, "stream": True}))
            upstream.wait_received(place)
        socks[4].sendall(b"POST /v1/chat")
        upstream.wait_open(6)
        started = monotonic()
    assert monotonic() - started < 10
    assert upstream.open_connections() == 0
    assert all(received.closed_at is None for received in upstream.received)
    for sock in socks:
        sock.close()
    until(lambda: threading.active_count() <= threads and handles() <= open_before, "all to be as it was before")


# When a client leaves

PHASES = {
    "before headers": (ScriptedAnswer(delay=30), False, b""),
    "before headers of a stream": (ScriptedAnswer(delay=30), True, b""),
    "before the body": (ScriptedAnswer(first_delay=30), False, b"\r\n\r\n"),
    "before the first frame": (ScriptedAnswer(first_delay=30), True, b"\r\n\r\n"),
    "silent in the middle": (ScriptedAnswer(frame_delay=30), True, b"data: {"),
    "sending in the middle": (ScriptedAnswer(texts=["x" * 1000] * 20_000), True, b"data: {"),
    "sending slowly": (ScriptedAnswer(texts=["x"] * 1000, frame_delay=0.01), True, b"data: {"),
    "idle": (ScriptedAnswer(), False, b'"system_fingerprint"'),
    "idle after a stream": (ScriptedAnswer(), True, b"0\r\n\r\n"),
    "stalled": (ScriptedAnswer(fault=faults.stalled), True, b"data: {"),
    "slow headers": (ScriptedAnswer(fault=faults.slow_headers), True, b"HTTP"),
}


@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize("phase", PHASES)
def test_a_hang_up_is_noticed(upstream, phase, way):
    answer, stream, until = PHASES[phase]
    upstream.enqueue(answer)
    with dial(upstream) as sock:
        sock.sendall(request(upstream, {**CHAT, "stream": stream}))
        data = b""
        while until not in data:
            data += sock.recv(1000)
        received = upstream.wait_received(1)
        if way == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        left_at = monotonic()
    assert left_at <= received.wait_closed() < left_at + 1
    upstream.wait_open(0)


def test_a_handler_of_ones_own():
    def handler(connection: Connection, received: Received) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        connection.pause(0.01)
        connection.send(received.body[:2])

    with Server(handler) as server, dial(server) as sock:
        assert server.url == f"http://127.0.0.1:{server.port}"
        sock.sendall(b"PUT /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
        data = b""
        while not data.endswith(b"ab"):
            data += sock.recv(1000)
