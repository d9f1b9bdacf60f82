"""What OCI lists: pages, what is of use, dedicated endpoints by their names; and what the doctor makes of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import doctor
from config import Settings
from core.context import CallContext, Timeouts
from providers.base import Target
from providers.oci.client import Location
from providers.oci.discovery import PageRows, merge_models, on_demand
from providers.oci.provider import OCI
from tests.conftest import environment
from tests.emulators import ScriptedAnswer
from tests.emulators.oci.keys import COMPARTMENT, REGION, SECOND_COMPARTMENT, config_file, write_profile
from tests.emulators.oci.lists import ENDPOINT, IMPORTED, MODELS, OFFERED
from tests.emulators.oci.server import OCIUpstream
from tests.support.http import openai_error


@pytest.fixture(scope="module")
def upstream() -> Iterator[OCIUpstream]:
    with OCIUpstream() as server:
        yield server


@pytest.fixture(autouse=True)
def _clean(upstream: OCIUpstream) -> None:
    for path in ("/models", "/endpoints"):
        upstream.always(ScriptedAnswer(), path)
    upstream.received.clear()


@pytest.fixture
def provider(upstream: OCIUpstream, tmp_path: Path) -> OCI:
    settings = upstream.settings(tmp_path)
    return OCI(
        config_file=str(settings["OCI_CONFIG_FILE"]),
        region=settings["OCI_REGION"],
        compartment=settings["OCI_COMPARTMENT"],
        endpoint=upstream.url,
        places=[("us-chicago-1", SECOND_COMPARTMENT)],
    )


def call() -> CallContext:
    begun = CallContext()
    begun.begin(Timeouts())
    return begun


def test_every_page_and_only_what_can_be_called(
    upstream: OCIUpstream, app_with: Callable[..., Any], tmp_path: Path
) -> None:
    """Not the retired, not what can be fine-tuned only, nothing twice; endpoints that are there, by their names."""
    client = app_with(**upstream.settings(tmp_path))
    rows = client.get("/v1/models").get_json()["data"]
    names = [row["id"] for row in rows]
    assert set(names) == OFFERED | {"reception-llama", "qwen3-32b"}
    assert len(names) == len(set(names))
    owners = {row["id"]: row["owned_by"] for row in rows}
    assert owners["xai.grok-4"] == "xai"
    assert (owners["reception-llama"], owners["qwen3-32b"]) == ("meta", "oci")
    assert all(row["created"] > 1_700_000_000 for row in rows)
    asked = [received.path for received in upstream.received]
    assert len([path for path in asked if "/models?" in path]) == 3
    assert client.get("/v1/models/xai.grok-4").get_json()["id"] == "xai.grok-4"


def test_no_filter_that_a_service_may_refuse(upstream: OCIUpstream, provider: OCI) -> None:
    """A filter that the service does not know would empty the whole list."""
    provider.models(call())
    sent = {each.partition("=")[0] for r in upstream.received for each in r.path.partition("?")[2].split("&")}
    assert sent == {"compartmentId", "page"}


def test_several_compartments_are_asked_each_for_its_endpoints(upstream: OCIUpstream, provider: OCI) -> None:
    provider.models(call())
    asked = [received.path for received in upstream.received if "/endpoints?" in received.path]
    assert len(asked) == 2
    assert any(SECOND_COMPARTMENT in path for path in asked)


@pytest.mark.parametrize(
    "bad", [ScriptedAnswer(status=500), ScriptedAnswer(error={"items": [1, {"id": 2}, None]}, status=200)]
)
def test_a_bad_page_keeps_what_is_known(upstream: OCIUpstream, provider: OCI, bad: ScriptedAnswer) -> None:
    """GET /v1/models lives on."""
    upstream.enqueue(ScriptedAnswer(), bad, path="/models")
    names = {model.id for model in provider.models(call())}
    assert "meta.llama-3.3-70b-instruct" in names
    assert "reception-llama" in names
    assert names < OFFERED | {"reception-llama", "qwen3-32b"}


def test_endpoints_that_may_not_be_seen(upstream: OCIUpstream, provider: OCI) -> None:
    upstream.always(ScriptedAnswer(status=404), "/endpoints")
    assert {model.id for model in provider.models(call())} == set(OFFERED)


def test_an_endpoint_answers_to_its_name(upstream: OCIUpstream, provider: OCI) -> None:
    target = provider.directory.locate(Target(provider, "qwen3-32b"), call())
    assert target.details["endpoint"] == IMPORTED
    asked = len(upstream.received)
    for name in ("reception-llama", "nobodys-llama", "xai.grok-4", ENDPOINT):
        found = provider.directory.locate(Target(provider, name), call()).details.get("endpoint")
        assert found == (ENDPOINT if name == "reception-llama" else None)
    assert len(upstream.received) == asked, "looked up once, not for each request"
    reception = provider.directory.locate(Target(provider, "reception-llama"), call())
    assert reception.details["base"] == "meta.llama-3.3-70b-instruct"


def test_a_model_is_asked_for_where_it_is(provider: OCI) -> None:
    """A region has not the models of another; the first place that lists it is asked, unless its row says where."""
    here, there = Location("us-chicago-1", "a"), Location("us-ashburn-1", "b")
    both, one = ({"id": name, "displayName": name, "capabilities": ["CHAT"]} for name in ("meta.x", "xai.y"))
    heard = [(("models", here), PageRows([both])), (("models", there), PageRows([both, one]))]
    models, found = merge_models(heard, 0.0)
    assert [model.id for model in models] == ["meta.x", "xai.y"]
    assert (found["meta.x"].place, found["xai.y"].place) == (here, there)
    assert provider.directory.locate(Target(provider, "xai.grok-4"), call()).details["region"] == "us-chicago-1"
    row = Target(provider, "xai.grok-4", details={"region": "eu-frankfurt-1"})
    assert provider.directory.locate(row, call()) is row


def test_no_region_but_those_of_the_models(upstream: OCIUpstream, tmp_path: Path) -> None:
    """What models.yaml has is found, whatever the settings lack."""
    file = config_file(tmp_path, region="")
    provider = OCI(config_file=str(file), places=[("us-chicago-1", SECOND_COMPARTMENT)], endpoint=upstream.url)
    assert len(provider.models(call())) == len(OFFERED)


def test_what_is_of_use() -> None:
    row = {"displayName": "a.b", "capabilities": ["CHAT"], "type": "BASE", "vendor": "A"}
    now = 1_800_000_000.0
    assert [(model.id, model.owned_by) for model in on_demand([row], now)] == [("a.b", "a")]
    soon, late = "2027-01-15T08:00:01Z", "2027-01-15T07:59:59+00:00"
    assert list(on_demand([{**row, "timeOnDemandRetired": soon}], now))
    assert not list(on_demand([{**row, "timeOnDemandRetired": late}], now))
    assert not list(on_demand([{**row, "type": "CUSTOM"}], now))
    assert not list(on_demand([{**row, "capabilities": None}], now))
    assert MODELS["meta.llama-3.1-70b-instruct"].capabilities == "FINE_TUNE"


def doctor_finding(upstream: OCIUpstream, folder: Path, **changes: Any) -> doctor.Finding:
    settings = Settings.load(environment(**upstream.settings(folder, **changes)))
    return next(each for each in doctor.examine(settings, 5) if each.what == "provider oci")


def test_the_doctor_finds_nothing_wrong(upstream: OCIUpstream, tmp_path: Path) -> None:
    found = doctor_finding(upstream, tmp_path)
    assert (found.state, found.detail.partition(",")[0]) == ("ok", f"models: {len(OFFERED) + 2}")


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"OCI_CONFIG_FILE": "/nowhere/config"}, "OCI_CONFIG_FILE"),
        ({"OCI_CONFIG_PROFILE": "CHICAGO"}, "OCI_CONFIG_PROFILE"),
        ({"OCI_COMPARTMENT": "ocid1.compartment.oc1..nobody"}, "OCI_COMPARTMENT"),
        ({"AUTH_TYPE": "SESSION_TOKEN"}, "OCI_CONFIG_PROFILE"),
    ],
)
def test_the_doctor_names_the_setting(
    upstream: OCIUpstream, tmp_path: Path, changes: dict[str, str], setting: str, app_with: Callable[..., Any]
) -> None:
    """The same sentence as on a request."""
    found = doctor_finding(upstream, tmp_path, **changes)
    assert found.state == "fail"
    assert setting in found.detail
    assert setting in found.mend
    client = app_with(**upstream.settings(tmp_path, **changes))
    error = client.post("/v1/embeddings", json={"model": "cohere.embed-v4.0", "input": "hi"}).get_json()["error"]
    assert setting in error["message"]


def test_the_doctor_looks_at_each_compartment(upstream: OCIUpstream, tmp_path: Path) -> None:
    """Also at one that only models.yaml has, though the settings' own has a list."""
    file = tmp_path / "models.yaml"
    place = "provider: oci, model: xai.grok-4, compartment: ocid1.compartment.oc1..nobody"
    file.write_text(f"providers: {{oci: {{}}}}\nmodels: [{{name: far, {place}, region: {REGION}}}]\n")
    found = doctor_finding(upstream, tmp_path, MODELS_FILE=file)
    assert found.state == "fail"
    assert "OCI_COMPARTMENT" in found.mend


def test_the_doctor_says_that_an_api_key_was_not_tried(tmp_path: Path) -> None:
    settings = environment(OCI_API_KEY="sk-1", OCI_REGION=REGION, OCI_CONFIG_FILE=tmp_path / "none")
    found = next(each for each in doctor.examine(Settings.load(settings), 5) if each.what == "provider oci")
    assert "not asked: OCI_API_KEY alone lists nothing" in found.detail


def test_the_doctor_knows_what_no_list_has(upstream: OCIUpstream, tmp_path: Path) -> None:
    """An endpoint of one's own, at OCI or in Data Science, is in no list of models; a retired model is missed in it."""
    file = tmp_path / "models.yaml"
    place = f"provider: oci, endpoint: '{upstream.deployment}'"
    file.write_text(
        f"models: [{{name: mine, {place}, type: datascience}}, {{name: meta.llama-3-70b, provider: oci}}]\n"
    )
    settings = Settings.load(environment(**upstream.settings(tmp_path, MODELS_FILE=file)))
    found = {each.what: each.state for each in doctor.examine(settings, 5)}
    assert (found["model mine"], found["model meta.llama-3-70b"]) == ("ok", "warn")


def test_the_doctor_names_a_line_of_seed_001s_file(upstream: OCIUpstream, tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(
        f"- region: {REGION}\n  compartment_id: {COMPARTMENT}\n  models:\n    ondemand:\n"
        "      - name: near\n        model_id: xai.grok-4\n      - name: gone\n        model_id: meta.llama-2\n"
    )
    settings = Settings.load(environment(**upstream.settings(tmp_path, MODELS_FILE=file)))
    found = {each.what: each for each in doctor.examine(settings, 5)}
    assert found["model near"].state == "ok"
    assert found["model gone"].mend.endswith("line 7")
    assert found["models file"].detail.endswith("models 2")


def test_a_key_that_oci_does_not_know(upstream: OCIUpstream, tmp_path: Path, app_with: Callable[..., Any]) -> None:
    """Their 401 is our misconfiguration: never the caller's."""
    settings = upstream.settings(tmp_path)
    text = config_file(tmp_path).read_text()
    entries = dict(line.split("=", 1) for line in text.splitlines()[1:])
    settings["OCI_CONFIG_FILE"] = write_profile(tmp_path, "DEFAULT", {**entries, "user": "ocid1.user.oc1..nobody"})
    body = {"model": "cohere.embed-v4.0", "input": "hi"}
    error = openai_error(app_with(**settings).post("/v1/embeddings", json=body), 502)
    assert error["code"] == "upstream_authentication"
    found = next(each for each in doctor.examine(Settings.load(environment(**settings)), 5) if "oci" in each.what)
    assert found.state == "fail"
    assert "OCI_CONFIG_PROFILE" in found.mend
