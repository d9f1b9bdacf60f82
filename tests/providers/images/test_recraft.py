"""Recraft: what it is asked, and what callers get of its answers."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai.types import ImagesResponse

from core.requests import ImagesRequest
from providers.base import ParameterRules, Provider, Target
from providers.images.recraft import size_for, to_upstream
from tests.emulators import ScriptedAnswer
from tests.emulators.images.pictures import PICTURE
from tests.emulators.images.recraft import RecraftUpstream
from tests.support.http import HI, openai_error

IMAGES = "/v1/images/generations"


@pytest.fixture(scope="module")
def vendor() -> Iterator[RecraftUpstream]:
    with RecraftUpstream() as server:
        yield server


@pytest.fixture
def recraft(vendor: RecraftUpstream) -> RecraftUpstream:
    vendor.received.clear()
    return vendor


@pytest.fixture
def client(app_with: Callable[..., Any], recraft: RecraftUpstream) -> Any:
    return app_with(RECRAFT_API_KEY=recraft.key, RECRAFT_BASE_URL=recraft.base_url, RETRIES=0)


def request_images(client: Any, **body: Any) -> dict[str, Any]:
    """A good answer, as OpenAI's own types have it."""
    response = client.post(IMAGES, json={"prompt": "a lighthouse", **body})
    assert response.status_code == 200, response.data
    ImagesResponse.model_validate_json(response.data, strict=True)
    data: dict[str, Any] = response.get_json()
    assert set(data) == {"created", "data"}
    assert all(set(row) <= {"url", "b64_json", "revised_prompt"} for row in data["data"])
    return data


def upstream_body(model: str = "recraftv3", rules: ParameterRules | None = None, **body: Any) -> dict[str, Any]:
    request = ImagesRequest({"prompt": "p", **body})
    return to_upstream(request, Target(Provider(), model, rules=rules or ParameterRules()), 1)


@pytest.mark.parametrize(("size", "model", "drawn_size"), [
    ("1024x1024", "recraftv3", "1024x1024"),
    ("256x256", "recraftv3", "1024x1024"),
    ("1792x1024", "recraftv3", "1820x1024"),
    ("1024x1792", "recraftv2", "1024x1820"),
    ("1536x1024", "recraft20b", "1536x1024"),
    ("1792x1024", "recraftv4", "1344x768"),
    ("1024x1536", "recraftv4_1", "832x1280"),
    ("1024x1024", "recraftv4_1_pro", "2048x2048"),
    ("1792x1024", "recraftv4_pro_vector", "2688x1536"),
    ("16:9", "recraftv4", "16:9"),
    ("1792x1024", "recraftv9", "1792x1024"),
])  # fmt: skip
def test_sizes(size: str, model: str, drawn_size: str) -> None:
    """The nearest shape that the model draws; where we do not know its sizes, what was asked for."""
    assert size_for(size, model) == drawn_size


def test_styles() -> None:
    assert upstream_body(style="natural")["style"] == "realistic_image"
    assert upstream_body(style="vector_illustration")["style"] == "vector_illustration"
    assert "style" not in upstream_body(style="vivid")
    assert "style" not in upstream_body("recraftv4", style="natural")
    assert "style" not in upstream_body(style="natural", style_id="s")


def test_what_it_has_no_counterpart_for_stays_here() -> None:
    body = upstream_body(quality="hd", user="u", background="transparent", size="auto", moderation="low")
    assert body == {"prompt": "p", "n": 1, "model": "recraftv3", "response_format": "url"}


def test_its_own_parameters_and_the_rules() -> None:
    own = {"substyle": "grain", "negative_prompt": "fog", "controls": {"no_text": True}, "text_layout": []}
    assert own.items() <= upstream_body(**own).items()
    rules = ParameterRules(update={"style": "icon"}, rename={"negative_prompt": "not"}, delete=("n",))
    assert upstream_body(rules=rules, negative_prompt="fog", style="any") == {
        "prompt": "p", "model": "recraftv3", "response_format": "url", "style": "icon", "not": "fog",
    }  # fmt: skip


@pytest.mark.parametrize(("model", "known"), [
    ("recraftv4", "recraftv4"), ("recraft-v3", "recraftv3"), ("recraft/recraftv3", "recraftv3"),
])  # fmt: skip
def test_what_is_sent(client: Any, recraft: RecraftUpstream, model: str, known: str) -> None:
    answer = request_images(client, model=model, size="1792x1024", quality="hd", style="natural", user="u", n=2)
    (received,) = recraft.received
    assert received.json["model"] == known
    assert not received.json.keys() & {"quality", "user"}
    assert answer["created"] == 1795000000
    assert [row["url"] for row in answer["data"]] == [recraft.picture_url(0), recraft.picture_url(1)]


def test_bytes_come_from_itself(client: Any, recraft: RecraftUpstream) -> None:
    answer = request_images(client, response_format="b64_json")
    assert base64.b64decode(answer["data"][0]["b64_json"]) == PICTURE
    assert len(recraft.received) == 1


def test_bytes_are_fetched_where_addresses_came_all_the_same(client: Any, recraft: RecraftUpstream) -> None:
    recraft.enqueue(ScriptedAnswer(error={"created": 5, "data": [{"url": recraft.picture_url(3)}]}))
    answer = request_images(client, response_format="b64_json")
    assert base64.b64decode(answer["data"][0]["b64_json"]) == PICTURE
    assert recraft.received[-1].path == "/pictures/3.png?exp=1&sig=a%2Fb"


def test_more_than_six_are_asked_for_in_turn(client: Any, recraft: RecraftUpstream) -> None:
    assert len(request_images(client, n=10)["data"]) == 10
    assert [each.json["n"] for each in recraft.received] == [6, 4]


@pytest.mark.parametrize(("status", "ours", "code"), [
    (400, 400, "invalid_request_parameter"), (401, 502, "upstream_authentication"),
    (402, 502, "upstream_authentication"), (429, 429, "rate_limit_exceeded"), (500, 502, "upstream_error"),
])  # fmt: skip
def test_a_failure_has_its_true_status(
    client: Any, recraft: RecraftUpstream, status: int, ours: int, code: str | None
) -> None:
    """An upstream's failure is neither a 200 nor a bare 500."""
    recraft.enqueue(ScriptedAnswer(status=status))
    assert openai_error(client.post(IMAGES, json={"prompt": "p"}), ours)["code"] == code


def test_its_own_sentence_names_what_to_mend(client: Any, recraft: RecraftUpstream) -> None:
    details = openai_error(client.post(IMAGES, json={"prompt": "p", "style": "cubism"}), 400)
    assert "style" in details["message"]


def test_who_wants_to_chat_is_shown_the_way(client: Any, recraft: RecraftUpstream) -> None:
    response = client.post("/v1/chat/completions", json={"model": "recraft/recraftv3", "messages": HI})
    details = openai_error(response, 400)
    assert "/v1/images/generations" in details["message"]
    assert details["param"] == "model"
    assert not recraft.received
