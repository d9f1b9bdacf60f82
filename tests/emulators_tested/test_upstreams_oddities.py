"""The harmless part of the table of faults: odd on the wire, and whole all the same."""

import openai
import pytest

from tests.emulators import FAULTS, OpenAIUpstream, ScriptedAnswer, oddities
from tests.emulators.answers import TEXTS
from tests.emulators.raw import CHAT, answer, cases, chat_request, dial, raw_answer, read, receive, request
from tests.emulators.reply import Piece, Reply

HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def upstream():
    with OpenAIUpstream() as started:
        yield started


both = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])

PACKED = [
    oddities.informed,
    oddities.stale,
    oddities.closed_while_idle,
    oddities.surplus,
    oddities.until_close,
    oddities.extensions_and_trailers,
    oddities.rechunked,
    oddities.trickled,
    oddities.coalesced,
    oddities.split_in_character,
    oddities.split_in_line_end,
    oddities.split_in_event_end,
    oddities.split(1),
    oddities.split(400),
    oddities.plain_text,
    oddities.charset,
]
ENDED = [
    oddities.lump,
    oddities.no_done,
    oddities.finished_twice,
    oddities.held_after_finish,
    oddities.held_after_done,
]


def test_all_the_harmless_are_shown():
    assert {fault for fault in FAULTS if fault.harmless} <= {*PACKED, *ENDED}


@cases(PACKED)
def test_the_same_answer_otherwise_packed(upstream, fault, stream):
    response, data = read(upstream, fault, stream)
    assert response.status == 200
    assert data == read(upstream, None, stream)[1]


@cases(PACKED[1:])
def test_the_openai_package_takes_it(upstream, fault, stream):
    upstream.always(ScriptedAnswer(fault=fault))
    with openai.OpenAI(base_url=upstream.base_url, api_key=upstream.key, max_retries=0, timeout=10) as client:
        if stream:
            with client.chat.completions.stream(**CHAT) as events:
                answered = events.get_final_completion()
        else:
            answered = client.chat.completions.create(**CHAT)
    assert answered.choices[0].message.content == "".join(TEXTS)


@both
def test_1xx_comes_first(upstream, stream):
    data, _ = raw_answer(upstream, oddities.informed, stream)
    heads = [part.split(b"\r\n")[0] for part in data.split(b"\r\n\r\n")[:3]]
    assert heads == [b"HTTP/1.1 100 Continue", b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 200 OK"]


@both
def test_a_body_until_the_close(upstream, stream):
    data, then = raw_answer(upstream, oddities.until_close, stream)
    head = data.partition(b"\r\n\r\n")[0]
    assert then == "closed"
    assert b"Content-Length" not in head
    assert b"Transfer-Encoding" not in head


def test_content_types(upstream):
    assert read(upstream, oddities.plain_text, stream=True)[0].headers["Content-Type"] == "text/plain"
    kind = read(upstream, oddities.charset, stream=True)[0].headers["Content-Type"]
    assert kind == 'Text/Event-Stream;charset="UTF-8"; boundary=x'


def test_a_lump(upstream):
    response, data = read(upstream, oddities.lump, stream=True)
    assert response.headers["Content-Type"] == "application/json"
    whole = read(upstream, None, stream=False)[1]
    assert data == whole


def test_ends(upstream):
    usual = read(upstream, None, stream=True)[1]
    assert read(upstream, oddities.no_done, stream=True)[1] + b"data: [DONE]\n\n" == usual
    events = usual.split(b"\n\n")
    twice = b"\n\n".join([*events[:-2], *events[-3:]])
    assert read(upstream, oddities.finished_twice, stream=True)[1] == twice


@pytest.mark.parametrize(
    ("fault", "last"),
    [(oddities.held_after_finish, b'"stop"}]}\n\n\r\n'), (oddities.held_after_done, b"[DONE]\n\n\r\n")],
)
def test_held_open(upstream, fault, last):
    data, then = raw_answer(upstream, fault, stream=True)
    assert data.endswith(last)
    assert then == "silence"


@both
def test_a_stale_connection(upstream, stream):
    upstream.always(ScriptedAnswer(fault=oddities.stale))
    for _ in range(2):
        with dial(upstream) as sock:
            sock.sendall(request(upstream, chat_request(stream)))
            assert answer(sock)[0].status == 200
            sock.sendall(request(upstream, chat_request(stream)))
            assert receive(sock) == (b"", "closed")
    assert len(upstream.received) == 4


@both
def test_closed_while_idle(upstream, stream):
    data, then = raw_answer(upstream, oddities.closed_while_idle, stream)
    assert then == "closed"
    assert b"Connection: close" not in data


@both
def test_surplus(upstream, stream):
    data, then = raw_answer(upstream, oddities.surplus, stream)
    assert data.endswith(b'{"surplus": true}')
    assert data.count(HEAD) == 2
    assert then == "silence"


# Packets


class Recorder:
    """A connection that only writes down what is sent in one go."""

    def __init__(self):
        self.packets = []

    def send(self, data):
        self.packets.append(data)

    def pause(self, _):
        pass


REPLY = Reply(
    (Piece(b"data: \xc3\xa9\n\n", "open"), Piece(b"data: b\n\n"), Piece(b"data: [DONE]\n\n", "done")), stream=True
)


def packets(fault):
    recorder = Recorder()
    fault.play(recorder, REPLY)
    assert b"".join(recorder.packets) == REPLY.raw()
    return recorder.packets


def test_packets():
    assert set(map(len, packets(oddities.trickled))) == {1}
    assert len(packets(oddities.coalesced)) == 1
    assert packets(oddities.split_in_character)[0].endswith(b"\xc3")
    assert packets(oddities.split_in_line_end)[0].endswith(b"chunked\r\n\r")
    assert packets(oddities.split_in_event_end)[0].endswith(b"\xc3\xa9\n")
    for offset in range(1, len(REPLY.raw())):
        assert len(packets(oddities.split(offset))[0]) == offset
