"""From a model's name to the provider. No test here sends a request to a real provider."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app import build_services, create_app
from config import SettingError, Settings
from core.context import Timeouts
from core.errors import InvalidRequest
from dispatch.routing.catalogue import Catalogue
from dispatch.sources.environment import CLOUDS, LATE
from providers.transport.endpoint import Endpoint
from providers.vendors import VENDORS
from tests.conftest import ROOT, environment

KEYED = [vendor for vendor in VENDORS if not vendor.keyless and vendor.base_url]
EARLY = [kind for kind in CLOUDS if kind not in LATE]
ORDER = [VENDORS[0].name, *EARLY, *(vendor.name for vendor in VENDORS[1:]), *LATE]


def catalogue(default: str = "", **variables: object) -> Catalogue:
    return build_services(Settings.load(environment(PROVIDER_NAME=default, **variables))).catalogue


def entries(**variables: str) -> dict[str, dict[str, Any]]:
    """What is told of each provider."""
    return {row["name"]: row for row in catalogue(**variables).listing()}


def account(name: str, **variables: str) -> Endpoint:
    """Where a provider's requests would go."""
    where = catalogue(**variables)
    provider = where.provider(where.snapshot.entries[name])
    found: Endpoint = provider._account  # type: ignore[attr-defined]
    return found


def target_of(where: Catalogue, model: str = "", provider: str = "") -> tuple[str, str]:
    """Who would be asked, and for which model."""
    route = where.route(model, provider)
    assert len(route.targets) == 1
    target = route.targets[0]
    assert target.public_name == target.model
    return target.provider.name, target.model


# sources: what the environment says


def test_without_any_key_there_is_only_the_demo() -> None:
    found = entries()
    assert [name for name, row in found.items() if row["available"]] == ["demo"]
    assert list(found) == [*ORDER, "demo"]
    assert all(row["reason"] for name, row in found.items() if name != "demo")


@pytest.mark.parametrize("vendor", KEYED, ids=lambda vendor: vendor.name)
def test_a_key_is_all_a_vendor_needs(vendor: Any) -> None:
    """{NAME}_API_KEY; and a region, where the address has one."""
    name = f"{vendor.variable}_API_KEY"
    here = {"AWS_REGION": "eu-central-1"} if "{region}" in vendor.base_url else {}
    assert entries(**here)[vendor.name]["reason"] == f"Needs {name}."
    row = entries(**{name: "k"}, **here)[vendor.name]
    assert (row["available"], row["default_model"]) == (True, vendor.model)
    address = vendor.base_url.replace("{region}", "eu-central-1")
    assert account(vendor.name, **{name: "k"}, **here).base_url.startswith(address)
    assert entries(**{name: "k", f"{vendor.variable}_MODEL": "mine"}, **here)[vendor.name]["default_model"] == "mine"


def test_an_address_with_a_region_needs_one() -> None:
    assert entries(BEDROCK_OPENAI_API_KEY="k")["bedrock-openai"]["reason"] == "Needs AWS_REGION."
    variables = {"BEDROCK_OPENAI_API_KEY": "k", "AWS_DEFAULT_REGION": "us-west-2"}
    assert (
        account("bedrock-openai", **variables).base_url == "https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1"
    )


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
def test_every_address_can_be_replaced(vendor: Any) -> None:
    """Each provider has a setting for its address, spelled as the vendor's own SDK spells it."""
    address = "http://127.0.0.1:9/some"
    variables = {f"{vendor.variable}_API_KEY": "k", f"{vendor.variable}_BASE_URL": address}
    assert account(vendor.name, **variables).base_url.startswith(address)


def test_a_server_of_ones_own_needs_its_address() -> None:
    assert entries()["ollama"]["reason"] == "Needs OLLAMA_BASE_URL."
    assert entries(OLLAMA_BASE_URL="http://h:11434")["ollama"]["available"]
    assert entries()["azure"]["reason"] == "Needs AZURE_API_KEY and AZURE_BASE_URL."
    assert entries(AZURE_API_KEY="k")["azure"]["reason"] == "Needs AZURE_BASE_URL."


def test_azures_own_names_are_read_too() -> None:
    azure = {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": "https://me.openai.azure.com/"}
    assert account("azure", **azure).base_url == "https://me.openai.azure.com/openai/v1"
    ours = account("azure", **azure, AZURE_API_KEY="ours", AZURE_BASE_URL="https://other.example/v1")
    assert ours.base_url == "https://other.example/v1"
    assert b"api-key: ours\r\n" in ours.request("GET", "/models", {}, b"")


@pytest.mark.parametrize(
    ("variable", "address", "expected"),
    [
        ("OLLAMA", "http://h:11434", "http://h:11434/v1"),
        ("OLLAMA", "http://h:11434/", "http://h:11434/v1"),
        ("OLLAMA", "http://h:11434/v1/", "http://h:11434/v1"),
        ("OLLAMA", "http://h:11434/v1/chat/completions", "http://h:11434/v1"),
        ("OLLAMA", "http://h:11434/proxy", "http://h:11434/proxy"),
        ("OLLAMA", "http://[::1]:11434", "http://[::1]:11434/v1"),
        ("GEMINI", "https://gateway.example", "https://gateway.example/v1beta"),
        ("GEMINI", "https://gateway.example/proxy/v1", "https://gateway.example/proxy/v1"),
        ("GEMINI", "https://gateway.example/v1beta/chat/completions", "https://gateway.example/v1beta"),
        ("GEMINI", "https://gateway.example/v1beta/openai/", "https://gateway.example/v1beta/openai"),
        ("COHERE", "https://gateway.example", "https://gateway.example"),
        ("COHERE", "https://gateway.example/v2", "https://gateway.example"),
        ("COHERE", "https://gateway.example/compatibility/v1", "https://gateway.example/compatibility/v1"),
        ("OPENAI", "https://gateway.example/v1/chat/completions", "https://gateway.example/v1"),
        ("OPENAI", "https://gateway.example/v1/chat/completions/", "https://gateway.example/v1"),
        ("OPENAI", "https://gateway.example", "https://gateway.example"),
        (
            "AZURE",
            "https://me.azure.com/openai/v1?api-version=preview",
            "https://me.azure.com/openai/v1?api-version=preview",
        ),
    ],
)
def test_how_an_address_is_read(variable: str, address: str, expected: str) -> None:
    """An address is read as the vendor's own SDK reads it; a full URL of the endpoint is shortened."""
    found = account(variable.lower(), **{f"{variable}_API_KEY": "k", f"{variable}_BASE_URL": address})
    assert found.base_url == expected


@pytest.mark.parametrize(
    "address",
    [
        "gateway.example/v1",
        "ftp://gateway.example/v1",
        "http://",
        "http:///v1",
        "https://:443/v1",
        "http://gateway.example:port/v1",
        "http://gateway.example:99999/v1",
        "http://gateway.example:0x50/v1",
        "http://[::1/v1",
        "http://a b/v1",
        "http://gäteway.example/v1",
        "file:///etc/passwd",
        "http://gateway.example/v1\r\nX-Evil: 1",
    ],
)
def test_an_address_that_cannot_be_used_stops_the_start(address: str) -> None:
    """Not the first call, hours later, by a 500."""
    with pytest.raises(SettingError) as caught:
        create_app(Settings.load(environment(OPENAI_API_KEY="k", OPENAI_BASE_URL=address)))
    assert "OPENAI_BASE_URL" in str(caught.value)


@pytest.mark.parametrize("key", ["a b", "k\u00fcy", "k\r\nX-Evil: 1", "\x7fkey"])
def test_a_key_that_cannot_be_sent_stops_the_start(key: str) -> None:
    with pytest.raises(SettingError, match="OPENAI_API_KEY is \\(not shown\\)"):
        create_app(Settings.load(environment(OPENAI_API_KEY=key)))


# the default


def test_the_default_is_the_first_with_credentials() -> None:
    """OpenAI, then the table's order, then the demo."""
    assert catalogue().default == "demo"
    assert catalogue(GROQ_API_KEY="k", DEEPSEEK_API_KEY="k").default == "deepseek"
    assert catalogue(GROQ_API_KEY="k", OPENAI_API_KEY="k").default == "openai"
    assert catalogue(LMSTUDIO_BASE_URL="http://h").default == "lmstudio"
    keys = {"AWS_REGION": "us-east-1", **{f"{vendor.variable}_API_KEY": "k" for vendor in KEYED}}
    for vendor in KEYED:
        assert catalogue(**keys).default == ("demo" if vendor.task else vendor.name)  # pictures do not chat
        del keys[f"{vendor.variable}_API_KEY"]


def test_provider_name_beats_the_order() -> None:
    """PROVIDER_NAME chooses the default; an empty one counts as unset."""
    keys = {"OPENAI_API_KEY": "k", "GROQ_API_KEY": "k"}
    assert catalogue("groq", **keys).default == "groq"
    assert catalogue("demo", **keys).default == "demo"
    assert catalogue("", **keys).default == "openai"
    assert target_of(catalogue("groq", **keys), "gpt-4o-mini") == ("groq", "gpt-4o-mini")


@pytest.mark.parametrize(
    ("name", "message"), [("nobody", "known are openai, "), ("OpenAI", "openai"), ("openai", "OPENAI_API_KEY")]
)
def test_a_wrong_provider_name_says_what_is_wrong(name: str, message: str) -> None:
    with pytest.raises(SettingError, match="PROVIDER_NAME") as caught:
        catalogue(name, GROQ_API_KEY="k")
    assert message in str(caught.value)
    assert repr(name) in str(caught.value)


# the order in which a name is looked up

TWO = {"OPENAI_API_KEY": "k", "GROQ_API_KEY": "k"}


@pytest.mark.parametrize(
    ("model", "provider", "expected"),
    [
        # the body's provider beats all
        ("m", "groq", ("groq", "m")),
        ("openai/gpt-oss-20b", "groq", ("groq", "openai/gpt-oss-20b")),
        ("groq/m", "groq", ("groq", "m")),
        ("groq/groq/m", "groq", ("groq", "groq/m")),
        ("", "groq", ("groq", "llama-3.3-70b-versatile")),
        ("anything", "demo", ("demo", "demo")),
        # a known and configured prefix
        ("groq/m", "", ("groq", "m")),
        ("groq/meta-llama/llama-4", "", ("groq", "meta-llama/llama-4")),
        ("openai/gpt-4o", "", ("openai", "gpt-4o")),
        ("demo/x", "", ("demo", "demo")),
        # other slashes are a part of the name
        ("deepseek/deepseek-chat", "", ("openai", "deepseek/deepseek-chat")),
        ("accounts/fireworks/models/x", "", ("openai", "accounts/fireworks/models/x")),
        ("Groq/m", "", ("openai", "Groq/m")),
        ("nobody/m", "", ("openai", "nobody/m")),
        ("groq/", "", ("openai", "groq/")),
        ("/groq/m", "", ("openai", "/groq/m")),
        ("groq", "", ("openai", "groq")),
        ("/", "", ("openai", "/")),
        # the default
        ("m", "", ("openai", "m")),
        ("", "", ("openai", "gpt-4o-mini")),
    ],
)
def test_who_is_asked_for_what(model: str, provider: str, expected: tuple[str, str]) -> None:
    """A body's provider, then a known prefix, then the default."""
    assert target_of(catalogue(**TWO), model, provider) == expected


def test_a_prefix_counts_once_its_provider_is_configured() -> None:
    """`accounts/fireworks/models/x` at Fireworks itself is an id, `fireworks/...` elsewhere is a prefix."""
    model = "accounts/fireworks/models/x"
    fireworks = catalogue(FIREWORKS_API_KEY="k")
    assert target_of(fireworks, model) == ("fireworks", model)
    assert target_of(fireworks, f"fireworks/{model}") == ("fireworks", model)
    assert target_of(catalogue(OPENAI_API_KEY="k"), f"fireworks/{model}") == ("openai", f"fireworks/{model}")


def test_the_demo_answers_to_every_name() -> None:
    """As single-model providers do; a voice platform's default is `gpt-4o-mini`."""
    for model in ("", "demo", "gpt-4o-mini", "openai/gpt-4o", "a/b/c", "x" * 1000):
        assert target_of(catalogue(), model) == ("demo", "demo")


def test_a_default_model_can_be_replaced() -> None:
    assert target_of(catalogue(OPENAI_API_KEY="k", OPENAI_MODEL="mine")) == ("openai", "mine")
    assert target_of(catalogue(VLLM_BASE_URL="http://h", VLLM_MODEL="mine")) == ("vllm", "mine")


def test_who_has_no_default_model_says_what_to_set() -> None:
    with pytest.raises(InvalidRequest, match="VLLM_MODEL") as caught:
        catalogue(VLLM_BASE_URL="http://h").route("")
    assert (caught.value.status, caught.value.param) == (400, "model")
    assert target_of(catalogue(VLLM_BASE_URL="http://h"), "named") == ("vllm", "named")


@pytest.mark.parametrize("name", ["nobody", "OpenAI", "openai ", "../openai", "x" * 5000])
def test_an_unknown_provider_is_told_the_known(name: str) -> None:
    """The error lists the known providers, or names the missing setting."""
    with pytest.raises(InvalidRequest) as caught:
        catalogue(**TWO).route("m", name)
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "unknown_provider", "provider")
    assert all(known in error.message for known in [*ORDER, "demo"])
    assert len(error.message) < 500


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.name)
def test_an_unconfigured_provider_names_its_setting(vendor: Any) -> None:
    """The error lists the known providers, or names the missing setting."""
    with pytest.raises(InvalidRequest) as caught:
        catalogue().route("m", vendor.name)
    error = caught.value
    assert (error.status, error.code, error.param) == (400, "provider_not_configured", "provider")
    assert vendor.variable in error.message


def test_a_route_carries_the_settings_time_outs() -> None:
    """The time-outs of the settings reach the target."""
    names = ("CONNECT_TIMEOUT", "FIRST_EVENT_TIMEOUT", "IDLE_TIMEOUT", "TOTAL_TIMEOUT")
    where = catalogue(OPENAI_API_KEY="k", **dict(zip(names, range(1, 5), strict=True)))
    assert where.route("m").targets[0].timeouts == Timeouts(1, 2, 3, 4)


def test_a_provider_is_built_once() -> None:
    """A client for each request would connect anew each time."""
    where = catalogue(**TWO)
    first, again, other = (where.route(model).targets[0].provider for model in ("a", "b", "groq/a"))
    assert first is again
    assert first is not other


# what is shown of it


def test_the_providers_are_listed(app_with: Callable[..., Any]) -> None:
    """All of them; what is missing is named, and nothing secret is shown."""
    client = app_with(GROQ_API_KEY="gsk_very_secret_key", GROQ_MODEL="mine", GROQ_BASE_URL="http://h/v1")
    data = client.get("/v1/providers").get_json()
    rows = {row["name"]: row for row in data["providers"]}
    assert data["default"] == "groq"
    assert list(rows) == [*ORDER, "demo"]
    assert rows["groq"] == {"name": "groq", "available": True, "default_model": "mine"}
    assert rows["demo"]["available"] is True
    assert rows["openai"]["available"] is False
    assert "OPENAI_API_KEY" in rows["openai"]["reason"]
    assert "secret" not in client.get("/v1/providers").get_data(as_text=True)


def test_the_wiring_shows_no_secret() -> None:
    """What an exception's message or a debugger's line may repeat."""
    services = build_services(Settings.load(environment(OPENAI_API_KEY="very-secret", API_KEY="very-secret")))
    target = services.catalogue.route("m").targets[0]
    assert "very-secret" not in f"{services!r} {vars(services.catalogue)!r} {target!r}"


# nothing is loaded before it is used


def modules_after(code: str, **settings: object) -> list[str]:
    """The providers' modules that a fresh Python has loaded after some code."""
    program = (
        "import sys\nfrom app import create_app\napp = create_app()\n"
        f"{code}\nprint(*[name for name in sys.modules if name.startswith('providers.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment(DEMO_PACE_MS=0, **settings),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.thorough
def test_no_provider_is_loaded_before_it_is_used() -> None:
    """Clients are built at their first use, so a start stays quick, however many providers there are."""
    chat = "app.test_client().post('/v1/chat/completions', json={'messages': [{'role': 'user', 'content': 'hi'}]})"
    kinds = {"providers.demo.provider", "providers.openai_compatible.provider", "providers.transport.client"}
    assert not kinds & set(modules_after("", OPENAI_API_KEY="k"))
    assert not kinds & set(modules_after("app.test_client().get('/v1/providers')", OPENAI_API_KEY="k"))
    assert kinds & set(modules_after(chat)) == {"providers.demo.provider"}


# MODEL_ALIASES


def test_other_names_without_a_file(app_with: Callable[..., Any]) -> None:
    aliases = "gpt-4o-mini=groq/llama-3.3-70b-versatile,gpt-4o=meta.llama-3.3-70b-instruct,fast=gpt-4.1,d=demo/x"
    where = catalogue("openai", MODEL_ALIASES=aliases, OPENAI_API_KEY="k", GROQ_API_KEY="k", OCI_REGION="r-1")
    found = {name: where.route(name).targets[0] for name in ("gpt-4o-mini", "gpt-4o", "fast", "d")}
    assert {name: (each.provider.name, each.model) for name, each in found.items()} == {
        "gpt-4o-mini": ("groq", "llama-3.3-70b-versatile"),
        "gpt-4o": ("oci", "meta.llama-3.3-70b-instruct"),
        "fast": ("openai", "gpt-4.1"),
        "d": ("demo", "x"),
    }
    assert found["gpt-4o-mini"].public_name == "gpt-4o-mini"
    assert target_of(where, "gpt-4.1") == ("openai", "gpt-4.1"), "other names are as they were"
    client = app_with(MODEL_ALIASES="mine=demo/x")
    assert "mine" in [each["id"] for each in client.get("/v1/models").get_json()["data"]]
    answer = client.post(
        "/v1/chat/completions", json={"model": "mine", "messages": [{"role": "user", "content": "hi"}]}
    )
    assert answer.get_json()["model"] == "mine"


def test_another_name_for_what_is_not_configured_says_what_it_needs() -> None:
    where = catalogue(MODEL_ALIASES="gpt-4o-mini=groq/llama", OPENAI_API_KEY="k")
    with pytest.raises(InvalidRequest, match="it needs GROQ_API_KEY"):
        where.route("gpt-4o-mini")


def test_the_file_goes_before_other_names_and_may_be_meant_by_them(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(
        "providers: {lab: {base_url: 'http://lab/v1'}}\n"
        "models: [{name: a, provider: lab, model: its-a}, {name: b, provider: lab}]\n"
    )
    where = catalogue(MODELS_FILE=file, MODEL_ALIASES="b=openai/gpt-4o,c=a,d=lab/e", OPENAI_API_KEY="k")
    assert [where.route(name).targets[0].model for name in "bcd"] == ["b", "its-a", "e"]


@pytest.mark.parametrize("aliases", ["gpt-4o", "=openai/x", "a=", "a b=openai/x", "a=openai/x,a=openai/y"])
def test_other_names_that_make_no_sense(aliases: str) -> None:
    with pytest.raises(SettingError, match="MODEL_ALIASES"):
        catalogue(MODEL_ALIASES=aliases)
