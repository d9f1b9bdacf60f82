"""Keys with models and limits in the dialects of Responses and of Anthropic: the same rules, in their own words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ALICE = "alice-has-a-long-secret"
HEADERS = {"x-api-key": ALICE}
MODELS = """
models:
  - {name: fast, provider: demo, model: demo}
  - {name: secret-project, provider: demo, model: demo}
keys:
"""
RESPONSES, MESSAGES, COUNT = "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"
Client = Callable[[str], Any]


@pytest.fixture
def client(app_with: Callable[..., Any], tmp_path: Path) -> Client:
    """client(what the key may do)."""

    def start(rules: str) -> Any:
        file = tmp_path / "models.yaml"
        file.write_text(f"{MODELS}  - {{name: alice, key: {ALICE}, {rules}}}\n")
        return app_with(MODELS_FILE=file, DATA_DIR=tmp_path)

    return start


def ask(app: Any, path: str, model: str = "fast", **more: Any) -> Any:
    body: dict[str, Any] = {"input": "hi"}
    if path != RESPONSES:
        body = {"messages": [{"role": "user", "content": "hi"}], **({} if path == COUNT else {"max_tokens": 50})}
    return app.post(path, json={"model": model, **body, **more}, headers=HEADERS)


@pytest.mark.parametrize("model", ["secret-project", "no-such-model"])
@pytest.mark.parametrize("path", [RESPONSES, MESSAGES, COUNT])
def test_a_model_that_the_key_may_not_call_is_a_403(client: Client, path: str, model: str) -> None:
    app = client("models: [fast]")
    assert ask(app, path).status_code == 200
    answer = ask(app, path, model)
    assert answer.status_code == 403
    error = answer.json["error"]
    assert error["message"] == "The key 'alice' may call these models: fast."
    if path == RESPONSES:
        assert (error["code"], error["param"]) == ("permission_denied", "model")
    else:
        assert (answer.json["type"], error["type"]) == ("error", "permission_error")
        assert error["details"] == {"error_code": "permission_denied", "param": "model"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "kind"), [(RESPONSES, "requests"), (MESSAGES, "rate_limit_error")])
def test_one_request_too_many_is_a_429(client: Client, path: str, kind: str, stream: bool) -> None:
    app = client("requests_per_minute: 1")
    first = ask(app, path, stream=stream)
    assert (first.status_code, first.headers["x-ratelimit-remaining-requests"]) == (200, "0")
    first.get_data()
    answer = ask(app, path, stream=stream)
    assert (answer.status_code, answer.json["error"]["type"]) == (429, kind)
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert answer.headers["x-ratelimit-limit-requests"] == "1"


@pytest.mark.parametrize("path", [RESPONSES, MESSAGES])
def test_tokens_count_in_every_dialect(client: Client, path: str) -> None:
    app = client("tokens_per_minute: 1000")
    ask(app, path, stream=True).get_data()
    left = int(app.get("/v1/models", headers=HEADERS).headers["x-ratelimit-remaining-tokens"])
    assert 0 < left < 1000


def test_a_response_can_be_read_cancelled_and_deleted_when_nothing_is_left(client: Client) -> None:
    app = client("models: [fast], requests_per_minute: 1")
    path = f"{RESPONSES}/{ask(app, RESPONSES).json['id']}"
    assert ask(app, RESPONSES).status_code == 429
    assert app.get(path, headers=HEADERS).status_code == 200
    assert app.post(f"{path}/cancel", headers=HEADERS).json["error"]["message"] == "It has ended already."
    assert app.delete(path, headers=HEADERS).json["deleted"] is True
    answer = app.get(path, headers=HEADERS)
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "response_not_found")
