"""What was sent to a vendor and came back is in the log at TRACE, or for one call of an admin's; never with secrets."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Served
from tests.emulators import OpenAIUpstream
from tests.support.frames import chat_body, post

Serve = Callable[..., Served]
ADMIN, CALLER = "the-long-secret-of-the-admin", "the-long-secret-of-a-caller"
KEYS = f"keys:\n  - {{name: admin, key: {ADMIN}, admin: true}}\n  - {{name: ann, key: {CALLER}}}\n"
SECRET = "sk-upstream-secret"


@pytest.fixture
def app(serve: Serve, tmp_path: Path) -> Callable[..., Served]:
    def start(upstream: OpenAIUpstream, **settings: object) -> Served:
        (tmp_path / "models.yaml").write_text(KEYS)
        return serve(**upstream.settings(MODELS_FILE=tmp_path / "models.yaml", **settings))

    return start


def ask(app: Served, text: str, key: str, *, stream: bool = False, **headers: str) -> None:
    body = chat_body(text, model="openai/gpt-4o", stream=stream)
    assert post(app.port, body, headers={"Authorization": f"Bearer {key}", **headers})[0] == 200


@pytest.mark.parametrize("stream", [False, True])
def test_one_call_of_an_admins_is_shown_whole(app: Callable[..., Served], stream: bool) -> None:
    with OpenAIUpstream(key=SECRET) as upstream:
        served = app(upstream)
        ask(served, "the words of others", ADMIN)
        ask(served, "the words of a caller", CALLER, **{"x-trace": "1"})
        ask(served, "the words in question", ADMIN, stream=stream, **{"x-trace": "1"})
        served.logged("TRACE +thinkline.wire: sent to the provider .*method=POST .*/v1/chat/completions.*in question")
        served.logged("TRACE +thinkline.wire: came back .*status=200 .*seconds=")
        log = served.log()
    assert log.count("thinkline.wire") == 2
    assert log.count("came back") == 1
    assert "choices" in log.partition("came back")[2]
    assert "the words of" not in log
    assert SECRET not in log
    assert ADMIN not in log


def test_at_trace_all_calls_are_shown(app: Callable[..., Served]) -> None:
    with OpenAIUpstream(key=SECRET) as upstream:
        served = app(upstream, LOG_LEVEL="TRACE")
        ask(served, "hello", CALLER)
        served.logged("thinkline.wire: came back")
        assert SECRET not in served.log()


def test_who_wants_no_log_gets_none(app: Callable[..., Served]) -> None:
    with OpenAIUpstream(key=SECRET) as upstream:
        served = app(upstream, LOG_LEVEL="NONE")
        ask(served, "hello", ADMIN, **{"x-trace": "1"})
        assert "thinkline.wire" not in served.log()
