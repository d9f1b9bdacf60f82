"""What is written down: one line per request with its facts, in two formats, and no secrets."""

import base64
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from config import Settings
from core.masking import SecretMasker
from telemetry.logs import JsonFormatter, TextFormatter, readable
from tests.conftest import Served, environment, served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer
from tests.support.frames import chat_body, post
from tests.support.http import exchange, head

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (TRACE|DEBUG|INFO|WARNING|ERROR|CRITICAL) +[\w.]+: \S.*")
FORGED = "2026-01-01T00:00:00.000Z ERROR   thinkline: forged"
IMAGE = base64.b64encode(bytes(range(256)) * 40).decode()
FACTS = {
    "request_id",
    "from",
    "path",
    "model",
    "stream",
    "provider",
    "target",
    "status",
    "outcome",
    "attempts",
    "duration_ms",
    "ttft_ms",
    "prompt_tokens",
    "completion_tokens",
    "cost",
}
SANE = ["abc", "a-b_c:d.e", "0" * 128, "req_123", "6f1c7f5c-9d5e-4d3c-8f43-0f5a0b1f7d11"]
ODD = ["", " ", "a b", "x" * 129, "a/b", "<script>", "a;b", "a\tb", "é", "a=b outcome=done", '"', "{}"]


@pytest.fixture(scope="module")
def upstream_server() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream(key="sk-upstream-secret") as upstream:
        yield upstream


def settings_for(upstream: OpenAIUpstream) -> dict[str, object]:
    return upstream.settings(RETRIES=0, DEMO_PACE_MS=0)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory, upstream_server: OpenAIUpstream) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("text") / "log", **settings_for(upstream_server)) as app:
        yield app


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory, upstream_server: OpenAIUpstream) -> Iterator[Served]:
    """JSON lines, all of them."""
    settings = {"LOG_FORMAT": "json", "LOG_LEVEL": "TRACE", **settings_for(upstream_server)}
    with served(tmp_path_factory.mktemp("json") / "log", **settings) as app:
        yield app


def objects(app: Served) -> list[dict[str, Any]]:
    return [json.loads(line) for line in app.log().splitlines()]


def reports(app: Served, identifier: str) -> list[dict[str, Any]]:
    """The request lines of one request, once there is one."""

    def found() -> list[dict[str, Any]]:
        complete = app.log().rpartition("\n")[0].splitlines()
        rows = [json.loads(line) for line in complete if identifier in line]
        return [row for row in rows if row["message"] == "request" and row["request_id"] == identifier]

    until(found, f"a request line of {identifier}")
    return found()


def ask(app: Served, identifier: str, body: Any, path: str = "/v1/chat/completions") -> int:
    status, headers, _ = post(app.port, body, path, {"X-Request-Id": identifier})
    assert headers["x-request-id"] == identifier
    return status


# one line a request, with its facts


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", ["openai", "demo"])
def test_one_line_tells_all_of_a_request(lines: Served, provider: str, stream: bool) -> None:
    """Model, provider, status, first-token time, duration, tokens, attempts and outcome are in one line."""
    identifier = f"done-{provider}-{stream}"
    assert ask(lines, identifier, chat_body(provider=provider, stream=stream)) == 200
    (row,) = reports(lines, identifier)
    assert set(row) == FACTS | {"time", "level", "logger", "message"}
    assert (row["path"], row["model"], row["stream"]) == ("chat", "gpt-4o-mini", stream)
    assert (row["provider"], row["status"], row["outcome"], row["attempts"]) == (provider, 200, "done", 1)
    assert row["target"] == {"openai": "openai/gpt-4o-mini", "demo": "demo/demo"}[provider]
    assert 0 <= row["ttft_ms"] <= row["duration_ms"]
    assert row["prompt_tokens"] > 0
    assert row["completion_tokens"] > 0
    assert row["level"] == "INFO"


def test_the_line_of_an_embeddings_request(lines: Served) -> None:
    assert ask(lines, "vectors", {"model": "m", "input": ["a", "b"]}, "/v1/embeddings") == 200
    (row,) = reports(lines, "vectors")
    assert (row["path"], row["inputs"], row["outcome"], row["provider"]) == ("embeddings", 2, "done", "openai")
    assert row["prompt_tokens"] == 2


@pytest.mark.parametrize("stream", [False, True])
def test_the_line_of_a_failure(lines: Served, upstream_server: OpenAIUpstream, stream: bool) -> None:
    """What the vendor said is here, and only here."""
    error = {"error": {"message": "the disk at rack 7 is full", "type": "server_error", "param": None, "code": None}}
    upstream_server.enqueue(ScriptedAnswer(status=500, error=error))
    identifier = f"failed-{stream}"
    assert ask(lines, identifier, chat_body(stream=stream)) == 502
    (row,) = reports(lines, identifier)
    assert (row["outcome"], row["status"], row["level"]) == ("failed", 502, "WARNING")
    assert (row["code"], row["provider"]) == ("upstream_error", "openai")
    assert "rack 7" in row["said"]
    assert row["error"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", "{", 400),
        ("/v1/nothing", {}, 404),
        ("/v1/models", {}, 405),
        ("/v1/embeddings", {}, 400),
    ],
)
def test_a_refusal_has_its_line_too(lines: Served, path: str, body: Any, status: int) -> None:
    identifier = f"refused{path.replace('/', '-')}-{status}"
    assert ask(lines, identifier, body, path) == status
    until(lambda: identifier in lines.log(), "the line")
    rows = [row for row in objects(lines) if row.get("request_id") == identifier and "gunicorn" not in row["logger"]]
    assert [row["status"] for row in rows] == [status]
    assert all(row["message"] != "request" for row in rows)
    assert (rows[0]["method"], rows[0]["path"], rows[0]["from"]) == ("POST", path, "127.0.0.1")


def test_who_is_refused_is_told_of_with_what_the_proxy_says(serve: Callable[..., Served]) -> None:
    app = serve(API_KEY="a-good-key", MAX_BODY_BYTES=100)
    key = {"Authorization": "Bearer a-good-key"}
    assert post(app.port, {}, "/v1/embeddings", {"X-Forwarded-For": "203.0.113.7"})[0] == 401
    app.logged("refused .*status=401 .*method=POST path=/v1/embeddings from=127.0.0.1 forwarded_for=203.0.113.7")
    assert post(app.port, chat_body("long " * 100), headers=key)[0] == 413
    app.logged("refused .*status=413 .*method=POST path=/v1/chat/completions from=127.0.0.1")


@pytest.mark.parametrize(
    "ids",
    [
        {"session_id": "call-7"},
        {"call": {"id": "call-7"}},
        {"elevenlabs_extra_body": {"conversation_id": "call-7"}},
        {"metadata": {"session_id": "call-7"}},
        {"metadata": {"callSid": "call-7"}},
    ],
)
def test_the_line_is_found_by_the_phone_call(lines: Served, ids: dict[str, Any]) -> None:
    identifier = "call-" + re.sub("[^a-zA-Z]+", "-", json.dumps(ids)).strip("-")
    assert ask(lines, identifier, chat_body(provider="demo", **ids)) == 200
    (row,) = reports(lines, identifier)
    assert (row["call"], row["from"]) == ("call-7", "127.0.0.1")


def test_a_trusted_proxy_is_believed_about_its_caller(serve: Callable[..., Served]) -> None:
    app = serve(API_KEY="a-good-key", TRUSTED_PROXIES="127.0.0.0/8", DEMO_PACE_MS=0)
    headers = {"Authorization": "Bearer a-good-key", "X-Forwarded-For": "6.6.6.6, 203.0.113.7"}
    assert post(app.port, chat_body(), headers=headers)[0] == 200
    app.logged("request .*caller=default from=203.0.113.7 ")
    assert "6.6.6.6" not in app.log()


def test_a_breaker_that_opens_has_its_line(serve: Callable[..., Served], upstream: OpenAIUpstream) -> None:
    app = serve(**upstream.settings(RETRIES=0, BREAKER_FAILURES=2, BREAKER_SECONDS=0.01))
    upstream.always(ScriptedAnswer(status=500))
    for _ in range(2):
        post(app.port, chat_body(model="openai/gpt-4o-mini"))
    app.logged("WARNING thinkline.breaker: breaker opened .*target=openai/gpt-4o-mini")
    upstream.always(ScriptedAnswer())
    until(lambda: post(app.port, chat_body(model="openai/gpt-4o-mini"))[0] == 200, "the breaker's probe")
    app.logged("INFO    thinkline.breaker: breaker closed .*target=openai/gpt-4o-mini")
    assert app.log().count("breaker opened") == app.log().count("breaker closed") == 1


def test_every_line_is_json(lines: Served) -> None:
    """gunicorn's own too, from the first."""
    ask(lines, "before", chat_body())
    exchange(lines.port, b"GARBAGE\r\n\r\n")
    lines.logged("Invalid request")
    rows = objects(lines)
    assert all({"time", "level", "logger", "message"} <= set(row) for row in rows)
    assert any("gunicorn" in row["logger"] for row in rows)


def test_every_line_is_text(text: Served) -> None:
    post(text.port, chat_body())
    post(text.port, "{")
    exchange(text.port, b"GARBAGE\r\n\r\n")
    text.logged("outcome=done")
    text.logged("Invalid request")
    for line in text.log().splitlines():
        assert LINE.fullmatch(line), line


def test_the_text_line_has_the_same_facts(text: Served) -> None:
    post(text.port, chat_body(stream=True), headers={"X-Request-Id": "in-words"})
    line = text.logged("request request_id=in-words .*")[0]
    assert {name for name, _ in re.findall(r" (\w+)=(\S+)", line)} == FACTS
    assert " outcome=done " in line


# the request's id


@pytest.mark.parametrize("identifier", SANE)
def test_an_id_goes_in_through_and_out(lines: Served, upstream_server: OpenAIUpstream, identifier: str) -> None:
    assert ask(lines, identifier, chat_body(stream=True)) == 200
    assert upstream_server.received[-1].headers["x-request-id"] == identifier
    assert reports(lines, identifier)


@pytest.mark.parametrize("identifier", ODD)
def test_an_odd_id_is_replaced(lines: Served, upstream_server: OpenAIUpstream, identifier: str) -> None:
    status, headers, _ = post(lines.port, chat_body(), headers={"X-Request-Id": identifier})
    assert status == 200
    ours = headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", ours), ours
    assert upstream_server.received[-1].headers["x-request-id"] == ours
    assert reports(lines, ours)


def test_every_request_has_an_id_of_its_own(lines: Served) -> None:
    found = set()
    for path in ["/health", "/v1/models", "/v1/nothing", "/docs", "/v1/chat/completions"] * 3:
        request = head("Content-Length: 0", method="GET", path=path)
        found.add(exchange(lines.port, request, "GET")[1]["x-request-id"])
    assert len(found) == 15


def test_an_id_ends_with_its_request(serve: Callable[..., Served]) -> None:
    """What the same thread logs next is another's."""
    app = serve(THREADS=1, LOG_LEVEL="DEBUG")
    assert post(app.port, chat_body(), headers={"X-Request-Id": "mine"})[0] == 200
    exchange(app.port, b"GARBAGE\r\n\r\n")
    assert "mine" not in app.logged("Invalid request.*")[0]


# how much is logged


def test_prompts_are_logged_at_trace_alone(serve: Callable[..., Served]) -> None:
    """No prompt is in the log at INFO."""
    secret = "my grandmother's maiden name"
    for level in ("INFO", "DEBUG"):
        app = serve(LOG_LEVEL=level, DEMO_PACE_MS=0)
        for stream in (False, True):
            post(app.port, chat_body(secret, stream=stream))
        post(app.port, {"input": secret}, "/v1/embeddings")
        post(app.port, json.dumps(chat_body(secret))[:-1])
        post(app.port, {"messages": [{"role": secret, "content": secret}]})
        app.logged("path=embeddings .*outcome=done")
        assert secret not in app.log()


def test_bodies_at_trace_have_their_images_cut(lines: Served) -> None:
    """Bodies are in the log at TRACE, with images cut."""
    parts = [
        {"type": "text", "text": "what is on this picture?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}},
        {"type": "input_audio", "input_audio": {"data": IMAGE, "format": "wav"}},
    ]
    message = {"role": "user", "content": parts}
    assert ask(lines, "picture", {"messages": [message], "provider": "demo"}) == 200
    until(lambda: "what is on this picture?" in lines.log(), "the body")
    (row,) = [row for row in objects(lines) if row.get("request_id") == "picture" and "payload" in row]
    assert row["level"] == "TRACE"
    assert "data:image/png;base64," in row["payload"]
    assert IMAGE[64:128] not in lines.log()
    assert len(row["payload"]) < 1000


def test_nothing_is_logged_if_that_is_wanted(serve: Callable[..., Served]) -> None:
    app = serve(LOG_LEVEL="NONE", DEMO_PACE_MS=0)
    for body in (chat_body(), chat_body(stream=True), "{", {}):
        post(app.port, body)
    post(app.port, chat_body(provider="nobody"))
    exchange(app.port, b"GARBAGE\r\n\r\n")
    assert app.log() == ""


@pytest.mark.parametrize(("level", "expected"), [("WARNING", {"WARNING"}), ("CRITICAL", set())])
def test_a_level_keeps_the_rest_out(
    serve: Callable[..., Served], upstream: OpenAIUpstream, level: str, expected: set[str]
) -> None:
    upstream.enqueue(ScriptedAnswer(status=500))
    app = serve(LOG_LEVEL=level, LOG_FORMAT="json", **settings_for(upstream))
    assert post(app.port, chat_body())[0] == 502
    assert post(app.port, chat_body())[0] == 200
    assert post(app.port, "{")[0] == 400
    assert {row["level"] for row in objects(app)} == expected


# the file


def test_the_file_rotates(serve: Callable[..., Served], tmp_path: Path) -> None:
    """As many as are wanted, none larger than is wanted, and each line whole, from two workers."""
    path = tmp_path / "logs" / "thinkline.log"
    path.parent.mkdir()
    settings = {"LOG_FILE": path, "LOG_MAX_BYTES": 4000, "LOG_BACKUPS": 3, "LOG_FORMAT": "json", "WORKERS": 2}
    app = serve(DEMO_PACE_MS=0, **settings)
    for number in range(60):
        post(app.port, chat_body(model=f"number-{number:02}"))
    # While the file is turned, no file has its name.
    until(lambda: path.exists() and "number-59" in path.read_text(), "the last line")
    files = sorted(each for each in path.parent.iterdir() if each.name.startswith("thinkline.log"))
    assert [each.name for each in files] == ["thinkline.log", *(f"thinkline.log.{number}" for number in (1, 2, 3))]
    rows = [json.loads(line) for each in files for line in each.read_text().splitlines()]
    assert len({row["model"] for row in rows if row["message"] == "request"}) >= 15
    assert all(each.stat().st_size <= 4000 + max(map(len, each.read_text().splitlines())) + 1 for each in files)
    assert "number-59" in app.log(), "stderr has it all as well"
    assert "number-00" in app.log()


# nobody else's lines, nobody's secrets


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"])
def test_no_line_is_forged(text: Served, separator: str) -> None:
    """A name with a line feed in it must not begin a line, in any reader's eyes."""
    for body in (chat_body(model=f"a{separator}{FORGED}"), chat_body(provider=f"a{separator}{FORGED}")):
        post(text.port, body)
    until(lambda: text.log().count("forged") >= 2, "the lines")
    assert not [line for line in text.log().splitlines() if line.startswith("2026-01-01T00:00:00.000Z")]


def logged_request(app: Served, model: str) -> str:
    """The request line of a request for a model of that name."""
    identifier = f"name-{abs(hash(model))}"
    post(app.port, chat_body(model=model, provider="demo"), headers={"X-Request-Id": identifier})
    app.logged(f"request_id={identifier}")
    return next(line for line in app.log().split("\n") if f"request_id={identifier}" in line)


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\x00b", "a\x08b", "a\x9bb", "a\u2028b", "a\u202eb"])
def test_no_terminal_is_driven(text: Served, name: str) -> None:
    """Control characters, and what turns the reading direction, are shown and not sent."""
    assert logged_request(text, name).isprintable()


@pytest.mark.parametrize("white", [" ", "\t", "\u00a0", "\u3000"])
def test_no_fact_is_forged(text: Served, white: str) -> None:
    line = logged_request(text, f"a{white}outcome=failed")
    assert re.search(r" model=(['\"])a.*outcome=failed\1 ", line), line


def test_no_fact_is_forged_in_json(lines: Served) -> None:
    assert ask(lines, "quotes", chat_body(model='a","outcome":"failed","x":"\n{}')) == 200
    (row,) = reports(lines, "quotes")
    assert row["outcome"] == "done"


def test_a_long_name_does_not_fill_the_log(text: Served) -> None:
    """What a caller writes into one field is cut: a body may have 20 MB."""
    for body in (chat_body(model="x" * 300_000), chat_body(provider="x" * 300_000)):
        post(text.port, body, headers={"X-Request-Id": "long"})
    text.logged("request_id=long .*invalid_value")
    text.logged("request_id=long .*unknown_provider")
    assert max(map(len, text.log().splitlines())) < 30_000


def test_upstream_credentials_are_masked(lines: Served, upstream_server: OpenAIUpstream) -> None:
    """An upstream's key is masked in the log, also where the upstream's error repeats it."""
    key = upstream_server.key
    upstream_server.enqueue(
        ScriptedAnswer(status=500, error={"error": {"message": f"key {key} and Bearer abcdef123456"}})
    )
    assert ask(lines, "repeats", chat_body(f"my key is {key}, or sk-proj-abcdefghijklmnop")) == 502
    (row,) = reports(lines, "repeats")
    assert "key ***" in row["said"]
    assert not re.search("sk-upstream-secret|abcdef123456|sk-proj-abc", lines.log())


@pytest.mark.parametrize("formatter", [TextFormatter, JsonFormatter])
@pytest.mark.parametrize("start", ["Bearer ", "sk-", "sk-proj-", "gsk_", "xai-", "xai_", "pplx-", "r8_", "hf_", "hf-"])
def test_what_looks_like_a_key_is_masked(formatter: type[logging.Formatter], start: str) -> None:
    """Nobody's setting, but a caller's or a provider's, in a message and in a fact."""
    key = f"{start}abcdef123456"
    record = logging.LogRecord("thinkline", logging.INFO, "", 0, "said %s", (key,), None)
    record.facts = {"said": f"the key {key}"}
    line = formatter().format(record)
    assert "abcdef" not in line
    assert line.count("***") == 2


def test_keys_of_the_models_file_are_masked(
    serve: Callable[..., Served], upstream: OpenAIUpstream, tmp_path: Path
) -> None:
    """Also those that come with a change of the file."""
    file = tmp_path / "models.yaml"
    row = "providers: {{lab: {{base_url: '{}', api_key: {}}}}}\nmodels: [{{name: {}, provider: lab}}]\n"
    file.write_text(row.format(upstream.base_url, "plainly-secret", "first"))
    app = serve(MODELS_FILE=file)
    for name, key in (("first", "plainly-secret"), ("second", "hidden-as-well")):
        file.write_text(row.format(upstream.base_url, key, name))
        upstream.key = key
        until(lambda name=name: post(app.port, chat_body(model=name))[0] != 404, "the model to be known")
        upstream.enqueue(ScriptedAnswer(status=401, error={"error": {"message": f"Incorrect key: {key}."}}))
        assert post(app.port, chat_body(model=name))[0] == 502
        app.logged(r"Incorrect key: \*\*\*\.")
    assert not re.search("plainly-secret|hidden-as-well", app.log())


@pytest.mark.parametrize("formatter", [TextFormatter, JsonFormatter])
@pytest.mark.parametrize("secret", ["1234", "null", 'a"b\\c', "schlüssel", "...."])
def test_any_key_can_be_masked(formatter: type[logging.Formatter], secret: str) -> None:
    """A key is any text: hiding it must not break a line's form, and it is hidden however it is written."""
    record = logging.LogRecord("thinkline", logging.INFO, "", 0, "said %s", (secret,), None)
    record.facts = {"name": secret, "tokens": 1234, "seconds": 12.5, "none": None, "so": True, "list": [[[[secret]]]]}
    record.payload = {"content": f"the key is {secret}."}
    line = formatter(secrets=[secret]).format(record)
    assert f"the key is {secret}." not in line
    if formatter is JsonFormatter:
        row = orjson.loads(line)
        assert row["level"] == "INFO"
        assert secret not in row["message"]
        assert secret not in row["payload"]
        assert (row["tokens"], row["seconds"]) == (1234, 12.5)


def test_a_body_of_any_kind_is_readable() -> None:
    """Logging never fails for what it logs."""
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    for payload in (b"\xff\xfe", {"a": 2**70}, {"a": deep}, [1], "text", "x" * 100_000, None):
        assert len(readable(payload)) < 21_000


# what upstreams repeat


KEY = "plainly/secret+key-of-ours"
FORMS = {
    "as it is": KEY,
    "in a URL": "plainly%2Fsecret%2Bkey-of-ours",
    "in JSON": "plainly\\/secret+key-of-ours",
    "in base64": base64.b64encode(f"me:{KEY}".encode()).decode(),
}


@pytest.fixture(scope="module")
def repeating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenAIUpstream, Served]]:
    with OpenAIUpstream(key=KEY) as upstream:
        log = tmp_path_factory.mktemp("repeating") / "log"
        with served(
            log, VLLM_API_KEY=KEY, VLLM_BASE_URL=upstream.base_url, VLLM_MODEL="m", RETRIES=0, BREAKER_FAILURES=9999
        ) as app:
            yield upstream, app


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 429, 500, 503])
@pytest.mark.parametrize("form", FORMS)
def test_a_key_that_an_upstream_repeats_goes_no_further(
    repeating: tuple[OpenAIUpstream, Served], form: str, status: int
) -> None:
    """In any field of its error, at any status, and when it is near where a long text is cut."""
    upstream, app = repeating
    said = FORMS[form]
    for padding in ("", "model " * 80, "x" * 1990):
        details = {"message": f"{padding} model {said} is odd", "code": said, "param": f"p.{said}", "type": said}
        upstream.enqueue(ScriptedAnswer(status=status, error={"error": details}))
        found, _, body = post(app.port, chat_body())
        assert found >= 400
        assert b"secret" not in body
        assert said.encode() not in body.replace(b"\\\\", b"\\")
        assert len(body) < 2000
    assert said not in app.log()
    assert "plainly" not in app.log()


def test_a_vast_error_of_an_upstream_is_bounded(repeating: tuple[OpenAIUpstream, Served]) -> None:
    upstream, app = repeating
    details = {"message": "m" * 30_000, "code": "c" * 5000, "param": "p" * 5000}
    upstream.enqueue(ScriptedAnswer(status=400, error={"error": details}))
    found, _, body = post(app.port, chat_body())
    assert found == 400
    assert len(body) < 1500


def test_every_secret_of_the_settings_is_known() -> None:
    settings = Settings.load(
        environment(
            API_KEY="caller-key-1",
            API_KEYS="phone:caller-key-2",
            OPENAI_API_KEY="provider-key-3",
            AWS_SECRET_ACCESS_KEY="provider-key-4",
            MODEL_LIST_AUTH_TOKEN="list-key-5",
            STATE_URL="redis://:redis%2Fkey-6@127.0.0.1:6379",
        )
    )
    hidden = SecretMasker(settings.secrets)
    said = "caller-key-1 caller-key-2 provider-key-3 provider-key-4 list-key-5 redis/key-6"
    assert hidden.mask(said, 500) == " ".join(["***"] * 6)
