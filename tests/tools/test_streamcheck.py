"""test_streaming.py: each fault has the check that finds it, and the tool says so by its exit code."""

import json
import re
import ssl
import subprocess
import sys
from dataclasses import replace

import pytest

import test_streaming
from tests.conftest import ROOT, environment, free_port
from tests.emulators import AZURE, FAULTS, OpenAIUpstream, ScriptedAnswer, certificate, faults, oddities
from tools.streamcheck import capture, chunk_checks, client, plot, timing_checks
from tools.streamcheck.capture import Arrival, Capture, End
from tools.streamcheck.check import merge, run
from tools.streamcheck.checks import CHECKS
from tools.streamcheck.compare import differences
from tools.streamcheck.frames import frames
from tools.streamcheck.judge import Endpoint, Judged
from tools.streamcheck.report import Paint, text
from tools.streamcheck.stream import Asked, Stream
from tools.streamcheck.timing import sketch, timing

HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1790000000, "model": "m"}
TEXTS = ("One", " two", " three", ",", " four", " fünf", " 六", ".")
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
DONE = b"data: [DONE]\n\n"
NO_USAGE = Asked(usage=False)
TOOLS = Asked(usage=False, tools=True)


def chunk(delta, finish=None, **more):
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**HEAD, "choices": [choice], **more}


ROLE = chunk({"role": "assistant", "content": ""})
SAID = [chunk({"content": each}) for each in TEXTS]
FINISH = chunk({}, "stop")
COUNTED = {**HEAD, "choices": [], "usage": USAGE}
PLAIN = [ROLE, *SAID, FINISH]
GOOD = [*PLAIN, COUNTED]


def frame(body):
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def sse(*bodies):
    return [frame(each) if isinstance(each, dict) else each for each in bodies]


def call(index, *, named="", arguments="", **more):
    function = {"name": named, "arguments": arguments} if named else {"arguments": arguments}
    return {
        "index": index,
        **({"id": f"call_{index}", "type": "function"} if named else {}),
        "function": function,
    } | more


def call_pieces(*calls, finish="tool_calls"):
    return sse(ROLE, *(chunk({"tool_calls": [each]}) for each in calls), chunk({}, finish), DONE)


def record_stream(pieces, *, pace=0.02, first=0.1, end=End.WHOLE, status=200, ended_at=0.0, **headers):
    """A piece is bytes, which come a `pace` after the one before, or (seconds, bytes)."""
    arrivals = [
        Arrival(*piece) if isinstance(piece, tuple) else Arrival(first + place * pace, piece)
        for place, piece in enumerate(pieces)
    ]
    last = arrivals[-1].at if arrivals else first
    given = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Capture(status, given, tuple(arrivals), end, first if status else None, ended_at or last)


def check_results(recorded, asked=None):
    """The names of the checks that fail, and of those that warn."""
    results = run(CHECKS, Stream(recorded, asked))
    return {status: {each.name for each in results if each.status == status} for status in ("fail", "warn", "skip")}


def without(body, key, *, level="choice"):
    choice = {name: value for name, value in body["choices"][0].items() if level != "choice" or name != key}
    return {**{name: value for name, value in body.items() if level != "chunk" or name != key}, "choices": [choice]}


ALL = sse(*GOOD, DONE)
CITY = '{"city":"Bern"}'
TWO = [call(0, named="a", arguments=CITY), call(1, named="b"), call(1, arguments="{}")]

WELL = {
    "usage": (ALL, None),
    "no usage": (sse(*PLAIN, DONE), NO_USAGE),
    "usage null until told": (sse(*({**each, "usage": None} for each in PLAIN), COUNTED, DONE), None),
    "heartbeats": ([b": keep-alive\n\n", *ALL[:4], b": keep-alive\n\n", *ALL[4:]], None),
    "a tool call": (call_pieces(call(0, named="a"), call(0, arguments=CITY)), TOOLS),
    "two tool calls": (call_pieces(*TWO), TOOLS),
    "text and a call": (call_pieces(*TWO)[:1] + sse(*SAID) + call_pieces(*TWO)[1:], NO_USAGE),
    "a refusal": (sse(ROLE, chunk({"refusal": "No."}), FINISH, DONE), NO_USAGE),
    "split at each byte": ([(0.1 + place / 1000, bytes([byte])) for place, byte in enumerate(b"".join(ALL))], None),
    "obfuscation": (sse(*({**each, "obfuscation": "xY"} for each in GOOD), DONE), None),
}


@pytest.mark.parametrize("name", WELL)
def test_nothing_is_found_in_a_good_stream(name):
    pieces, asked = WELL[name]
    results = check_results(record_stream(pieces), asked)
    assert (results["fail"], results["warn"]) == (set(), set())


# What is broken, and exactly which checks fail for it. A third item is what was asked for.
BROKEN = {
    "no space": ([each.replace(b"data: ", b"data:") for each in ALL], {"frames"}),
    "event name": ([*ALL[:3], b"event: chunk\n" + ALL[3], *ALL[4:]], {"frames"}),
    "id field": ([b"id: 1\n" + ALL[0], *ALL[1:]], {"frames"}),
    "two data lines": ([ALL[0].replace(b', "choices"', b',\ndata: "choices"'), *ALL[1:]], {"frames"}),
    "four newlines": ([*ALL[:3], ALL[3] + b"\n\n", *ALL[4:]], {"frames"}),
    "last frame unended": ([*ALL[:-1], DONE[:-1]], {"frames"}),
    "comment inside": ([*ALL[:3], b": keep-alive\n", *ALL[3:]], {"comments"}),
    "comment in a line": (
        [*ALL[:3], ALL[3][:60] + b": keep-alive\n\n" + ALL[3][60:], *ALL[4:]],
        {"JSON", "frames", "openai client"},
    ),
    "empty event": ([*ALL[:3], b"data: \n\n", *ALL[3:]], {"JSON", "openai client"}),
    "half a comment": ([*ALL, b": keep"], {"comments", "[DONE]"}),
    "not JSON": ([*ALL[:3], b"data: {'a': 1}\n\n", *ALL[3:]], {"JSON", "openai client"}),
    "NaN": ([*ALL[:3], b'data: {"choices": [], "x": NaN}\n\n', *ALL[3:]], {"JSON"}),
    "a list": ([*ALL[:3], b"data: [1]\n\n", *ALL[3:]], {"JSON", "openai client"}),
    "half a character": (
        [*ALL[:6], ALL[6].replace("ü".encode(), b"\xc3"), *ALL[7:]],
        {"UTF-8", "JSON", "openai client"},
    ),
    "error frame": (
        sse(*GOOD[:3], {"error": {"message": "Boom"}}, DONE),
        {"no error frame", "finish", "usage", "openai client"},
    ),
    "no [DONE]": (ALL[:-1], {"[DONE]"}),
    "two [DONE]": ([*ALL, DONE], {"[DONE]"}),
    "[DONE] too early": ([*ALL[:-2], DONE, ALL[-2]], {"[DONE]"}),
    "comment after [DONE]": ([*ALL, b": keep-alive\n\n"], {"[DONE]"}),
    "object": (sse(*({**each, "object": "chat.completion"} for each in GOOD), DONE), {"object", "types"}),
    "id changes": (sse(*({**each, "id": f"x{place}"} for place, each in enumerate(GOOD)), DONE), {"identity"}),
    "created changes": (sse(*({**each, "created": 9 + n} for n, each in enumerate(GOOD)), DONE), {"identity"}),
    "model changes": (sse({**ROLE, "model": "other"}, *GOOD[1:], DONE), {"identity"}),
    "id empty": (sse(*({**each, "id": ""} for each in GOOD), DONE), {"identity"}),
    "no model": (
        sse(*(without(each, "model", level="chunk") for each in PLAIN), DONE),
        {"identity", "types"},
        NO_USAGE,
    ),
    "created a string": (sse(*({**each, "created": "9"} for each in GOOD), DONE), {"identity", "types"}),
    "key in the chunk": (sse({**ROLE, "provider": "x"}, *GOOD[1:], DONE), {"keys"}),
    "key in a choice": (
        sse(*PLAIN[:-1], {**HEAD, "choices": [{**FINISH["choices"][0], "native_finish_reason": "x"}]}, DONE),
        {"keys"},
        NO_USAGE,
    ),
    "key in a delta": (sse(ROLE, chunk({"reasoning_content": "Hm"}), *PLAIN[1:], DONE), {"keys"}, NO_USAGE),
    "empty choices": (sse({**HEAD, "choices": []}, *PLAIN, DONE), {"choices"}, NO_USAGE),
    "no choices": (sse(HEAD, *PLAIN, DONE), {"choices", "types", "openai client"}, NO_USAGE),
    "no index": (sse(*(without(each, "index") for each in PLAIN), DONE), {"choices", "types"}, NO_USAGE),
    "no finish_reason key": (
        sse(*(without(each, "finish_reason") for each in PLAIN[:-1]), FINISH, DONE),
        {"choices"},
        NO_USAGE,
    ),
    "no role": (sse(*PLAIN[1:], DONE), {"role"}, NO_USAGE),
    "role each time": (sse(ROLE, chunk({"role": "assistant", "content": "Hi"}), FINISH, DONE), {"role"}, NO_USAGE),
    "role late": (sse(SAID[0], ROLE, *SAID, FINISH, DONE), {"role"}, NO_USAGE),
    "no finish": (sse(*PLAIN[:-1], DONE), {"finish"}, NO_USAGE),
    "two finishes": (sse(*PLAIN, FINISH, DONE), {"finish"}, NO_USAGE),
    "content after the finish": (sse(*PLAIN, SAID[0], DONE), {"finish"}, NO_USAGE),
    "Cohere's finish": (sse(*PLAIN[:-1], chunk({}, "COMPLETE"), DONE), {"finish", "types"}, NO_USAGE),
    "stop beside calls": (call_pieces(*TWO, finish="stop"), {"finish fits"}, TOOLS),
    "tool_calls without": (sse(*PLAIN[:-1], chunk({}, "tool_calls"), DONE), {"finish fits"}, NO_USAGE),
    "no usage": (sse(*PLAIN, DONE), {"usage"}),
    "usage unasked": (ALL, {"usage"}, NO_USAGE),
    "usage twice": (sse(*GOOD, COUNTED, DONE), {"usage"}),
    "usage with a choice": (sse(*PLAIN, {**SAID[0], "usage": USAGE}, DONE), {"usage", "finish"}),
    "usage on the finish": (sse(*PLAIN[:-1], {**FINISH, "usage": USAGE}, DONE), {"usage"}),
    "usage first": (sse(COUNTED, *PLAIN, DONE), {"usage"}),
    "usage does not add up": (sse(*PLAIN, {**COUNTED, "usage": {**USAGE, "total_tokens": 8}}, DONE), {"usage"}),
    "usage incomplete": (sse(*PLAIN, {**COUNTED, "usage": {"total_tokens": 8}}, DONE), {"usage", "types"}),
    "nothing said": (sse(ROLE, FINISH, DONE), {"content"}, NO_USAGE),
    "only white space": (sse(ROLE, chunk({"content": " \n"}), FINISH, DONE), {"content"}, NO_USAGE),
    "content a number": (
        sse(ROLE, chunk({"content": 5}), FINISH, DONE),
        {"content", "types", "openai client"},
        NO_USAGE,
    ),
    "an empty body": ([], {"[DONE]", "content"}),
    "no call": (sse(*PLAIN, DONE), {"tool called"}, TOOLS),
    "two calls in a delta": (
        sse(ROLE, chunk({"tool_calls": [TWO[0], call(1, named="b", arguments="{}")]}), chunk({}, "tool_calls"), DONE),
        {"one call a delta"},
        TOOLS,
    ),
    "index from 1": (call_pieces(call(1, named="a", arguments="{}")), {"call indices"}, TOOLS),
    "index -1": (call_pieces(call(-1, named="a", arguments="{}")), {"call indices"}, TOOLS),
    "index differs": (
        call_pieces(call(0, named="a"), call(1, arguments="{}")),
        {"call names", "call arguments"},
        TOOLS,
    ),
    "all at index 0": (
        call_pieces(call(0, named="a", arguments="{}"), call(0, named="b", arguments="{}")),
        {"call names", "call arguments"},
        TOOLS,
    ),
    "no call index": (call_pieces(call(None, named="a", arguments="{}")), {"call indices", "types"}, TOOLS),
    "no call id": (call_pieces(call(0, named="a", arguments="{}", id=None)), {"call names"}, TOOLS),
    "one id for two": (
        call_pieces(*(call(n, named="a", arguments="{}", id="x") for n in (0, 1))),
        {"call names"},
        TOOLS,
    ),
    "id again": (call_pieces(call(0, named="a"), call(0, arguments="{}", id="call_0")), {"call names"}, TOOLS),
    "no type": (call_pieces(call(0, named="a", arguments="{}", type=None)), {"call names"}, TOOLS),
    "arguments by repr": (call_pieces(call(0, named="a", arguments="{'a': 1}")), {"call arguments"}, TOOLS),
    "arguments no object": (call_pieces(call(0, named="a", arguments="[]")), {"call arguments"}, TOOLS),
    "all at the end": ([(5.1 + place / 1000, each) for place, each in enumerate(ALL)], {"not buffered"}),
    "all in one packet": ([(0.2, b"".join(ALL))], {"not buffered"}),
    "a lump in the middle": ([(0.1, ALL[0]), (0.3, b"".join(ALL[1:-1])), (0.9, ALL[-1])], {"not buffered"}),
    "silent for 11 s": (
        [ALL[0], *((12.0 + place, each) for place, each in enumerate(ALL[1:]))],
        {"no long silence"},
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_found(name):
    pieces, expected, *asked = BROKEN[name]
    assert check_results(record_stream(pieces), *asked)["fail"] == expected


ANSWERS = {
    "status": (record_stream([b'{"error":{"message":"Slow down"}}'], status=429), {"status"}),
    "no answer": (record_stream([], status=0, end=End.RESET), {"status"}),
    "no stream": (
        record_stream([b'{"choices":[{"message":{"content":"Hi"}}]}'], content_type="application/json"),
        {"content type", "frames", "JSON", "[DONE]", "content"},
    ),
    "text/plain": (record_stream(ALL, content_type="text/plain"), {"content type"}),
    "compressed": (record_stream(ALL, content_encoding="br"), {"not compressed"}),
    "cut": (record_stream(ALL[:5], end=End.CUT), {"whole body", "[DONE]", "finish", "usage"}),
    "cut after [DONE]": (record_stream(ALL, end=End.CUT), {"whole body"}),
    "held open": (record_stream(ALL, end=End.HELD, ended_at=1.5), {"ends after [DONE]"}),
    "given up": (
        record_stream(ALL[:5], end=End.SILENT, ended_at=30.0),
        {"whole body", "[DONE]", "finish", "usage", "no long silence"},
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_broken_answer_is_found(name):
    recorded, expected = ANSWERS[name]
    assert check_results(recorded)["fail"] == expected


WARNED = {
    "no cache control": (record_stream(ALL, cache_control=""), {"cache control"}),
    "until close": (record_stream(ALL, end=End.CLOSED), {"whole body"}),
    "CRLF": (record_stream([each.replace(b"\n", b"\r\n") for each in ALL]), {"line ends"}),
    "mixed line ends": (record_stream([ALL[0].replace(b"\n", b"\r\n"), *ALL[1:]]), {"line ends"}),
    "lost characters": (record_stream(sse(ROLE, chunk({"content": "\ufffd"}), FINISH, COUNTED, DONE)), {"UTF-8"}),
    "usage -1": (record_stream(sse(*PLAIN, {**COUNTED, "usage": dict.fromkeys(USAGE, -1)}, DONE)), {"usage"}),
    "too fast to tell": (record_stream([(0.02, b"".join(ALL))], first=0.02), {"not buffered"}),
    "in one piece": (
        record_stream(sse(ROLE, chunk({"content": "".join(TEXTS)}), FINISH, COUNTED, DONE)),
        {"small pieces"},
    ),
    "silent for 6 s": (
        record_stream([ALL[0], *((7.0 + place, each) for place, each in enumerate(ALL[1:]))]),
        {"no long silence"},
    ),
}


@pytest.mark.parametrize("name", WARNED)
def test_what_is_odd_is_a_warning(name):
    recorded, expected = WARNED[name]
    results = check_results(recorded)
    assert (results["fail"], results["warn"]) == (set(), expected)


def test_heartbeats_break_a_silence():
    beats = [(5.0 * place, b": keep-alive\n\n") for place in (1, 2, 3)]
    later = [(16.0 + place, each) for place, each in enumerate(ALL)]
    assert check_results(record_stream([*beats, *later], first=5.0))["warn"] == set()


JUNK = (b"", b"\n", b"\n\n\n", b":", b"data:", b"data: null\n\n", b"\xff\xfe\r\r", b"data: {}\n\n")
ODD = (None, 1, "x", [], {}, [None], [1], [[]], [{}], {"a": 1})
PLACES = {
    "choices": lambda odd: {**ROLE, "choices": odd},
    "delta": lambda odd: {**ROLE, "choices": [{"index": odd, "delta": odd, "finish_reason": odd}]},
    "tool_calls": lambda odd: chunk({"tool_calls": odd, "content": odd, "role": odd}),
    "usage": lambda odd: {**COUNTED, "usage": odd, "id": odd, "object": odd},
    "function": lambda odd: chunk({"tool_calls": [{"index": odd, "id": odd, "type": odd, "function": odd}]}),
}


@pytest.mark.parametrize("place", PLACES)
def test_no_check_stumbles_over_odd_values(monkeypatch, place):
    monkeypatch.setattr(client, "_packages", missing)  # the client is slow, and may stumble
    for odd in ODD:
        for junk in JUNK:
            stream = Stream(record_stream([*sse(ROLE, PLACES[place](odd)), junk]), TOOLS)
            judged = Judged(Endpoint("http://a/v1"), [stream], run(CHECKS, stream))
            assert text([judged, judged], Paint(on=True))


def missing():
    raise client.Skipped(client.MISSING)


def test_without_the_openai_package(monkeypatch):
    def not_installed(name):
        raise ImportError(name)

    monkeypatch.setattr(client, "import_module", not_installed)
    monkeypatch.setattr(chunk_checks, "import_module", not_installed)
    results = check_results(record_stream(ALL))
    assert results["fail"] == set()
    assert {"types", "openai client"} <= results["skip"]


def test_a_frame_comes_when_its_last_byte_does():
    cut = [(0.1, b"data: 1\n"), (0.2, b"\nda"), (0.3, b"ta: 2\n\n: c\n\n"), (0.4, b"x")]
    read = list(frames(record_stream(cut).arrivals))
    assert [(each.at, each.kind, each.data, each.complete) for each in read] == [
        (0.2, "event", b"1", True),
        (0.3, "event", b"2", True),
        (0.3, "comment", b"", True),
        (0.4, "event", b"", False),
    ]


def test_the_figures():
    times = timing(Stream(record_stream([b": hi\n\n", *ALL], first=0.1, pace=0.02)))
    assert times.first_byte == pytest.approx(0.1)
    assert times.first_token == pytest.approx(0.14)
    assert times.gap == pytest.approx(0.02)
    assert times.total == pytest.approx(0.1 + 0.02 * len(ALL))


def test_the_sketch():
    assert sketch([0.0, 0.05, 0.051, 0.1], 0.1, columns=10) == "0 ms |.    :   .| 100 ms"
    assert sketch([0.01] * 9, 0.02, columns=4) == "0 ms |  # | 20 ms"
    assert sketch([], 0.0, columns=3) == "0 ms |   | 0.0 ms"


def judge_stream(pieces, url="http://a/v1", model="m", asked=None):
    stream = Stream(record_stream(pieces), asked)
    return Judged(Endpoint(url, model=model), [stream], run(CHECKS, stream))


def test_differences_are_told():
    ours = judge_stream(ALL)
    theirs = judge_stream(
        sse(*({**each, "system_fingerprint": "fp"} for each in GOOD), DONE), "https://api.openai.com/v1"
    )
    found = list(differences(ours, theirs))
    assert "OpenAI (m) sends `system_fingerprint` in the chunk, a (m) does not" in found
    assert not ours.failed
    report = text([ours, theirs], Paint(on=False))
    assert "\x1b" not in report
    assert "first token" in report
    assert re.search(r"^pass  a: \d+ passed, 4 skipped", report, re.MULTILINE)


def test_any_run_can_fail():
    good, bad = (run(CHECKS, Stream(record_stream(pieces))) for pieces in (ALL, ALL[:-1]))
    assert [each.name for each in merge([good, bad, bad]) if each.problems] == ["[DONE]"]


# The tool


@pytest.fixture
def tool(monkeypatch, capsys):
    """tool(*arguments): its exit code, and what it printed."""
    monkeypatch.setattr(test_streaming.Settings, "load", lambda: replace(test_streaming.Settings(), api_key="own"))
    monkeypatch.setattr(timing_checks, "INSTANT", 5.0)  # what is sent at once may take a while on a busy machine

    def start(*arguments):
        code = test_streaming.main(arguments)
        return code, capsys.readouterr()

    return start


def asking(upstream, *more):
    return "--url", upstream.base_url, "--key", upstream.key, "--model", "gpt-4o-mini", "--timeout", "10", *more


OPENAIS_TOO = ("lump", "no_done", "held_after_finish", "held_after_done", "finished_twice", "plain_text")
"""Oddities that a proxy must bear, and that no endpoint should show."""


@pytest.mark.parametrize("fault", [each for each in FAULTS if each.streaming], ids=str)
def test_each_fault_of_an_upstream(upstream, tool, fault):
    upstream.always(ScriptedAnswer(fault=fault, texts=["One", " two"]))
    patience = "0.4" if fault.silent or fault is oddities.held_after_finish else "10"
    code, _ = tool(*asking(upstream, "--timeout", patience))
    assert (code == 0) == (fault.harmless and fault.name not in OPENAIS_TOO)


@pytest.mark.parametrize(
    ("answer", "check"),
    [
        (ScriptedAnswer(first_frame={}), "choices"),
        (AZURE, "keys"),
        (ScriptedAnswer(event="chunk"), "frames"),
        (ScriptedAnswer(role=False), "role"),
        (ScriptedAnswer(null_finish=False), "choices"),
        (ScriptedAnswer(usage_on_finish=True), "usage"),
        (ScriptedAnswer(created_varies=True), "identity"),
        (ScriptedAnswer(calls=[("a", "f", ["{}"])] * 2, calls_together=True), "one call a delta"),
        (ScriptedAnswer(calls=[("a", "f", ["{}"])], first_call_index=1), "call indices"),
        (ScriptedAnswer(calls=[("a", "f", ["{}"])], call_ids=False), "call names"),
    ],
)
def test_each_dialect_of_an_upstream(upstream, tool, answer, check):
    upstream.always(answer)
    code, printed = tool(*asking(upstream, "--json", "--no-client"))
    checks = json.loads(printed.out)["endpoints"][0]["checks"]
    assert code == 1
    assert check in [each["name"] for each in checks if each["status"] == "fail"]


@pytest.mark.parametrize("more", [(), ("--tools",), ("--no-usage",), ("--runs", "2")])
def test_the_default_answer_passes(upstream, tool, more):
    code, printed = tool(*asking(upstream, *more))
    assert code == 0, printed.out
    assert "0 ms |" in printed.out
    assert "FAIL" not in printed.out


def test_what_is_asked(upstream, tool):
    assert tool(*asking(upstream, "--prompt", "Grüße", "--no-client"))[0] == 0
    request = upstream.received[0]
    assert request.json == {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Grüße"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert request.headers["Accept-Encoding"] == "identity"


def test_a_full_address_and_a_listed_model(upstream, tool):
    code, _ = tool("--url", f"{upstream.base_url}/chat/completions/", "--key", upstream.key)
    assert code == 0
    assert upstream.received[-1].json["model"] == "gpt-4o-mini"


def test_comparing(upstream, tool, tmp_path):
    upstream.always(ScriptedAnswer(frame_delay=0.002))
    raw = tmp_path / "raw"
    against = ("--against", upstream.base_url, "--against-key", upstream.key, "--against-model", "gpt-4o")
    code, printed = tool(*asking(upstream, *against, "--runs", "2", "--json", "--raw", str(raw)))
    report = json.loads(printed.out)
    assert (code, report["ok"], [each["model"] for each in report["endpoints"]]) == (0, True, ["gpt-4o-mini", "gpt-4o"])
    assert len(report["endpoints"][0]["first_tokens_ms"]) == 2
    lines = [json.loads(line) for line in raw.read_text().splitlines()]
    assert [(each["run"], each["frame"]) for each in lines if "[DONE]" in each["frame"]] == [
        (run, "data: [DONE]") for run in (1, 2, 1, 2)
    ]
    assert lines[0]["at_ms"] > 0
    assert tool(*asking(upstream, *against))[0] == 0


def test_the_verdict_is_on_the_first(upstream, tool):
    good, bad = ScriptedAnswer(), ScriptedAnswer(fault=oddities.no_done)
    against = ("--against", upstream.base_url, "--against-key", upstream.key, "--against-model", "gpt-4o")
    upstream.enqueue(good, bad)
    assert tool(*asking(upstream, *against, "--no-client"))[0] == 0
    upstream.enqueue(bad, good)
    assert tool(*asking(upstream, *against, "--no-client"))[0] == 1


def test_it_cannot_run(upstream, tool, monkeypatch):
    for arguments in (
        asking(upstream, "--key", "wrong"),
        asking(upstream, "--model", "no-such-model"),
        asking(upstream, "--url", f"http://127.0.0.1:{free_port()}/v1"),
        asking(upstream, "--url", "localhost:8000/v1"),
        asking(upstream, "--url", "http:///v1"),
        asking(upstream, "--key", "line\nend"),
        asking(upstream, "--against", "openai"),
        asking(upstream, "--raw", "/no/such/folder"),
    ):
        code, printed = tool(*arguments, "--json")
        assert (code, json.loads(printed.out)["exit_code"]) == (2, 2)
        assert printed.err.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        tool("--runs", "0")
    monkeypatch.setattr(plot, "available", lambda: False)
    assert "pip install matplotlib" in tool(*asking(upstream, "--plot", "x.png"))[1].err


def test_a_key_stays_at_its_own_address():
    settings = replace(test_streaming.Settings(), api_key="own", upstreams={"OPENAI_API_KEY": "sk"})
    for url, key in {
        "http://127.0.0.1:8000/v1": "own",
        "https://localhost/v1": "own",
        "https://api.openai.com/v1": "sk",
        "http://api.openai.com/v1": "",
        "https://elsewhere.example/v1": "",
        "https://api.openai.com.example/v1": "",
        "https://127.0.0.1@elsewhere.example/v1": "",
    }.items():
        assert test_streaming._endpoint(url, "", "m", settings).key == key


def test_the_plot(upstream, tool, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "plot.png"
    assert tool(*asking(upstream, "--plot", str(path)))[0] == 0
    assert path.read_bytes().startswith(b"\x89PNG")


def test_tls(tool, monkeypatch):
    with OpenAIUpstream(tls=True) as upstream:
        code, printed = tool(*asking(upstream, "--no-client"))
        assert (code, "CERTIFICATE_VERIFY_FAILED" in printed.err) == (2, True)
        context = ssl.create_default_context(cafile=certificate()[0])
        monkeypatch.setattr(capture, "_tls", lambda: context)
        assert tool(*asking(upstream, "--no-client"))[0] == 0


def run_tool(*arguments, **settings):
    command = [sys.executable, "test_streaming.py", *arguments]
    variables = environment(**settings)
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.thorough
def test_as_a_command(upstream):
    upstream.always(ScriptedAnswer(frame_delay=0.01))
    ran = run_tool(*asking(upstream, "--json"))
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["ok"]
    upstream.always(ScriptedAnswer(fault=faults.cut))
    assert run_tool(*asking(upstream)).returncode == 1
    upstream.always(ScriptedAnswer(fault=faults.refused))
    ran = run_tool(*asking(upstream))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "cannot be reached" in ran.stderr


def test_thinkline_itself(serve):
    served = serve(DEMO_PACE_MS=10, API_KEY="own")
    ran = run_tool("--against", "demo", "--tools", PORT=served.port, API_KEY="own")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    ran = run_tool("--no-client", PORT=served.port, API_KEY="own")
    assert ran.returncode == 0, ran.stdout + ran.stderr
