"""POST /v1/rerank: Cohere's and Jina's common shape, from the demo and from an OpenAI-shaped server."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.emulators.connection import Connection, Received
from tests.emulators.server import Server
from tests.support.http import openai_error

QUERY = "when do you open in the morning"
DOCUMENTS = ["our address is one high street", "we open at nine in the morning", {"text": "you may park outside"}]


def test_the_demo_puts_the_likeliest_first(app_with: Callable[..., Any]) -> None:
    asked = {"query": QUERY, "documents": DOCUMENTS, "top_n": 2, "return_documents": True}
    answer = app_with().post("/v1/rerank", json=asked).get_json()
    assert answer["results"][0]["index"] == 1
    assert answer["results"][0]["document"] == {"text": DOCUMENTS[1]}
    assert len(answer["results"]) == 2
    scores = [each["relevance_score"] for each in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert answer["model"] == "demo-rerank"


def test_a_server_with_a_rerank_path_is_asked(app_with: Callable[..., Any]) -> None:
    def handle(connection: Connection, received: Received) -> None:
        assert received.path == "/v1/rerank"
        results = [{"index": 0, "relevance_score": 0.1}, {"index": 2, "relevance_score": 0.9}]
        body = json.dumps({"model": "bge", "usage": {"total_tokens": 7}, "results": results}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.send(head.encode() + body)

    with Server(handle) as server:
        client = app_with(VLLM_BASE_URL=server.url)
        asked = {"model": "bge", "query": "q", "documents": DOCUMENTS, "max_chunks_per_doc": 3}
        answer = client.post("/v1/rerank", json=asked).get_json()
        sent = json.loads(server.wait_received(1).body)
    assert sent["documents"][2] == "you may park outside"
    assert sent["max_chunks_per_doc"] == 3
    assert [each["index"] for each in answer["results"]] == [2, 0]
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"documents": ["a"]}, "query"),
        ({"query": "q"}, "documents"),
        ({"query": "q", "documents": []}, "documents"),
        ({"query": "q", "documents": ["a", 1]}, "documents[1]"),
        ({"query": "q", "documents": ["a"], "top_n": 0}, "top_n"),
    ],
)
def test_bad_input_names_the_field(app_with: Callable[..., Any], body: dict[str, Any], param: str) -> None:
    assert openai_error(app_with().post("/v1/rerank", json=body), 400)["param"] == param
