"""Ideogram: what its two endpoints are asked, what callers get of that, and what is fetched from where."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import ImagesResponse
from werkzeug.formparser import parse_form_data
from werkzeug.test import create_environ

from core.requests import ImagesRequest
from providers.base import ParameterRules, Provider, Target
from providers.images.ideogram import legacy_model, legacy_to_upstream, multipart, v3_to_upstream
from tests.emulators import FAULTS, Fault, OpenAIUpstream, ScriptedAnswer, faults
from tests.emulators.connection import Headers, Received
from tests.emulators.images.ideogram import IdeogramUpstream, form
from tests.emulators.images.pictures import PICTURE
from tests.support.http import openai_error

IMAGES = "/v1/images/generations"
CREATED = 1795170600
"""Of the emulated vendor: 2026-11-20T10:30:00Z."""


@pytest.fixture(scope="module")
def vendor() -> Iterator[IdeogramUpstream]:
    with IdeogramUpstream() as server:
        yield server


@pytest.fixture
def ideogram(vendor: IdeogramUpstream) -> Iterator[IdeogramUpstream]:
    """The emulated vendor, as it is by default."""
    vendor.unsafe, vendor.picture_host, vendor.file = 0, "", ScriptedAnswer()
    vendor.received.clear()
    yield vendor
    vendor.always(ScriptedAnswer())


@pytest.fixture
def ask(app_with: Callable[..., Any], ideogram: IdeogramUpstream) -> Callable[..., Any]:
    """ask(prompt="...", ...): what comes back."""
    client = app_with(
        IDEOGRAM_API_KEY=ideogram.key,
        IDEOGRAM_BASE_URL=ideogram.url,
        RETRIES=0,
        BREAKER_FAILURES=10_000,
        FIRST_EVENT_TIMEOUT=0.1,
        IDLE_TIMEOUT=0.3,
    )
    return lambda **body: client.post(IMAGES, json={"prompt": "a lighthouse", **body})


def assert_images(response: Any) -> dict[str, Any]:
    """A good answer, as OpenAI's own types have it."""
    assert response.status_code == 200, response.data
    ImagesResponse.model_validate_json(response.data, strict=True)
    data: dict[str, Any] = response.get_json()
    assert all(set(row) <= {"url", "b64_json", "revised_prompt"} for row in data["data"])
    return data


def target(model: str, rules: ParameterRules | None = None) -> Target:
    return Target(Provider(), model, rules=rules or ParameterRules())


def v3(**body: Any) -> dict[str, Any]:
    sent = v3_to_upstream(ImagesRequest({"prompt": "p", **body}), target("V_3"), 1)
    assert (sent.pop("prompt"), sent.pop("num_images")) == ("p", 1)
    return sent


def legacy(model: str = "V_2", **body: Any) -> dict[str, Any]:
    sent = legacy_to_upstream(ImagesRequest({"prompt": "p", **body}), target(model), 1)["image_request"]
    assert (sent.pop("prompt"), sent.pop("num_images")) == ("p", 1)
    sent.pop("model", None)
    return sent


# what is sent


@pytest.mark.parametrize(("size", "new", "old"), [
    ("auto", {}, {}),
    ("1024x1024", {"resolution": "1024x1024"}, {"resolution": "RESOLUTION_1024_1024"}),
    ("256x256", {"aspect_ratio": "1x1"}, {"aspect_ratio": "ASPECT_1_1"}),
    ("1792x1024", {"aspect_ratio": "16x9"}, {"aspect_ratio": "ASPECT_16_9"}),
    ("1024x1792", {"aspect_ratio": "9x16"}, {"aspect_ratio": "ASPECT_9_16"}),
    ("1536x1024", {"aspect_ratio": "3x2"}, {"aspect_ratio": "ASPECT_3_2"}),
    ("1024x1536", {"aspect_ratio": "2x3"}, {"aspect_ratio": "ASPECT_2_3"}),
    ("16:9", {"aspect_ratio": "16x9"}, {"aspect_ratio": "ASPECT_16_9"}),
    ("1344x768", {"resolution": "1344x768"}, {"resolution": "RESOLUTION_1344_768"}),
    ("1280x720", {"aspect_ratio": "16x9"}, {"resolution": "RESOLUTION_1280_720"}),
    ("9000x10", {"aspect_ratio": "3x1"}, {"aspect_ratio": "ASPECT_3_1"}),
])  # fmt: skip
def test_sizes(size: str, new: dict[str, str], old: dict[str, str]) -> None:
    assert v3(size=size) == new
    assert legacy(size=size) == old


def test_the_first_models_have_neither_resolutions_nor_styles() -> None:
    assert legacy("V_1", size="1024x1024", style="natural") == {"aspect_ratio": "ASPECT_1_1"}


@pytest.mark.parametrize(("quality", "speed"), [
    ("low", "TURBO"), ("medium", "DEFAULT"), ("standard", "DEFAULT"), ("high", "QUALITY"), ("hd", "QUALITY"),
    ("auto", None), ("odd", None),
])  # fmt: skip
def test_quality_is_version_3s_speed(quality: str, speed: str | None) -> None:
    assert v3(quality=quality).get("rendering_speed") == speed
    assert legacy(quality=quality) == {}


@pytest.mark.parametrize(
    ("style", "kind"), [("vivid", "GENERAL"), ("natural", "REALISTIC"), ("design", "DESIGN"), ("ANIME", "ANIME")]
)
def test_styles(style: str, kind: str) -> None:
    assert v3(style=style) == legacy(style=style) == {"style_type": kind}


def test_its_own_parameters_go_first_and_openais_others_stay() -> None:
    own = {
        "aspect_ratio": "1x3",
        "seed": 7,
        "negative_prompt": "fog",
        "rendering_speed": "FLASH",
        "style_type": "FICTION",
    }
    assert v3(size="1024x1024", quality="hd", style="vivid", user="u", background="opaque", **own) == own


def test_rules_of_models_yaml_are_for_what_is_in_the_request() -> None:
    rules = ParameterRules(add={"magic_prompt_option": "OFF"}, delete=("seed",))
    request = ImagesRequest({"prompt": "p", "seed": 1})
    sent = legacy_to_upstream(request, target("V_2", rules), 2)
    assert sent == {"image_request": {"prompt": "p", "num_images": 2, "model": "V_2", "magic_prompt_option": "OFF"}}


@pytest.mark.parametrize(("name", "spelt"), [
    ("V_2", "V_2"), ("ideogram-v2", "V_2"), ("ideogram-v2a-turbo", "V_2A_TURBO"), ("v_1_turbo", "V_1_TURBO"),
    ("ideogram", ""), ("V_9_NEW", "V_9_NEW"),
])  # fmt: skip
def test_models_are_spelt_its_way(name: str, spelt: str) -> None:
    assert legacy_model(name) == spelt


@given(st.dictionaries(st.sampled_from(["prompt", "negative_prompt", "seed"]), st.text(max_size=60), min_size=1))
def test_a_form_is_read_back_as_it_was_written(fields: dict[str, str]) -> None:
    """Text in is text out, whatever stands in it."""
    body, kind = multipart(fields)
    _, found, files = parse_form_data(create_environ(method="POST", data=body, content_type=kind))
    assert found.to_dict() == fields
    assert not files


def test_a_name_cannot_add_to_a_forms_head() -> None:
    """A name may come from the rules of models.yaml."""
    odd, plain = multipart({'a"\r\nX: b': "c"})[0], multipart({"a": "c"})[0]
    assert odd.count(b"\r\n") == plain.count(b"\r\n")


def test_lists_and_objects_in_a_form() -> None:
    fields = {"style_codes": ["AA", "BB"], "color_palette": {"name": "EMBER"}, "seed": 7}
    body, kind = multipart(fields)
    found = form(Received("POST", "/", Headers([f"Content-Type: {kind}"]), body, 1, 0.0))
    assert found == {"style_codes": ["AA", "BB"], "color_palette": '{"name":"EMBER"}', "seed": "7"}


# both endpoints, over the wire


def test_version_3_is_asked_by_a_form(ask: Callable[..., Any], ideogram: IdeogramUpstream) -> None:
    answer = assert_images(
        ask(n=2, size="1792x1024", quality="hd", style="natural", user="somebody", prompt="Café 🙂\r\n--x")
    )
    (received,) = ideogram.received
    assert received.path == "/v1/ideogram-v3/generate"
    assert form(received) == {
        "prompt": "Café 🙂\r\n--x",
        "num_images": "2",
        "aspect_ratio": "16x9",
        "rendering_speed": "QUALITY",
        "style_type": "REALISTIC",
    }
    assert "authorization" not in received.headers
    assert answer["created"] == CREATED
    assert [row["url"] for row in answer["data"]] == [ideogram.picture_url(0), ideogram.picture_url(1)]
    assert answer["data"][0]["revised_prompt"].endswith(", in detail")


@pytest.mark.parametrize("model", ["V_3", "ideogram-v3", "ideogram/V_3_TURBO", "v3"])
def test_every_spelling_of_version_3_is_asked_there(
    ask: Callable[..., Any], ideogram: IdeogramUpstream, model: str
) -> None:
    assert_images(ask(model=model))
    assert ideogram.received[-1].path == "/v1/ideogram-v3/generate"


@pytest.mark.parametrize("model", ["V_2", "ideogram/V_2", "ideogram-v2-turbo", "V_1"])
def test_the_others_are_asked_as_before(ask: Callable[..., Any], ideogram: IdeogramUpstream, model: str) -> None:
    answer = assert_images(ask(model=model, size="1024x1024", style="vivid"))
    (received,) = ideogram.received
    assert received.path == "/generate"
    assert received.json["image_request"]["prompt"] == "a lighthouse"
    assert answer["created"] == CREATED


def test_more_than_eight_are_asked_for_in_turn(ask: Callable[..., Any], ideogram: IdeogramUpstream) -> None:
    assert len(assert_images(ask(n=10))["data"]) == 10
    assert [form(each)["num_images"] for each in ideogram.received] == ["8", "2"]


def test_a_size_that_is_none_is_a_400(ask: Callable[..., Any], ideogram: IdeogramUpstream) -> None:
    for size in ("large", "0x10", "1024x", "-1x5", "1024x1024x3"):
        assert openai_error(ask(size=size), 400)["param"] == "size"
    assert not ideogram.received


# bytes


def test_bytes_are_fetched_from_its_own_address_without_the_key(
    ask: Callable[..., Any], ideogram: IdeogramUpstream
) -> None:
    answer = assert_images(ask(n=2, response_format="b64_json"))
    assert [base64.b64decode(row["b64_json"]) for row in answer["data"]] == [PICTURE] * 2
    assert not any("url" in row for row in answer["data"])
    files = [each for each in ideogram.received if each.method == "GET"]
    assert [each.path for each in files] == ["/pictures/0.png?exp=1&sig=a%2Fb", "/pictures/1.png?exp=1&sig=a%2Fb"]
    assert len({each.connection for each in files}) == 1  # a connection is kept


@pytest.mark.parametrize("way", ["another port", "another host", "https elsewhere", "a name like its own", "a user"])
def test_a_picture_elsewhere_is_not_fetched(ask: Callable[..., Any], ideogram: IdeogramUpstream, way: str) -> None:
    """A server that answers for the vendor cannot send us anywhere."""
    with OpenAIUpstream() as other:
        ideogram.picture_host = {
            "another port": other.url,
            "another host": f"http://localhost:{ideogram.port}",
            "https elsewhere": f"https://127.0.0.1:{other.port}",
            "a name like its own": "https://evil-ideogram.ai",
            "a user": f"http://127.0.0.1:{ideogram.port}@127.0.0.1:{other.port}",
        }[way]
        details = openai_error(ask(response_format="b64_json"), 502)
        assert "response_format" in details["message"]
        assert not other.accepted
        assert len(ideogram.received) == 1
        assert assert_images(ask())["data"][0]["url"].startswith(ideogram.picture_host)


@pytest.mark.parametrize(
    "file",
    [
        ScriptedAnswer(fault=faults.redirect),
        ScriptedAnswer(status=403),
        ScriptedAnswer(status=500),
        ScriptedAnswer(fault=faults.cut),
        ScriptedAnswer(headers={"Content-Type": "text/html"}),
        ScriptedAnswer(fault=faults.stalled),
        ScriptedAnswer(fault=faults.empty),
        ScriptedAnswer(fault=faults.html),
    ],
    ids=lambda file: str(file.fault or file.status),
)
def test_a_picture_that_cannot_be_fetched_is_a_502_and_is_not_drawn_again(
    app_with: Callable[..., Any], ideogram: IdeogramUpstream, file: ScriptedAnswer
) -> None:
    ideogram.file = file
    client = app_with(IDEOGRAM_API_KEY=ideogram.key, IDEOGRAM_BASE_URL=ideogram.url, IDLE_TIMEOUT=0.2)
    details = openai_error(client.post(IMAGES, json={"prompt": "p", "response_format": "b64_json"}), 502)
    assert "cannot be fetched" in details["message"]
    assert len(ideogram.image_requests) == 1
    assert not any(each.path == "/elsewhere" for each in ideogram.received)


def test_a_picture_may_not_be_endless(
    ask: Callable[..., Any], ideogram: IdeogramUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("providers.common.image_fetch.PICTURE_BYTES", 20)
    openai_error(ask(response_format="b64_json"), 502)


# what is withheld


def test_what_is_not_safe_is_left_out_while_there_is_more(ask: Callable[..., Any], ideogram: IdeogramUpstream) -> None:
    ideogram.unsafe = 1
    assert len(assert_images(ask(n=3))["data"]) == 2


def test_a_prompt_that_is_not_safe_is_the_callers_400(ask: Callable[..., Any], ideogram: IdeogramUpstream) -> None:
    ideogram.unsafe = 8
    details = openai_error(ask(n=2), 400)
    assert (details["code"], details["param"]) == ("content_policy_violation", "prompt")


@pytest.mark.parametrize(("status", "ours", "code"), [
    (400, 400, None), (422, 422, "content_policy_violation"), (401, 502, "upstream_authentication"),
    (403, 502, "upstream_authentication"), (429, 429, "rate_limit_exceeded"), (500, 502, "upstream_error"),
    (503, 503, "upstream_error"),
])  # fmt: skip
def test_a_failure_has_its_true_status(
    ask: Callable[..., Any], ideogram: IdeogramUpstream, status: int, ours: int, code: str | None
) -> None:
    """An upstream's failure is neither a 200 nor a bare 500."""
    ideogram.enqueue(ScriptedAnswer(status=status, headers={"Retry-After": "7"} if status == 429 else {}))
    response = ask()
    assert openai_error(response, ours)["code"] == code
    assert response.headers.get("Retry-After") == ("7" if status == 429 else None)


def test_its_own_sentence_names_what_to_mend(ask: Callable[..., Any], ideogram: IdeogramUpstream) -> None:
    assert "style_type" in openai_error(ask(style="cubism"), 400)["message"]


@pytest.mark.parametrize("odd", [
    {"data": None}, {"data": []}, {"created": 1}, {"data": [1]}, {"data": [{}]}, [], 1,
    {"data": [{"is_image_safe": True, "prompt": "p"}]},
])  # fmt: skip
def test_an_odd_answer_is_no_picture(ask: Callable[..., Any], ideogram: IdeogramUpstream, odd: Any) -> None:
    ideogram.enqueue(ScriptedAnswer(error=odd))
    openai_error(ask(), 502)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.whole], ids=str)
def test_every_fault_has_a_status(ask: Callable[..., Any], ideogram: IdeogramUpstream, fault: Fault) -> None:
    """Every fault of an upstream, at a vendor of pictures."""
    ideogram.always(ScriptedAnswer(fault=fault))
    response = ask()
    if fault.harmless:
        assert len(assert_images(response)["data"]) == 1
    else:
        openai_error(response, 504 if fault.silent else 502)
