"""Every kind of upstream, every phase of a hang-up, every way to be silent: what is promised holds for all.

tests/dialects/test_dialects.py has every fault of an upstream through every dialect; here callers leave, and targets
fall silent, at each of them, in one app under gunicorn. What is left behind is counted.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import yaml

from tests.conftest import Served, served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults
from tests.emulators.lines import NAMES, Line, lines, providers_of
from tests.support import messages, responses
from tests.support.callers import AT_ONCE, LONG, PHASES, WORDS, Caller
from tests.support.frames import chat_body, post, streamed_text

pytestmark = pytest.mark.slow

DIALECTS: dict[str, tuple[str, Callable[..., dict[str, Any]], Callable[[bytes], str]]] = {
    "chat": ("/v1/chat/completions", chat_body, streamed_text),
    "messages": ("/v1/messages", messages.ask_body, lambda data: messages.text(messages.streamed(data))),
    "responses": (
        "/v1/responses",
        lambda: {"input": "hi"},
        lambda data: responses.text_of(responses.final_response(data)),
    ),
}
"""How callers ask, and what a stream says."""

SILENCES: dict[str, dict[str, Any]] = {
    "stalls before its headers": {"delay": LONG},
    "stalls after its headers": {"texts": WORDS, "first_delay": LONG},
    "resets": {"fault": faults.reset_before_headers},
    "answers in HTML": {"fault": faults.html},
    "is gone": {"fault": faults.closed_before_headers},
}

SECOND = ["The ", "second ", "answers."]


class ChaosSetup:
    """The app, its lines, and the fallback of all of them."""

    def __init__(self, app: Served, found: dict[str, Line], second: OpenAIUpstream) -> None:
        self.app = app
        self.lines = found
        self.second = second


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosSetup]:
    folder = tmp_path_factory.mktemp("served")
    with ExitStack() as stack:
        found, settings = stack.enter_context(lines())
        second = stack.enter_context(OpenAIUpstream())
        second.always(ScriptedAnswer(texts=SECOND))
        rows: list[dict[str, Any]] = [
            {"name": f"safe:{name}", "provider": line.provider, "model": line.model, "ttft_timeout_ms": 300}
            for name, line in found.items()
        ]
        file = folder / "models.yaml"
        file.write_text(
            yaml.safe_dump(
                {
                    "providers": {
                        **providers_of(settings),
                        "second": {"base_url": second.base_url, "api_key": second.key},
                    },
                    "models": [
                        *({**row, "fallbacks": ["second"]} for row in rows),
                        {"name": "second", "provider": "second"},
                    ],
                }
            )
        )
        app = stack.enter_context(
            served(
                folder / "log",
                **{**settings, "MODELS_FILE": file},
                DATA_DIR=folder / "data",
                THREADS=16,
                BREAKER_FAILURES=10_000,
                FIRST_EVENT_TIMEOUT=60,
            )
        )
        for line in found.values():  # so that what is made once is there already
            line.upstream.enqueue(line.answer())
            assert post(app.port, chat_body(provider=line.provider, model=line.model))[0] == 200, line
        yield ChaosSetup(app, found, second)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_caller_who_leaves_frees_every_kind_of_upstream(
    setup: ChaosSetup, dialect: str, name: str, phase: str
) -> None:
    path, body, _ = DIALECTS[dialect]
    line, (answer, stream, heard) = setup.lines[name], PHASES[phase]
    threads, sockets, ended = setup.app.threads(), setup.app.sockets() + 1, setup.app.log().count("outcome=hung_up")
    count = len(line.upstream.received) + line.opens
    line.upstream.enqueue(line.answer(**answer))
    asked = {**body(), "provider": line.provider, "model": line.model, "stream": stream}
    caller = Caller(setup.app.port, asked, path)
    until(lambda: len(line.upstream.received) > count, "the request to arrive upstream")
    caller.hears(heard)
    left = caller.leaves()
    assert line.upstream.received[count].wait_closed(10) - left < AT_ONCE
    until(lambda: setup.app.log().count("outcome=hung_up") > ended, "the line to end")
    until(lambda: setup.app.threads() <= threads, "the threads to be as many as before")
    until(lambda: setup.app.sockets() <= sockets, "the sockets to be as many as before")


@pytest.mark.parametrize("silence", SILENCES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_next_target_answers_for_every_kind(setup: ChaosSetup, dialect: str, name: str, silence: str) -> None:
    """The promise is 50 ms beyond the deadline, or beyond the waits between retries."""
    path, body, heard = DIALECTS[dialect]
    line = setup.lines[name]
    kept = line.upstream.open_connections()
    line.upstream.always(line.answer(**SILENCES[silence]))
    began = time.monotonic()
    status, headers, stream = post(setup.app.port, {**body(), "model": f"safe:{name}", "stream": True}, path)
    took = time.monotonic() - began
    line.upstream.always(line.answer())
    assert (status, headers["x-upstream"], heard(stream)) == (200, "second/second", "".join(SECOND))
    assert took < 0.3 + AT_ONCE
    until(lambda: line.upstream.open_connections() <= kept + 1, "the upstream to be freed")
