"""The SSE parser: whatever the pieces, the events are the same."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.events import AnswerStart, Event, Finish, Text, Usage, Verbatim
from providers.openai_compatible.passthrough import Passthrough, envelope_of, is_plain
from providers.transport.sse import FRAME_BYTES, Splitter, parse_frames
from schemas.chat.encode import ChunkEncoder
from tests.support.frames import chunks, finish, streamed_text

line_ends = st.sampled_from(["\n", "\r\n", "\r"])
texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\n"), max_size=20)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def events(pieces: list[bytes]) -> list[tuple[bytes, bytes]]:
    splitter = Splitter()
    blocks = [splitter.feed(piece) for piece in pieces] + [splitter.close()]
    return [tuple(frame) for block in blocks for frame in parse_frames(block)]


@given(st.lists(texts, max_size=8), line_ends, st.lists(st.integers(0, 10_000), max_size=12))
def test_pieces_do_not_matter(datas: list[str], end: str, places: list[int]) -> None:
    """Split inside a character, inside a CRLF, anywhere: and comments, names and blanks are no data."""
    stream = "".join(f": comment{end}event: x{end}data: {data}{end}{end}" for data in datas).encode()
    said = [data.encode().strip() for data in datas]
    assert events(cut(stream, places)) == [(b"x", data) for data in said if data]


def test_lines_of_one_event_are_joined() -> None:
    assert events([b"data: a\ndata:b\nid: 7\nretry: 1\n\n\n\ndata: c\n\n"]) == [(b"", b"a\nb"), (b"", b"c")]


def test_a_last_frame_without_its_blank_line_counts() -> None:
    assert events([b"data: a\n\ndata: [DO", b"NE]"]) == [(b"", b"a"), (b"", b"[DONE]")]
    assert events([b"\xef\xbb\xbfdata: a\n\n"]) == [(b"", b"a")]


def test_a_frame_without_an_end_is_refused() -> None:
    splitter = Splitter()
    for _ in range(FRAME_BYTES // 65_536):
        splitter.feed(b"x" * 65_536)
    with pytest.raises(ValueError, match="frame of more than"):
        splitter.feed(b"x")


def chunk(delta: dict[str, object], finish_reason: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    data = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def read(pieces: list[bytes]) -> bytes:
    """What a caller gets of an OpenAI-shaped stream that arrives in these pieces."""
    splitter, encoder = Splitter(), ChunkEncoder("m", include_usage=True)
    passing = Passthrough("auto", include_reasoning=False, include_usage=True)
    out = b""
    for piece in pieces:
        out += b"".join(encoder.encode(event) for event in passing.block(splitter.feed(piece)))
    out += b"".join(encoder.encode(event) for event in passing.block(splitter.close()))
    assert passing.finished
    return out + encoder.end()


answers = st.lists(
    st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=12), min_size=1, max_size=30
)
oddities = st.sampled_from(
    [{}, {"x_groq": {}}, {"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}]
)


@given(answers, st.integers(0, 30), oddities, st.lists(st.integers(0, 100_000), max_size=10))
def test_text_in_is_text_out(words: list[str], odd_one: int, odd: dict[str, object], places: list[int]) -> None:
    """However it is cut, and wherever a foreign key comes: the same words, one role, one finish."""
    stream = chunk({"role": "assistant", "content": ""})
    for number, word in enumerate(words):
        stream += chunk({"content": word}, **(odd if number == odd_one else {}))
    stream += chunk({}, "stop") + b"data: [DONE]\n\n"
    heard = read(cut(stream, places))
    assert streamed_text(heard) == "".join(words)
    assert finish(heard) == "stop"
    assert len({one["id"] for one in chunks(heard)}) == 1


@given(answers)
def test_what_looks_plain_is_plain(words: list[str]) -> None:
    """A block that passes unread holds nothing but content, whatever the content says."""
    block = b"".join(chunk({"content": word}) for word in words)
    if is_plain(block, *envelope_of(chunk({"content": words[-1]})[6:-2])):
        assert all(json.loads(frame.data)["choices"][0]["delta"].keys() == {"content"} for frame in parse_frames(block))


@pytest.mark.parametrize(
    "frame",
    [
        chunk({"content": "x"}, "stop"),
        chunk({"role": "assistant", "content": "x"}),
        chunk({"content": "x", "reasoning_content": "y"}),
        chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]}),
        chunk({"content": "x"}, usage={"prompt_tokens": 1}),
        chunk({"content": "x"}, x_groq={}),
        chunk({"content": "x"}).replace(b'"created"', b'"makes"'),
        chunk({"content": "x"}, provider="y").replace(b'"created":1,', b""),
        b'data: {"error":{"message":"x"}}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"x"\n\n',
        b": keep-alive\n\n",
        b"event: x\n" + chunk({"content": "x"}),
        b"data: [DONE]\n\n",
    ],
)
def test_what_is_not_plain_is_looked_at(frame: bytes) -> None:
    plainly = chunk({"content": "x"})
    around = envelope_of(plainly[6:-2])
    assert is_plain(plainly + plainly, *around)
    assert is_plain(chunk({"content": 'a "quoted" \\ word {'}) + plainly, *around)
    for block in (frame, plainly + frame, frame + plainly, plainly + frame + plainly):
        assert not is_plain(block, *around)


def test_content_that_imitates_a_frame_stays_content() -> None:
    """A quote inside a JSON string is escaped: nobody speaks a finish reason into being."""
    words = ['"finish_reason":"stop"', '"error":{"a":1}', "data: [DONE]\n\n", '"tool_calls":[', "}\n\ndata: {"]
    stream = chunk({"role": "assistant", "content": ""}) + b"".join(chunk({"content": word}) for word in words * 3)
    assert streamed_text(read([stream + chunk({}, "stop") + b"data: [DONE]\n\n"])) == "".join(words * 3)


def test_role_alone_is_nothing_to_commit_to() -> None:
    passing = Passthrough("auto", include_reasoning=False, include_usage=False)
    assert list(passing.block(chunk({"role": "assistant", "content": ""}))) == []
    [event] = passing.block(chunk({"content": "Hi"}))
    assert isinstance(event, Verbatim)
    assert event.data.count(b"data: ") == 2


def test_the_encoder_ends_an_unfinished_answer_with_an_error() -> None:
    """An answer that just stops is not a finished one."""
    encoder = ChunkEncoder("m")
    encoder.encode(Text("Hi"))
    assert b'"error"' in encoder.end()


def test_the_encoder_shows_usage_only_when_asked() -> None:
    for asked in (False, True):
        encoder = ChunkEncoder("m", include_usage=asked)
        events: list[Event] = [AnswerStart(id="x"), Text("Hi"), Finish("stop"), Usage(1, 2)]
        stream = b"".join(encoder.encode(event) for event in events) + encoder.end()
        assert (b'"usage"' in stream) is asked
        assert streamed_text(stream) == "Hi"
