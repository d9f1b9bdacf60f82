"""Embeddings and rerank on OCI, by the openai client's bodies, against the emulated service."""

import base64
import struct
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse

from app import create_app
from config import Settings
from tests.conftest import environment
from tests.emulators import ScriptedAnswer
from tests.emulators.oci.lists import ENDPOINT
from tests.emulators.oci.server import OCIUpstream
from tests.emulators.openai.server import PIXEL, embedding
from tests.support.http import openai_error

V3, V4, IMAGES, RERANK = (
    "cohere.embed-multilingual-v3.0",
    "cohere.embed-v4.0",
    "cohere.embed-multilingual-image-v3.0",
    "cohere.rerank-v4.0-fast",
)
PICTURE = f"data:image/png;base64,{PIXEL}"
DOCUMENTS = ["you may park outside", {"text": "we open at nine in the morning"}, "no"]


@pytest.fixture(scope="module")
def upstream() -> Iterator[OCIUpstream]:
    with OCIUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def embed(upstream: OCIUpstream) -> Callable[..., Any]:
    """embed(input, settings, **more): the response, and `upstream.received` holds what was asked for it alone."""

    @cache
    def client(settings: tuple[tuple[str, str], ...]) -> Any:
        return create_app(Settings.load(environment(**upstream.settings(RETRIES=0, **dict(settings))))).test_client()

    def ask(given: Any, settings: dict[str, str] | None = None, **more: Any) -> Any:
        asked = client(tuple((settings or {}).items()))
        upstream.received.clear()
        return asked.post("/v1/embeddings", json={"model": V3, "input": given, **more})

    return ask


def vectors(response: Any) -> list[Any]:
    assert response.status_code == 200, response.data
    body = CreateEmbeddingResponse.model_validate(response.get_json(), strict=True)
    assert [each.index for each in body.data] == list(range(len(body.data)))
    return [each.embedding for each in body.data]


def test_every_vector_in_its_place_past_the_limit(embed: Callable[..., Any], upstream: OCIUpstream) -> None:
    """All the vectors of all the batches, not the first one alone."""
    inputs = [f"text {number}" for number in range(200)]
    found = vectors(embed(inputs))
    assert found == [embedding(each) for each in inputs]
    assert [len(received.json["inputs"]) for received in upstream.received] == [96, 96, 8]


def test_what_is_sent(embed: Callable[..., Any], upstream: OCIUpstream) -> None:
    response = embed("hi", model=V4, dimensions=256, input_type="search_query", encoding_format="base64", user="u")
    (packed,) = [each["embedding"] for each in response.get_json()["data"]]
    assert list(struct.unpack("<256f", base64.b64decode(packed))) == embedding("hi", 256)
    assert response.get_json()["model"] == V4
    assert response.get_json()["usage"] == {"prompt_tokens": 1, "total_tokens": 1}
    sent = upstream.request_json()
    assert sent["servingMode"] == {"servingType": "ON_DEMAND", "modelId": V4}
    assert (sent["inputType"], sent["truncate"], sent["outputDimensions"]) == ("SEARCH_QUERY", "END", 256)


def test_the_only_length_that_vectors_have_may_be_asked_for(embed: Callable[..., Any], upstream: OCIUpstream) -> None:
    """The field is refused with any number in it."""
    assert embed("hi", dimensions=1024).status_code == 200
    assert "outputDimensions" not in upstream.request_json()


def test_documents_are_what_is_embedded_by_default(embed: Callable[..., Any], upstream: OCIUpstream) -> None:
    embed("hi", settings={"EMBED_TRUNCATE": "start"})
    assert upstream.request_json()["inputType"] == "SEARCH_DOCUMENT"
    assert upstream.request_json()["truncate"] == "START"
    embed("hi", input_type="query")
    assert upstream.request_json()["inputType"] == "SEARCH_QUERY"


def test_pictures_go_one_by_one(embed: Callable[..., Any], upstream: OCIUpstream) -> None:
    picture = {"type": "image_url", "image_url": {"url": PICTURE}}
    found = vectors(embed(["a", picture, "b", "c"], model=IMAGES))
    assert found == [embedding(each) for each in ("a", PICTURE, "b", "c")]
    sent = [(received.json["inputType"], len(received.json["inputs"])) for received in upstream.received]
    assert sent == [("SEARCH_DOCUMENT", 1), ("IMAGE", 1), ("SEARCH_DOCUMENT", 2)]
    assert vectors(embed([PICTURE, PICTURE], model=IMAGES, input_type="image")) == [embedding(PICTURE)] * 2


def test_an_endpoint_is_found_by_its_name(embed: Callable[..., Any], upstream: OCIUpstream) -> None:
    assert len(vectors(embed("hi", model="oci/reception-llama", user="u"))) == 1
    mode = upstream.request_json(-1)["servingMode"]
    assert mode == {"servingType": "DEDICATED", "endpointId": ENDPOINT}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": [[1, 2], [3]]}, "input[0]"),
        ({"input": ["a", {"type": "image_url", "image_url": "https://example.com/a.png"}]}, "input[1]"),
        ({"input": "a", "input_type": "haiku"}, "input_type"),
        ({"input": "word " * 600, "settings": {"EMBED_TRUNCATE": "NONE"}}, "input"),
        ({"input": "a", "dimensions": 7}, "dimensions"),
        ({"input": "a", "dimensions": 7, "model": V4}, "dimensions"),
    ],
    ids=["token ids", "picture to fetch", "input type", "too long", "dimensions of v3", "dimensions"],
)
def test_bad_input_names_the_field(embed: Callable[..., Any], body: dict[str, Any], param: str) -> None:
    error = openai_error(embed(body.pop("input"), body.pop("settings", None), **body), 400)
    assert error["param"] == param
    assert ("EMBED_TRUNCATE" in error["message"]) == (param == "input" and not body)


def test_failures_have_their_status(embed: Callable[..., Any], upstream: OCIUpstream) -> None:
    """An upstream's 429 is a 429, and the caller gets it soon."""
    for status, expected, code in ((429, 429, "rate_limit_exceeded"), (500, 502, "upstream_error")):
        upstream.enqueue(ScriptedAnswer(status=status), path="/actions/embedText")
        assert openai_error(embed("hi"), expected)["code"] == code
    assert openai_error(embed("hi", model="cohere.embed-v9"), 404)["code"] == "model_not_found"
    assert openai_error(embed("hi", settings={"OCI_COMPARTMENT": "ocid1.compartment.oc1..nobody"}), 404)[
        "message"
    ].count("OCI_COMPARTMENT")


def test_rerank(upstream: OCIUpstream, app_with: Callable[..., Any], tmp_path: Path) -> None:
    client = app_with(**upstream.settings(tmp_path))
    asked = {"model": RERANK, "query": "when do you open in the morning", "documents": DOCUMENTS, "top_n": 2}
    more = {"return_documents": True, "max_tokens_per_doc": 500, "colour": "blue"}
    upstream.received.clear()
    answer = client.post("/v1/rerank", json={**asked, **more}).get_json()
    assert [each["index"] for each in answer["results"]] == [1, 0]
    assert answer["results"][0]["document"] == DOCUMENTS[1]
    assert answer["model"] == RERANK
    sent = upstream.request_json()
    assert (sent["topN"], sent["maxTokensPerDocument"]) == (2, 500)
    assert sent["documents"][1] == "we open at nine in the morning"
    assert openai_error(client.post("/v1/rerank", json={**asked, "model": V4}), 400)["message"]
    wrong = client.post("/v1/rerank", json={**asked, "max_tokens_per_doc": "500"})
    assert openai_error(wrong, 400)["param"] == "max_tokens_per_doc"
