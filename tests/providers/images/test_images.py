"""POST /v1/images/generations: the routing, the body that the upstream receives, and the response."""

import base64
import json
import re
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError
from openai.types import ImagesResponse

from core.context import CallContext, Timeouts
from core.errors import UpstreamError
from core.requests import ImagesRequest
from dispatch.sources.model_list import ModelList
from providers.base import ParameterRules, Provider, Target
from providers.common import image_fetch as pictures
from providers.openai_compatible.request import images_to_upstream
from providers.transport.endpoint import Endpoint
from tests.conftest import Served, served, until
from tests.emulators import Connection, OpenAIUpstream, Received, ScriptedAnswer, Server, faults
from tests.emulators.images.ideogram import IdeogramUpstream, form
from tests.emulators.images.recraft import RecraftUpstream
from tests.emulators.openai.server import IMAGE_DETAILS, PIXEL
from tests.emulators.scripted import NO_SUCH_MODEL
from tests.support.frames import post
from tests.support.http import HI, head, openai_error

IMAGES = "/v1/images/generations"
PROMPT = {"prompt": "a lighthouse"}
AT_ONCE = 1.0
"""Seconds: generous, where the promise is 0.1."""


def assert_images(response: Any) -> dict[str, Any]:
    """A good answer, as OpenAI's own types have it."""
    assert response.status_code == 200, response.data
    assert response.mimetype == "application/json"
    ImagesResponse.model_validate_json(response.data, strict=True)
    data: dict[str, Any] = response.get_json()
    assert all(set(row) <= {"url", "b64_json", "revised_prompt"} for row in data["data"])
    return data


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height, after every chunk's checksum and the pixels' number were found right."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, found = 8, {}
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        found[kind] = png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + found[kind])
        at += 12 + length
    width, height = struct.unpack(">II", found[b"IHDR"][:8])
    assert len(zlib.decompress(found[b"IDAT"])) == height * (1 + (width + 7) // 8)
    assert list(found)[-1] == b"IEND"
    return width, height


@pytest.fixture
def openai(app_with: Callable[..., Any], upstream: OpenAIUpstream) -> Callable[..., Any]:
    """openai(prompt=..., ...): through the emulated api.openai.com."""
    client = app_with(**upstream.settings(), RETRIES=0)
    return lambda **body: client.post(IMAGES, json={**PROMPT, **body})


# the demo


def test_the_demo_draws_the_same_each_time_and_in_the_size_asked_for(app_with: Callable[..., Any]) -> None:
    client = app_with()
    asked = {**PROMPT, "n": 2, "size": "300x200", "response_format": "b64_json"}
    first, again = (assert_images(client.post(IMAGES, json=asked))["data"] for _ in range(2))
    assert first == again
    assert first[0] != first[1]
    assert size_of(base64.b64decode(first[0]["b64_json"])) == (300, 200)
    other = assert_images(client.post(IMAGES, json={**asked, "prompt": "a ship"}))["data"]
    assert other[0] != first[0]


def test_the_demos_address_holds_the_picture(app_with: Callable[..., Any]) -> None:
    answer = assert_images(app_with().post(IMAGES, json=PROMPT))
    (row,) = answer["data"]
    assert size_of(base64.b64decode(row["url"].removeprefix("data:image/png;base64,"))) == (256, 256)
    assert abs(answer["created"] - time.time()) < 60


@pytest.mark.parametrize("size", ["1x1", "99999x99999", "auto", "odd"])
def test_the_demo_takes_any_size(app_with: Callable[..., Any], size: str) -> None:
    assert_images(app_with().post(IMAGES, json={**PROMPT, "size": size}))


# what is taken


@pytest.mark.parametrize(("body", "param", "code"), [
    ({}, "prompt", "missing_required_parameter"),
    ({"prompt": ""}, "prompt", "invalid_value"),
    ({"prompt": ["a"]}, "prompt", "invalid_value"),
    ({"prompt": None}, "prompt", "missing_required_parameter"),
    ({**PROMPT, "n": 0}, "n", "invalid_value"),
    ({**PROMPT, "n": 11}, "n", "invalid_value"),
    ({**PROMPT, "n": "2"}, "n", "invalid_value"),
    ({**PROMPT, "size": 1024}, "size", "invalid_value"),
    ({**PROMPT, "response_format": "png"}, "response_format", "invalid_value"),
    ({**PROMPT, "stream": True}, "stream", "unsupported_value"),
    ({**PROMPT, "model": "m" * 300}, "model", "invalid_value"),
    ({**PROMPT, "provider": "nobody"}, "provider", "unknown_provider"),
    ({**PROMPT, "provider": "recraft"}, "provider", "provider_not_configured"),
])  # fmt: skip
def test_bad_input_names_the_field(app_with: Callable[..., Any], body: dict[str, Any], param: str, code: str) -> None:
    details = openai_error(app_with().post(IMAGES, json=body), 400)
    assert (details["param"], details["code"]) == (param, code)


def test_a_key_is_wanted(app_with: Callable[..., Any]) -> None:
    openai_error(app_with(API_KEY="secret").post(IMAGES, json=PROMPT), 401)


# OpenAI's shape


def test_openai_gets_what_it_publishes_and_nothing_else(openai: Callable[..., Any], upstream: OpenAIUpstream) -> None:
    """What is ours or foreign stays here, and a null is left out."""
    asked = {"model": "dall-e-3", "n": 1, "size": "1792x1024", "quality": "hd", "style": "vivid", "user": "u"}
    answer = assert_images(
        openai(**asked, provider="openai", session_id="s", brand_new=1, background=None, stream=False)
    )
    assert upstream.received[-1].json == {**PROMPT, **asked}
    assert answer["data"] == [
        {"url": "https://images.invalid/1.png", "revised_prompt": "a lighthouse, in detail"}
    ]  # fmt: skip
    assert isinstance(answer["created"], int)


def test_bytes_are_asked_of_it(openai: Callable[..., Any], upstream: OpenAIUpstream) -> None:
    answer = assert_images(openai(model="dall-e-2", n=3, response_format="b64_json"))
    assert [row["b64_json"] for row in answer["data"]] == [PIXEL] * 3
    assert upstream.received[-1].json["response_format"] == "b64_json"


def test_bytes_that_were_asked_for_are_never_an_address(openai: Callable[..., Any], upstream: OpenAIUpstream) -> None:
    """A server that knows no `response_format`: its own files are fetched, and nothing from elsewhere."""
    rows = [{"url": f"{upstream.url}/files/1.png"}]
    upstream.enqueue(ScriptedAnswer(error={"data": rows}), path="/images/generations")
    openai_error(openai(model="flux", response_format="b64_json"), 502)  # the emulated one has no such file
    assert upstream.received[-1].path == "/files/1.png"
    assert "authorization" not in upstream.received[-1].headers
    upstream.enqueue(ScriptedAnswer(error={"data": [{"url": "https://x.example/1"}]}), path="/images/generations")
    assert "response_format" in openai_error(openai(model="flux", response_format="b64_json"), 502)["message"]


@pytest.mark.parametrize("model", ["gpt-image-1", "gpt-image-2.5-flare", "openai/gpt-image-1.5"])
def test_gpt_image_gets_no_format_and_no_style_and_its_usage_passes(
    openai: Callable[..., Any], upstream: OpenAIUpstream, model: str
) -> None:
    answer = assert_images(
        openai(model=model, response_format="url", style="vivid", quality="low", background="opaque")
    )
    assert upstream.received[-1].json == {
        **PROMPT, "model": model.removeprefix("openai/"), "quality": "low", "background": "opaque",
    }  # fmt: skip
    assert answer["data"] == [{"b64_json": PIXEL}]
    assert {key: answer[key] for key in IMAGE_DETAILS} == IMAGE_DETAILS


@pytest.mark.parametrize(("settings", "model", "dropped"), [
    ("OPENAI", "dall-e-3", ["brand_new"]),
    ("OPENAI", "gpt-image-1", ["brand_new", "response_format", "style"]),
    ("IDEOGRAM", "V_2", ["brand_new", "quality", "user"]),
    ("IDEOGRAM", "V_3", ["brand_new", "user"]),
    ("RECRAFT", "recraftv3", ["brand_new", "quality", "user"]),
])  # fmt: skip
def test_what_has_no_counterpart_is_named_in_one_line(
    app_with: Callable[..., Any], capfd: pytest.CaptureFixture[str], settings: str, model: str, dropped: list[str]
) -> None:
    """The log names them, although no vendor answers here."""
    address = {f"{settings}_API_KEY": "k", f"{settings}_BASE_URL": "http://127.0.0.1:9"}
    client = app_with(LOG_LEVEL="DEBUG", RETRIES=0, **address)
    known = {"quality": "hd", "user": "u", "n": 1, "response_format": "url", "style": "vivid", "size": "1024x1024"}
    client.post(IMAGES, json={**PROMPT, **known, "model": model, "brand_new": 1})
    (line,) = re.findall(r"not sent on .*", capfd.readouterr().err)
    assert str(dropped) in line


def test_who_names_no_model_leaves_it_to_openai(openai: Callable[..., Any], upstream: OpenAIUpstream) -> None:
    """Its default model of ours is one that chats."""
    assert_images(openai())
    assert upstream.received[-1].json == PROMPT


def test_others_of_its_shape_get_the_body_as_it_came() -> None:
    request = ImagesRequest({**PROMPT, "model": "flux", "steps": 4, "seed": 7}, model="flux")
    rules = ParameterRules(rename={"steps": "num_steps"}, add={"n": 2})
    target = Target(Provider(), "black-forest/flux", rules=rules)
    assert images_to_upstream(request, target, strict=False) == {
        **PROMPT, "model": "black-forest/flux", "num_steps": 4, "seed": 7, "n": 2,
    }  # fmt: skip


@pytest.mark.parametrize(("answer", "status", "code"), [
    (ScriptedAnswer(status=400), 400, "invalid_value"),
    (ScriptedAnswer(status=401), 502, "upstream_authentication"),
    (ScriptedAnswer(status=429, headers={"Retry-After": "3"}), 429, "rate_limit_exceeded"),
    (ScriptedAnswer(status=500), 502, "upstream_error"),
    (ScriptedAnswer(fault=faults.html), 502, "upstream_error"),
    (ScriptedAnswer(fault=faults.cut), 502, "upstream_error"),
    (ScriptedAnswer(error={"error": {"message": "no"}}), 502, "upstream_error"),
])  # fmt: skip
def test_a_failure_has_its_true_status(
    openai: Callable[..., Any], upstream: OpenAIUpstream, answer: ScriptedAnswer, status: int, code: str
) -> None:
    """An upstream's failure is neither a 200 nor a bare 500."""
    upstream.enqueue(answer, path="/images/generations")
    details = openai_error(openai(model="gpt-image-1"), status)
    assert details["code"] == code
    assert upstream.key not in details["message"]


def test_its_own_refusals_are_the_callers(openai: Callable[..., Any]) -> None:
    assert openai_error(openai(model="dall-e-3", n=2), 400)["param"] == "n"
    assert openai_error(openai(model=NO_SUCH_MODEL), 404)["code"] == "model_not_found"


@pytest.mark.parametrize("odd", [
    {}, [], 1, {"data": None}, {"data": []}, {"data": [{}]}, {"data": [{"url": 1}]}, {"data": [1]},
    {"data": [{"url": "https://x.example/1"}], "usage": {"input_tokens": 1}},
    {"data": [{"url": "https://x.example/1"}], "usage": 5},
])  # fmt: skip
def test_an_odd_answer_is_the_upstreams_fault(openai: Callable[..., Any], upstream: OpenAIUpstream, odd: Any) -> None:
    upstream.enqueue(ScriptedAnswer(error=odd), path="/images/generations")
    openai_error(openai(model="dall-e-2"), 502)


@pytest.mark.parametrize("created", [None, "soon", "2026-11-20T10:30:00Z", -1, 1e300, 1795170600.5])
def test_created_is_a_time_whatever_came(openai: Callable[..., Any], upstream: OpenAIUpstream, created: Any) -> None:
    rows = [{"url": "https://x.example/1", "id": "foreign"}]
    upstream.enqueue(ScriptedAnswer(error={"created": created, "data": rows, "credits": 5}), path="/images/generations")
    answer = assert_images(openai(model="dall-e-2"))
    assert set(answer) == {"created", "data"}
    assert abs(answer["created"] - time.time()) < 60 or answer["created"] == 1795170600


# who draws


def test_a_vendor_of_pictures_does_not_answer_the_phone(app_with: Callable[..., Any]) -> None:
    """Its key alone makes it no default for chat, but it is the one for pictures."""
    with IdeogramUpstream() as ideogram:
        settings = {"IDEOGRAM_API_KEY": ideogram.key, "IDEOGRAM_BASE_URL": ideogram.url}
        client = app_with(**settings)
        assert client.post("/v1/chat/completions", json={"messages": HI}).get_json()["model"] == "demo"
        assert assert_images(client.post(IMAGES, json=PROMPT))["data"][0]["url"] == ideogram.picture_url(0)
        assert assert_images(client.post(IMAGES, json={**PROMPT, "provider": "demo"}))["data"][0]["url"].startswith(
            "data:"
        )
        assert {"demo", "ideogram/V_3"} <= {row["id"] for row in client.get("/v1/models").get_json()["data"]}
        chosen = app_with(PROVIDER_NAME="ideogram", **settings)
        response = chosen.post("/v1/chat/completions", json={"model": "gpt-4o-mini", "messages": HI, "stream": True})
        assert IMAGES in openai_error(response, 400)["message"]
        assert len(ideogram.received) == 1


def test_who_makes_no_pictures_says_so() -> None:
    """A provider that overrides nothing."""
    provider = Provider()
    provider.name = "talker"
    with pytest.raises(Exception, match="talker makes no pictures"):
        provider.images(ImagesRequest(PROMPT), Target(provider, "m"), CallContext())


def test_models_yaml_names_pictures_too(app_with: Callable[..., Any], tmp_path: Path) -> None:
    with IdeogramUpstream() as ideogram:
        file = tmp_path / "models.yaml"
        file.write_text(f"""
providers:
  painter: {{kind: ideogram, base_url: "{ideogram.url}", api_key: "{ideogram.key}"}}
models:
  - {{name: poster, provider: painter, model: V_2, params: {{add: {{negative_prompt: fog}}}}}}
""")
        assert_images(app_with(MODELS_FILE=file).post(IMAGES, json={**PROMPT, "model": "poster"}))
        (received,) = ideogram.received
        assert received.json["image_request"]["negative_prompt"] == "fog"
        assert received.headers["Api-Key"] == ideogram.key


def test_a_picture_may_take_longer_than_an_answer(app_with: Callable[..., Any]) -> None:
    """Twelve times FIRST_EVENT_TIMEOUT, where other whole answers have four."""
    with IdeogramUpstream() as ideogram:
        ideogram.always(ScriptedAnswer(delay=0.5))
        settings = {"IDEOGRAM_API_KEY": ideogram.key, "IDEOGRAM_BASE_URL": ideogram.url, "RETRIES": 0}
        assert_images(app_with(FIRST_EVENT_TIMEOUT=0.1, HEARTBEAT=0.02, **settings).post(IMAGES, json=PROMPT))


# a list of models


LIST = {
    "dall-e-3": "/openai/v1/images/generations",
    "gpt-4o": "/openai/v1/chat/completions",
    "V_2": "/raw/ideogram/generate",
    "V_3": "/ideogram/v1/ideogram-v3/generate",
    "V_3_TURBO": "/v1/ideogram-v3/generate",
    "recraftv3": "/recraft/v1/images/generations",
}
"""Models and handles of a list by HTTP."""
TOKEN = "y0_token"


def list_host(connection: Connection, received: Received) -> None:
    """A host with a list and with all that it leads to, each at its whole path and for the list's own token."""
    assert received.headers["Authorization"] == f"OAuth {TOKEN}"
    ideogram, recraft = IdeogramUpstream(), RecraftUpstream()
    ideogram.picture_host = recraft.picture_host = "https://images.example"
    ideogram.legacy_path, recraft.path = LIST["V_2"], LIST["recraftv3"]
    ideogram.v3_path = received.path if "ideogram-v3" in received.path else ""
    if received.path == "/models":
        answer: Any = {"models": [{"model_version": name, "handle": path} for name, path in LIST.items()]}
    elif received.path == LIST["dall-e-3"]:
        answer = {"created": 5, "data": [{"url": "https://images.example/1.png"}]}
    else:
        answer = (ideogram if "ideogram" in received.path else recraft).images_body(received)
    body = json.dumps(answer).encode()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def test_a_list_of_models_leads_to_pictures(
    app_with: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list's host and token, the handle's path, the dialect that it names."""
    monkeypatch.setattr(ModelList, "start", ModelList.refresh_once)  # at once, and without a thread that stays
    with Server(list_host) as host:
        client = app_with(MODEL_LIST_URL=f"{host.url}/models", MODEL_LIST_AUTH_TOKEN=TOKEN, DATA_DIR=tmp_path)
        assert {row["id"] for row in client.get("/v1/models").get_json()["data"]} >= set(LIST)
        seen = {}
        for model in ("dall-e-3", "V_2", "V_3", "V_3_TURBO", "recraftv3"):
            assert_images(
                client.post(IMAGES, json={**PROMPT, "model": model, "size": "1024x1024", "quality": "standard"})
            )
            seen[model] = host.received[-1]
            assert seen[model].path == LIST[model]
        assert seen["dall-e-3"].json == {**PROMPT, "model": "dall-e-3", "size": "1024x1024", "quality": "standard"}
        assert seen["V_2"].json["image_request"]["resolution"] == "RESOLUTION_1024_1024"
        assert form(seen["V_3"])["rendering_speed"] == form(seen["V_3_TURBO"])["rendering_speed"] == "DEFAULT"
        assert "quality" not in seen["recraftv3"].json

        count = len(host.received)
        for model in ("dall-e-3", "V_2", "recraftv3"):
            details = openai_error(client.post("/v1/chat/completions", json={"model": model, "messages": HI}), 400)
            assert IMAGES in details["message"]
        openai_error(client.post(IMAGES, json={**PROMPT, "model": "gpt-4o"}), 400)
        assert len(host.received) == count


# which addresses are fetched


OWN = "http://127.0.0.1:9000"


@pytest.mark.parametrize(("url", "peer", "path"), [
    ("https://ideogram.ai/a.png", ("ideogram.ai", 443, True), "/a.png"),
    ("https://Images.Ideogram.ai:443/a?b=c#d", ("images.ideogram.ai", 443, True), "/a?b=c"),
    ("https://ideogram.ai", ("ideogram.ai", 443, True), "/"),
    ("http://127.0.0.1:9000/a", ("127.0.0.1", 9000, False), "/a"),
])  # fmt: skip
def test_the_vendors_own_addresses_are_fetched(
    monkeypatch: pytest.MonkeyPatch, url: str, peer: tuple[str, int, bool], path: str
) -> None:
    sent = []

    def send(account: Endpoint, method: str, where: str, *_: Any) -> Any:
        sent.append(((account.peer.host, account.peer.port, account.peer.secure), method, where))
        assert b"Api-Key" not in account.request("GET", where, {}, b"")
        raise UpstreamError("enough")

    monkeypatch.setattr(pictures, "send", send)
    gallery = pictures.ImageFetcher("ideogram", OWN, ("ideogram.ai",))
    with pytest.raises(UpstreamError, match="cannot be fetched"):
        list(gallery.fetch(url, CallContext(), Timeouts()))
    assert sent == [(peer, "GET", path)]


@pytest.mark.parametrize("url", [
    "http://ideogram.ai/a", "https://ideogram.ai:8443/a", "https://notideogram.ai/a", "https://ideogram.ai.evil.example/",
    "https://evil.example/ideogram.ai", "https://evil.example#.ideogram.ai", "https://evil.example?.ideogram.ai",
    "https://evil.example\\.ideogram.ai/", "https://ideogram.ai@evil.example/", "https://evil.example/@ideogram.ai",
    "https://169.254.169.254/latest", "http://127.0.0.1:9001/a", "https://127.0.0.1:9000/a", "http://localhost:9000/a",
    "file:///etc/passwd", "//ideogram.ai/a", "https://ideogram.ai/a\r\nX: y", "https://ideogram.ai/a b", "", "a",
    "https://ideogram.ai:/a", "https://ideogram.ai:99999/a", "https://[::1]/a", "ftp://ideogram.ai/a",
])  # fmt: skip
def test_no_other_address_is_fetched(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Nothing leaves for a host that is not the vendor's, however it is spelt."""
    monkeypatch.setattr(pictures, "send", lambda *_: pytest.fail("was sent"))
    gallery = pictures.ImageFetcher("ideogram", OWN, ("ideogram.ai",))
    with pytest.raises(UpstreamError):
        list(gallery.fetch(url, CallContext(), Timeouts()))


# over real connections


@pytest.fixture(scope="module")
def upstream_and_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[IdeogramUpstream, Served]]:
    """A vendor of pictures, and OpenAI, behind the app under gunicorn."""
    log = tmp_path_factory.mktemp("served") / "log"
    with IdeogramUpstream() as ideogram, OpenAIUpstream() as openai:
        settings = openai.settings(RETRIES=0, HEARTBEAT=0.05)
        settings |= {"IDEOGRAM_API_KEY": ideogram.key, "IDEOGRAM_BASE_URL": ideogram.url}
        with served(log, FIRST_EVENT_TIMEOUT=5, THREADS=8, **settings) as app:
            yield ideogram, app


def test_as_the_openai_package_asks_and_reads(upstream_and_app: tuple[IdeogramUpstream, Served]) -> None:
    _, app = upstream_and_app
    with app.client() as client:
        answer = client.images.generate(model="gpt-image-1", prompt="a lighthouse", size="1024x1024", quality="low")
        assert answer.data
        assert answer.data[0].b64_json == PIXEL
        assert answer.usage
        assert answer.usage.output_tokens == IMAGE_DETAILS["usage"]["output_tokens"]
        answer = client.images.generate(model="ideogram/V_3", prompt="a lighthouse", n=2, response_format="b64_json")
        assert [row.b64_json for row in answer.data or ()] == [PIXEL] * 2
        with pytest.raises(BadRequestError, match="not streamed"):
            client.images.generate(model="gpt-image-1", prompt="a lighthouse", stream=True)
    app.logged("path=images model=gpt-image-1 images=1 .*prompt_tokens=11 completion_tokens=272")


@pytest.mark.parametrize("phase", ["before headers", "mid-body", "while a picture is fetched"])
def test_who_leaves_frees_the_vendor_in_every_phase(
    upstream_and_app: tuple[IdeogramUpstream, Served], phase: str
) -> None:
    """A hang-up closes the vendor's connection, before headers and while the body comes."""
    ideogram, app = upstream_and_app
    count, hung_up = len(ideogram.received), app.log().count("outcome=hung_up")
    fetching = phase == "while a picture is fetched"
    stalled = ScriptedAnswer(delay=30) if phase == "before headers" else ScriptedAnswer(fault=faults.stalled)
    if fetching:
        ideogram.file = stalled
    else:
        ideogram.enqueue(stalled)
    raw = json.dumps({**PROMPT, "provider": "ideogram", "response_format": "b64_json"}).encode()
    with socket.create_connection(("127.0.0.1", app.port), 20) as caller:
        caller.sendall(head(f"Content-Length: {len(raw)}", path=IMAGES) + raw)
        received = ideogram.wait_received(count + 1 + fetching)
    left = time.monotonic()
    assert received.wait_closed(10) - left < AT_ONCE
    until(lambda: app.log().count("outcome=hung_up") > hung_up, "the line to end")
    ideogram.file = ScriptedAnswer()
    assert post(app.port, {**PROMPT, "provider": "ideogram"}, IMAGES)[0] == 200
