"""Fallbacks, deadlines, hedging, fillers and speech, as a caller receives them. Real gunicorn."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import yaml

from tests.conftest import Served, free_port, served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults
from tests.support.frames import chat_body, chunks, completion, error, finish, post, streamed_text

SECOND = ["The ", "second ", "answers."]
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}

MODELS = {
    "patient": {"provider": "one", "fallbacks": ["second"]},
    "quick": {"provider": "one", "ttft_timeout_ms": 300, "fallbacks": ["second"]},
    "second": {"provider": "two", "model": "gpt-4o"},
    "chain": {"provider": "nobody", "fallbacks": ["deaf"]},
    "deaf": {"provider": "unreachable", "ttft_timeout_ms": 300, "fallbacks": ["second"]},
    "blind": {"provider": "one", "multimodal": False, "tool_call": False, "fallbacks": ["second"]},
    "alone": {"provider": "one", "ttft_timeout_ms": 300},
    "dead": {"provider": "nobody"},
    "quick-then-dead": {"provider": "one", "ttft_timeout_ms": 300, "fallbacks": ["dead"]},
    "quick-of-three": {"provider": "one", "ttft_timeout_ms": 300, "fallbacks": ["dead", "second"]},
    "hedged-by-the-dead": {"provider": "one", "ttft_timeout_ms": 300, "hedge_after_ms": 100, "fallbacks": ["dead"]},
    "unset": {"provider": "groq", "fallbacks": ["second"]},
    "hedged": {"provider": "one", "hedge_after_ms": 150, "fallbacks": ["second"]},
    "filled": {"provider": "one", "filler_after_ms": 200, "filler_text": "Let me see", "fallbacks": ["second"]},
    "filled-as-set": {"provider": "one", "filler_after_ms": 200},
    "unfilled": {"provider": "one", "filler_after_ms": 0},
    "filled-unreachable": {"provider": "unreachable", "filler_after_ms": 200, "fallbacks": ["second"]},
    "spoken": {"provider": "one", "speech": True},
}


class TwoUpstreams:
    """The app, and the two upstreams behind it."""

    def __init__(self, app: Served, one: OpenAIUpstream, two: OpenAIUpstream) -> None:
        self.app = app
        self.one = one
        self.two = two

    def hear(self, model: str, **more: Any) -> tuple[float, dict[str, str], bytes]:
        """Seconds to the first word, the headers and the whole stream."""
        connection = http.client.HTTPConnection("127.0.0.1", self.app.port, timeout=20)
        began = time.monotonic()
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(chat_body(**{**more, "model": model, "stream": True}))
        )
        response = connection.getresponse()
        heard, first = b"", 0.0
        while data := response.read1(65536):
            heard += data
            if not first and b'"content":"' in heard.replace(b'"content":""', b""):
                first = time.monotonic() - began
        connection.close()
        assert response.status == 200, heard
        return first, {name.lower(): value for name, value in response.getheaders()}, heard


@pytest.fixture(scope="module")
def two_upstreams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoUpstreams]:
    folder = tmp_path_factory.mktemp("served")
    with ExitStack() as stack:
        one, two = stack.enter_context(OpenAIUpstream()), stack.enter_context(OpenAIUpstream())
        # Full of connections that nobody accepts: the next one gets no answer, as behind a dead firewall.
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = deaf.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        providers = {
            "one": {"base_url": one.base_url, "api_key": one.key},
            "two": {"base_url": two.base_url, "api_key": two.key},
            "nobody": {"base_url": f"http://127.0.0.1:{free_port()}/v1"},
            "unreachable": {"base_url": f"http://127.0.0.1:{address[1]}/v1"},
        }
        models = [{"model": "gpt-4o-mini", **row, "name": name} for name, row in MODELS.items()]
        file = folder / "models.yaml"
        file.write_text(yaml.safe_dump({"providers": providers, "models": models}))
        settings: dict[str, object] = {
            "MODELS_FILE": file,
            "THREADS": 16,
            "BREAKER_FAILURES": 10_000,
            "HEADERS_AFTER": 0.6,
        }
        yield TwoUpstreams(stack.enter_context(served(folder / "log", **settings)), one, two)


@pytest.fixture(autouse=True)
def _scripted(two_upstreams: TwoUpstreams) -> None:
    two_upstreams.one.always(ScriptedAnswer())
    two_upstreams.two.always(ScriptedAnswer(texts=SECOND))


FAILURES: dict[str, ScriptedAnswer] = {
    "500": ScriptedAnswer(status=500),
    "429": ScriptedAnswer(status=429, headers={"Retry-After": "1"}),
    "401": ScriptedAnswer(status=401),
    "404": ScriptedAnswer(status=404),
    "reset": ScriptedAnswer(fault=faults.reset_before_headers),
    "a web page": ScriptedAnswer(fault=faults.html),
    "an error with 200": ScriptedAnswer(fault=faults.error_with_200),
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_before_the_first_word_goes_to_the_next(
    two_upstreams: TwoUpstreams, failure: str, stream: bool
) -> None:
    two_upstreams.one.always(FAILURES[failure])
    status, headers, body = post(two_upstreams.app.port, chat_body(model="patient", stream=stream))
    assert (status, headers["x-upstream"]) == (200, "two/gpt-4o")
    text = streamed_text(body) if stream else completion(body)["choices"][0]["message"]["content"]
    assert text == "".join(SECOND)


STALLS: dict[str, ScriptedAnswer] = {
    "before headers": ScriptedAnswer(delay=20),
    "after headers": ScriptedAnswer(first_delay=20),
    "after the role": ScriptedAnswer(texts=[""], frame_delay=20),
    "comments alone": ScriptedAnswer(fault=faults.comments_only),
}


@pytest.mark.parametrize("stall", STALLS)
def test_a_silent_target_is_left_at_its_deadline(two_upstreams: TwoUpstreams, stall: str) -> None:
    """The promise is 50 ms beyond ttft_timeout_ms; what is asserted is far more."""
    two_upstreams.one.always(STALLS[stall])
    first, headers, heard = two_upstreams.hear("quick")
    assert 0.3 <= first < 1.3
    assert headers["x-upstream"] == "two/gpt-4o"
    assert streamed_text(heard) == "".join(SECOND)
    assert len({chunk["id"] for chunk in chunks(heard)}) == 1
    until(lambda: two_upstreams.one.open_connections() == 0, "the first to be freed")


def test_refused_and_unreachable_ones_are_passed_on_the_way(two_upstreams: TwoUpstreams) -> None:
    """A connection that is never made is under the same deadline."""
    first, headers, _ = two_upstreams.hear("chain")
    assert first < 2.0
    assert headers["x-upstream"] == "two/gpt-4o"


def test_thinking_is_no_first_token_even_when_it_is_asked_for(two_upstreams: TwoUpstreams) -> None:
    """It is held back while the clock runs, so that no caller hears one model think and another one speak."""
    two_upstreams.one.always(ScriptedAnswer(reasoning=["hm ", "hm "], texts=["late"], first_delay=0.1, frame_delay=0.5))
    _, headers, heard = two_upstreams.hear("quick", include_reasoning=True)
    assert headers["x-upstream"] == "two/gpt-4o"
    assert b"reasoning_content" not in heard


def test_the_last_is_never_cut(two_upstreams: TwoUpstreams) -> None:
    two_upstreams.one.always(ScriptedAnswer(first_delay=0.5))
    first, headers, _ = two_upstreams.hear("alone")
    assert first >= 0.5
    assert headers["x-upstream"] == "one/gpt-4o-mini"


@pytest.mark.parametrize("model", ["quick-then-dead", "hedged-by-the-dead"])
def test_a_slow_target_is_heard_when_the_next_one_is_dead(two_upstreams: TwoUpstreams, model: str) -> None:
    """A deadline is no outage."""
    two_upstreams.one.always(ScriptedAnswer(texts=["Late, ", "but here."], first_delay=0.45))
    _, headers, heard = two_upstreams.hear(model)
    assert headers["x-upstream"] == "one/gpt-4o-mini"
    assert streamed_text(heard) == "Late, but here."
    two_upstreams.app.logged(
        rf"model={model} .*target=one/gpt-4o-mini .*outcome=done .*tried='nobody/gpt-4o-mini: nobody cannot"
    )


def test_a_dead_one_between_two_holds_up_nobody(two_upstreams: TwoUpstreams) -> None:
    two_upstreams.one.always(ScriptedAnswer(first_delay=20))
    first, headers, _ = two_upstreams.hear("quick-of-three")
    assert 0.3 <= first < 1.3
    assert headers["x-upstream"] == "two/gpt-4o"
    tried = two_upstreams.app.logged("model=quick-of-three .*tried='([^']*)'")[1]
    assert [each.partition(":")[0] for each in tried.split("; ")] == ["nobody/gpt-4o-mini", "one/gpt-4o-mini"]


def test_the_first_may_speak_after_its_deadline_and_before_the_next_one(two_upstreams: TwoUpstreams) -> None:
    two_upstreams.one.always(ScriptedAnswer(texts=["One."], first_delay=0.45))
    two_upstreams.two.always(ScriptedAnswer(first_delay=20))
    _, headers, heard = two_upstreams.hear("quick")
    assert headers["x-upstream"] == "one/gpt-4o-mini"
    assert streamed_text(heard) == "One."
    until(lambda: two_upstreams.two.open_connections() == 0, "the second to be cut off")


def test_a_first_word_in_time_is_the_answer(two_upstreams: TwoUpstreams) -> None:
    two_upstreams.one.always(ScriptedAnswer(texts=["One ", "answers."], frame_delay=0.25))
    _, headers, heard = two_upstreams.hear("quick")
    assert headers["x-upstream"] == "one/gpt-4o-mini"
    assert streamed_text(heard) == "One answers."


def test_after_the_first_word_nobody_else_is_asked(two_upstreams: TwoUpstreams) -> None:
    asked = len(two_upstreams.two.received)
    two_upstreams.one.always(ScriptedAnswer(fault=faults.cut))
    _, _, body = post(two_upstreams.app.port, chat_body(model="patient", stream=True))
    assert error(body.split(b"\n\n")[-3].removeprefix(b"data: "))["code"] == "upstream_error"
    assert len(two_upstreams.two.received) == asked


def test_the_next_one_answers_also_when_the_headers_are_out(two_upstreams: TwoUpstreams) -> None:
    """HEADERS_AFTER has passed, the stream is open with a heartbeat, then the first target fails."""
    two_upstreams.one.always(ScriptedAnswer(delay=0.9, status=400))
    first, headers, heard = two_upstreams.hear("patient")
    assert heard.startswith(b": ")
    assert "x-upstream" not in headers
    assert first >= 0.9
    assert streamed_text(heard) == "".join(SECOND)


def test_what_a_model_cannot_do_goes_to_one_that_can(two_upstreams: TwoUpstreams) -> None:
    assert two_upstreams.hear("blind", messages=IMAGE)[1]["x-upstream"] == "two/gpt-4o"
    assert two_upstreams.hear("blind", tools=[TOOL])[1]["x-upstream"] == "two/gpt-4o"
    assert two_upstreams.hear("blind")[1]["x-upstream"] == "one/gpt-4o-mini"


def test_a_model_without_credentials_is_passed_over(two_upstreams: TwoUpstreams) -> None:
    assert two_upstreams.hear("unset")[1]["x-upstream"] == "two/gpt-4o"


def test_when_all_fail_the_upstreams_failure_is_told(two_upstreams: TwoUpstreams) -> None:
    two_upstreams.one.always(ScriptedAnswer(status=500))
    two_upstreams.two.always(ScriptedAnswer(status=503))
    status, headers, body = post(two_upstreams.app.port, chat_body(model="patient", stream=True))
    assert (status, headers["x-should-retry"]) == (502, "false")
    assert "one failed" in error(body)["message"]
    two_upstreams.app.logged(
        "model=patient .*target=one/gpt-4o-mini status=502 .*tried='one/gpt-4o-mini: one failed.*; two/gpt-4o: two"
    )


# hedging


def test_a_slow_first_is_raced_and_the_loser_cut_off(two_upstreams: TwoUpstreams) -> None:
    two_upstreams.one.always(ScriptedAnswer(first_delay=20))
    first, headers, heard = two_upstreams.hear("hedged")
    assert 0.15 <= first < 1.15
    assert headers["x-upstream"] == "two/gpt-4o"
    assert streamed_text(heard) == "".join(SECOND)
    until(lambda: two_upstreams.one.open_connections() == 0, "the loser to be cut off")
    two_upstreams.app.logged("target=two/gpt-4o .*hedged=True")


def test_a_quick_first_is_not_raced(two_upstreams: TwoUpstreams) -> None:
    asked = len(two_upstreams.two.received)
    assert two_upstreams.hear("hedged")[1]["x-upstream"] == "one/gpt-4o-mini"
    assert len(two_upstreams.two.received) == asked


def test_a_failed_first_does_not_wait_for_the_hedge(two_upstreams: TwoUpstreams) -> None:
    two_upstreams.one.always(ScriptedAnswer(status=400))
    first, headers, _ = two_upstreams.hear("hedged")
    assert first < 0.15 + 1
    assert headers["x-upstream"] == "two/gpt-4o"


def test_the_first_may_still_win(two_upstreams: TwoUpstreams) -> None:
    two_upstreams.one.always(ScriptedAnswer(texts=["One."], first_delay=0.4))
    two_upstreams.two.always(ScriptedAnswer(first_delay=20))
    _, headers, heard = two_upstreams.hear("hedged")
    assert headers["x-upstream"] == "one/gpt-4o-mini"
    assert streamed_text(heard) == "One."
    until(lambda: two_upstreams.two.open_connections() == 0, "the loser to be cut off")


def test_both_may_fail(two_upstreams: TwoUpstreams) -> None:
    two_upstreams.one.always(ScriptedAnswer(status=500))
    two_upstreams.two.always(ScriptedAnswer(status=400))
    assert post(two_upstreams.app.port, chat_body(model="hedged", stream=True))[0] == 502


def test_a_hedge_that_fails_is_in_the_log_with_its_own_target(two_upstreams: TwoUpstreams) -> None:
    two_upstreams.one.always(ScriptedAnswer(texts=["One."], first_delay=0.45))
    two_upstreams.two.always(ScriptedAnswer(status=400))
    assert two_upstreams.hear("hedged")[1]["x-upstream"] == "one/gpt-4o-mini"
    two_upstreams.app.logged("model=hedged .*target=one/gpt-4o-mini .*outcome=done .*hedged=True .*tried='two/gpt-4o: ")
    two_upstreams.app.logged("no answer .*target=two/gpt-4o ")


def test_a_caller_who_leaves_a_race_frees_both(two_upstreams: TwoUpstreams) -> None:
    """A hang-up frees every target, in every phase."""
    two_upstreams.one.always(ScriptedAnswer(first_delay=20))
    two_upstreams.two.always(ScriptedAnswer(first_delay=20))
    one, two = len(two_upstreams.one.received), len(two_upstreams.two.received)
    raw = json.dumps(chat_body(model="hedged", stream=True)).encode()
    caller = socket.create_connection(("127.0.0.1", two_upstreams.app.port))
    caller.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(raw) + raw
    )
    until(lambda: len(two_upstreams.one.received) > one and len(two_upstreams.two.received) > two, "both to be asked")
    left = time.monotonic()
    caller.close()
    for upstream, count in ((two_upstreams.one, one), (two_upstreams.two, two)):
        assert upstream.received[count].wait_closed(10) - left < 1.0


# fillers


def test_a_phrase_is_said_while_the_first_word_is_awaited(two_upstreams: TwoUpstreams) -> None:
    """One id and one role throughout; it ends so that a voice pauses; it is no part of the tokens."""
    two_upstreams.one.always(ScriptedAnswer(texts=["Here ", "it is."], first_delay=0.7))
    first, _, heard = two_upstreams.hear("filled", stream_options={"include_usage": True})
    found = chunks(heard)
    assert first < 0.7
    assert streamed_text(heard) == "Let me see... Here it is."
    assert len({chunk["id"] for chunk in found}) == 1
    assert sum(choice["delta"].get("role") is not None for chunk in found for choice in chunk["choices"]) == 1
    assert finish(heard) == "stop"


def test_a_model_may_have_its_own_time_for_the_phrase_of_the_settings(two_upstreams: TwoUpstreams) -> None:
    two_upstreams.one.always(ScriptedAnswer(texts=["Late."], first_delay=0.4))
    assert streamed_text(two_upstreams.hear("filled-as-set")[2]) == "One moment... Late."
    assert streamed_text(two_upstreams.hear("unfilled")[2]) == "Late."


def test_the_phrase_is_said_while_a_connection_is_being_made(two_upstreams: TwoUpstreams) -> None:
    first, _, heard = two_upstreams.hear("filled-unreachable")
    assert first < 1.2
    assert streamed_text(heard) == f"One moment... {''.join(SECOND)}"


def test_the_next_target_may_answer_after_the_phrase(two_upstreams: TwoUpstreams) -> None:
    two_upstreams.one.always(ScriptedAnswer(delay=0.4, status=400))
    _, _, heard = two_upstreams.hear("filled")
    assert streamed_text(heard) == f"Let me see... {''.join(SECOND)}"
    assert len({chunk["id"] for chunk in chunks(heard)}) == 1


def test_a_quick_answer_has_no_phrase(two_upstreams: TwoUpstreams) -> None:
    two_upstreams.one.always(ScriptedAnswer(texts=["Quick."]))
    assert streamed_text(two_upstreams.hear("filled")[2]) == "Quick."


def test_no_phrase_before_a_tool_call_or_twice_in_a_turn(two_upstreams: TwoUpstreams) -> None:
    two_upstreams.one.always(ScriptedAnswer(texts=["Late."], first_delay=0.4))
    assert streamed_text(two_upstreams.hear("filled", tools=[TOOL])[2]) == "Late."
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turn = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    ]
    assert streamed_text(two_upstreams.hear("filled", messages=turn)[2]) == "Late."


def test_a_failure_after_the_phrase_is_an_error_frame(two_upstreams: TwoUpstreams) -> None:
    two_upstreams.one.always(ScriptedAnswer(delay=0.4, status=500))
    two_upstreams.two.always(ScriptedAnswer(status=500))
    _, _, heard = two_upstreams.hear("filled")
    assert heard.endswith(b"data: [DONE]\n\n")
    assert error(heard.split(b"\n\n")[-3].removeprefix(b"data: "))["code"] == "upstream_error"


# speech


@pytest.mark.parametrize("stream", [True, False])
def test_text_is_made_fit_to_be_read_aloud(two_upstreams: TwoUpstreams, stream: bool) -> None:
    two_upstreams.one.always(ScriptedAnswer(texts=["**Hel", "lo** \U0001f600", " there: [a ", "link](http://x)"]))
    for body in (chat_body(model="spoken", stream=stream), chat_body(model="alone", stream=stream, speech=True)):
        answer = post(two_upstreams.app.port, body)[2]
        text = streamed_text(answer) if stream else completion(answer)["choices"][0]["message"]["content"]
        assert text == "Hello there: a link"
    answer = post(two_upstreams.app.port, chat_body(model="spoken", stream=stream, speech=False))[2]
    assert b"**" in answer
