"""The table of faults: each of the harmful ones does on the wire what its description says."""

import gzip
import re

import pytest

from tests.emulators import FAULTS, OpenAIUpstream, Phase, ScriptedAnswer, Server, faults
from tests.emulators.answers import TEXTS
from tests.emulators.faults import ENDLESS_HEAD_BYTES, ENDLESS_LINE_BYTES
from tests.emulators.raw import ask, cases, chat_request, content_of, dial, frames, raw_answer, read, receive, request
from tests.emulators.reply import Piece, Reply

HEAD = b"HTTP/1.1 200 OK\r\n"
LAST_CHUNK = b"0\r\n\r\n"


@pytest.fixture
def upstream():
    with OpenAIUpstream() as started:
        yield started


both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


def test_the_table():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) > 40
    for fault in FAULTS:
        assert fault.description.endswith(".")
        assert fault.streaming or fault.whole
        assert not (fault.harmless and fault.silent)
        assert str(fault) == fault.name
    assert {fault.phase for fault in FAULTS} == set(Phase)


# Harmful


@both
@pytest.mark.parametrize(
    ("fault", "then"),
    [
        (faults.reset_before_headers, "reset"),
        (faults.closed_before_headers, "closed"),
    ],
    ids=str,
)
def test_no_answer(upstream, fault, then, stream):
    assert raw_answer(upstream, fault, stream) == (b"", then)


def test_a_stall_before_headers_says_nothing(upstream):
    upstream.enqueue(ScriptedAnswer(fault=faults.stalled_before_headers))
    with dial(upstream) as sock:
        sock.sendall(request(upstream))
        upstream.wait_received()
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)


def test_slow_headers(upstream):
    assert raw_answer(upstream, faults.slow_headers, stream=True, quiet=5, most=2) == (b"HT", "silence")


@both
def test_garbage(upstream, stream):
    data, then = raw_answer(upstream, faults.garbage, stream)
    assert (data[:3], then) == (b"\x16\x03\x03", "silence")


@both
def test_endless_headers(upstream, stream):
    data, then = raw_answer(upstream, faults.endless_headers, stream)
    assert then == "closed"
    assert data.startswith(HEAD)
    assert b"\r\n\r\n" not in data
    assert ENDLESS_HEAD_BYTES * 0.99 < len(data) < ENDLESS_HEAD_BYTES * 1.01


@both
def test_an_endless_line(upstream, stream):
    data, then = raw_answer(upstream, faults.endless_line, stream)
    assert then == "closed"
    line = data.partition(b'{"')[2]
    assert line.count(b"a") >= ENDLESS_LINE_BYTES
    assert b"\n\n" not in line


@pytest.mark.parametrize("fault", [faults.endless_headers, faults.endless_line], ids=str)
def test_the_endless_stop_when_the_client_leaves(upstream, fault):
    raw_answer(upstream, fault, stream=True, most=1_000_000)
    upstream.received[0].wait_closed()
    upstream.wait_open(0)


@both
@pytest.mark.parametrize(
    ("fault", "then"), [(faults.stalled_after_headers, "silence"), (faults.cut_after_headers, "closed")], ids=str
)
def test_a_head_alone(upstream, fault, then, stream):
    data, after = raw_answer(upstream, fault, stream)
    assert data.startswith(HEAD)
    assert data.endswith(b"\r\n\r\n")
    assert data.count(b"\r\n\r\n") == 1
    assert after == then


def test_comments_only(upstream):
    data, then = raw_answer(upstream, faults.comments_only, stream=True, quiet=5, most=400)
    assert data.partition(b"\r\n\r\n")[2].startswith(b"e\r\n: keep-alive\n\n\r\ne\r\n")
    assert then == "silence"


@both
@pytest.mark.parametrize(
    ("fault", "size"), [(faults.negative_chunk, b"-5"), (faults.oversize_chunk, b"10000000000000000")], ids=str
)
def test_impossible_chunk_sizes(upstream, fault, size, stream):
    data, then = raw_answer(upstream, fault, stream)
    assert b"\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\n" in data
    assert then == "silence"


@both
def test_other_bodies(upstream, stream):
    response, data = read(upstream, faults.html, stream)
    assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert data.startswith(b"<!DOCTYPE html>")
    response, data = read(upstream, faults.error_with_200, stream)
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
    assert data.startswith(b'{"error":{"message":"')
    response, data = read(upstream, faults.empty, stream)
    assert (response.status, data) == (200, b"")
    response, data = read(upstream, faults.no_content, stream)
    assert (response.status, data) == (204, b"")


@both
def test_a_compressed_answer(upstream, stream):
    upstream.enqueue(ScriptedAnswer(texts=["Hi"]), ScriptedAnswer(texts=["Hi"], fault=faults.compressed))
    _, plain = ask(upstream, chat_request(stream))
    response, packed = ask(upstream, chat_request(stream))
    assert response.headers["Content-Encoding"] == "gzip"
    assert len(gzip.decompress(packed)) == len(plain)


@both
def test_a_redirect(upstream, stream):
    response, data = read(upstream, faults.redirect, stream)
    location = response.headers["Location"]
    assert (response.status, data, location) == (302, b"", f"http://localhost:{upstream.port}/elsewhere")


@pytest.mark.parametrize(("fault", "where"), [(faults.malformed_first, 0), (faults.malformed, 8)], ids=str)
def test_a_malformed_event(upstream, fault, where):
    _, data = read(upstream, fault, stream=True)
    events = data.split(b"\n\n")
    assert events[where] == b'data: {"id":"","choices":[{"index":0,'
    assert events[-2] == b"data: [DONE]"


def test_half_of_the_json(upstream):
    _, full = read(upstream, None, stream=False)
    response, data = read(upstream, faults.malformed, stream=False)
    assert response.status == 200
    assert full.startswith(data[:-30])
    assert len(full) * 0.4 < len(data) < len(full) * 0.6


@both
@pytest.mark.parametrize(
    ("fault", "then"), [(faults.cut, "closed"), (faults.reset, "reset"), (faults.stalled, "silence")], ids=str
)
def test_half_an_answer(upstream, fault, then, stream):
    data, after = raw_answer(upstream, fault, stream)
    assert after == then
    assert b"\r\nTransfer-Encoding: chunked\r\n" in data
    assert not data.endswith(LAST_CHUNK)
    if stream:
        assert content_of(data) == "".join(TEXTS[: len(TEXTS) // 2])
    else:
        assert b'"content":"' in data
        assert b'"usage"' not in data


def test_a_single_piece_comes_before_the_cut(upstream):
    upstream.enqueue(ScriptedAnswer(texts=["Hi"], fault=faults.cut))
    with dial(upstream) as sock:
        sock.sendall(request(upstream, chat_request(stream=True)))
        assert content_of(receive(sock).data) == "Hi"


def test_a_short_body(upstream):
    data, then = raw_answer(upstream, faults.short, stream=False)
    head, _, rest = data.partition(b"\r\n\r\n")
    promised = int(re.search(rb"Content-Length: (\d+)", head)[1])
    assert 0 < len(rest) < promised
    assert then == "closed"


def test_an_error_frame(upstream):
    _, data = read(upstream, faults.error_frame, stream=True)
    *before, error = frames(data)
    assert error["error"].keys() == {"message", "type", "param", "code"}
    assert all(frame["choices"][0]["finish_reason"] is None for frame in before)
    assert len(before) > 3
    assert b"[DONE]" not in data


@pytest.mark.parametrize(("fault", "done"), [(faults.no_finish, False), (faults.done_without_finish, True)], ids=str)
def test_no_finish(upstream, fault, done):
    _, data = read(upstream, fault, stream=True)
    assert content_of(data) == "".join(TEXTS)
    assert b'"finish_reason":"stop"' not in data
    assert (b"[DONE]" in data) == done


@cases([fault for fault in FAULTS if fault.silent])
def test_the_silent_notice_a_hang_up(upstream, fault, stream):
    upstream.enqueue(ScriptedAnswer(fault=fault))
    with dial(upstream) as sock:
        sock.sendall(request(upstream, chat_request(stream)))
        received = upstream.wait_received()
    received.wait_closed()


def test_any_server_can_show_a_fault():
    reply = Reply((Piece(b"data: a\n\n"), Piece(b"data: b\n\n"), Piece(b"data: c\n\n")), stream=True)
    with Server(lambda connection, _: faults.cut.play(connection, reply)) as server, dial(server) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        data, then = receive(sock)
    assert (then, data.endswith(b"data: a\n\n\r\n")) == ("closed", True)
