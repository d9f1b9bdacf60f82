"""Addresses joined wrongly, misspelt paths, and the name of a provider that is not set up: answered, or told."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Served
from tests.emulators import OpenAIUpstream, ScriptedAnswer
from tests.support.frames import chat_body, completion, error, post
from tests.support.http import HI, openai_error

CHAT = "/v1/chat/completions"
BASES = ["", "/v1", "/v1/v1"]


@pytest.mark.parametrize("again", ["/chat/completions", "/v1/chat/completions"])
@pytest.mark.parametrize("base", [*BASES, "/api"])
def test_a_base_that_has_the_whole_path_already_is_answered(
    app_with: Callable[..., Any], base: str, again: str
) -> None:
    """The commonest mistake: the full address, where a client wants what stands before it."""
    client = app_with(API_ROUTE_PREFIX="/api")
    path = f"{base}/chat/completions{again}"
    completion(client.post(path, json={"messages": HI}).data)
    assert openai_error(app_with(API_KEY="a-good-key").post(f"{CHAT}{again}", json={"messages": HI}), 401)


def test_such_a_base_has_the_other_endpoints_too(app_with: Callable[..., Any]) -> None:
    client = app_with()
    assert client.get(f"{CHAT}/models").json["data"]
    assert client.post(f"{CHAT}/embeddings", json={"model": "demo", "input": "hi"}).json["data"]


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("/v1/v1/v1/chat/completions", CHAT),
        ("/v2/chat/completions", CHAT),
        ("/openai/deployments/gpt-4o/chat/completions", CHAT),
        ("/v1/chat/completion", CHAT),
        ("/v1/chat/completitions", CHAT),
        ("/v1/Chat/Completions", CHAT),
        ("/v1/chat-completions", CHAT),
        ("/chat/completion", "/chat/completions"),
        ("/v1/embeddings/embeddings", "/v1/embeddings"),
        ("/v1/embedding", "/v1/embeddings"),
        ("/v1/model", "/v1/models"),
        ("/v1/image/generations", "/v1/images/generations"),
        ("/v1/images/generations/images/generations", "/v1/images/generations"),
        ("/helth", "/health"),
    ],
)
def test_a_404_names_the_path_that_was_meant(app_with: Callable[..., Any], path: str, right: str) -> None:
    assert f"You may have meant {right} (" in openai_error(app_with().post(path, json={}), 404)["message"]


@pytest.mark.parametrize("path", ["/v1/files", "/v1/model"])
def test_a_404_names_a_page_that_is_there(app_with: Callable[..., Any], path: str) -> None:
    for pages, there in (("true", "/docs"), ("false", "/openapi.json")):
        client = app_with(PAGES=pages)
        assert f"{there} shows" in openai_error(client.post(path, json={}), 404)["message"]
        assert client.get(there).status_code == 200


@pytest.mark.parametrize("path", ["/v1/files", "/favicon.ico", "/.env", "/v1/" + "a" * 5000, "/v1/audio/speech"])
def test_a_404_guesses_nothing_where_nothing_is_like_it(app_with: Callable[..., Any], path: str) -> None:
    assert "may have meant" not in openai_error(app_with().post(path, json={}), 404)["message"]


NOTE = "The provider 'groq' before its name is not configured: it needs GROQ_API_KEY."


@pytest.mark.parametrize("stream", [False, True])
def test_a_404_names_the_provider_that_is_not_set_up(
    serve: Callable[..., Served], upstream: OpenAIUpstream, stream: bool
) -> None:
    """The model's name went to the default provider, with the prefix, and is unknown there."""
    app = serve(**upstream.settings())
    unknown = ScriptedAnswer(status=404, error={"error": {"message": "No such model.", "code": "model_not_found"}})
    upstream.always(unknown)
    upstream.always(unknown, path="/embeddings")
    for path, body in ((CHAT, chat_body(stream=stream)), ("/v1/embeddings", {"input": "hi"})):
        status, _, data = post(app.port, {**body, "model": "groq/no-such-model"}, path)
        assert (status, error(data)["code"]) == (404, "model_not_found")
        assert error(data)["message"].endswith(NOTE)
    status, _, data = post(app.port, chat_body(model="org/no-such-model"))
    assert status == 404
    assert "not configured" not in error(data)["message"]


def test_so_does_one_of_our_own(app_with: Callable[..., Any], tmp_path: Any) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("models:\n  - {name: m, provider: demo}\n")
    response = app_with(MODELS_FILE=file).post(CHAT, json={"model": "groq/llama-3", "messages": HI})
    assert openai_error(response, 404)["message"].endswith(NOTE)
