"""models.yaml: what each of its fields means, and that a broken one is refused with file, line and reason."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.context import Timeouts
from core.prices import Price
from dispatch.routing.catalogue import Catalogue
from dispatch.routing.config import Deployment, ModelConfig, ProviderConfig, SourceContents
from dispatch.sources import models_file
from dispatch.sources.consistency import Inconsistent, check_consistency
from dispatch.sources.environment import CLOUDS, from_environment
from dispatch.sources.models_file import CatalogueError
from providers.base import ParameterRules
from schemas import models_file as schemas
from schemas.file_keys import BudgetSchema
from tests.conftest import ROOT, environment

ENVIRONMENT = from_environment({}, demo_pace_ms=0)
KNOWN = [*(entry.name for entry in ENVIRONMENT.entries), *CLOUDS]
EXAMPLE = ROOT / "models.example.yaml"
AT_ONCE = 5.0
"""Seconds, generously: what is refused is refused before it costs anything."""

BLOCK = "models:\n- name: m\n  provider: openai\n"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("catalogue") / "models.yaml"


@pytest.fixture(scope="module")
def read(path: Path) -> Callable[..., SourceContents]:
    """read(text, NAME=value, ...): the file's SourceContents, the variables being all there are."""

    def read(text: str | bytes, **variables: str) -> SourceContents:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return models_file.read(path, variables, KNOWN)

    return read


@pytest.fixture(scope="module")
def refused(path: Path, read: Callable[..., SourceContents]) -> Callable[..., tuple[int, str]]:
    """refused(text, NAME=value, ...): the line and the reason, of a file that must not load."""

    def refused(text: str | bytes, **variables: str) -> tuple[int, str]:
        with pytest.raises(CatalogueError) as caught:
            read(text, **variables)
        found = re.fullmatch(rf"{re.escape(str(path))}, line (\d+): (.+)", str(caught.value))
        assert found, str(caught.value)
        return int(found[1]), found[2]

    return refused


def entry(listing: SourceContents, name: str = "lab") -> ProviderConfig:
    return next(entry for entry in listing.entries if entry.name == name)


def row(listing: SourceContents, name: str = "m") -> ModelConfig:
    return next(row for row in listing.rows if row.name == name)


def model(fields: str, name: str = "m") -> str:
    """A file with one model, its fields in YAML's flow style."""
    return f"models: [{{name: {name}, provider: openai, {fields}}}]"


# providers


def test_a_providers_fields(read: Callable[..., SourceContents]) -> None:
    text = """
providers:
  lab:
    kind: openai_compatible
    base_url: http://127.0.0.1:9000/v1
    api_key: k-1
    model: llama-3
    proxy: socks5h://user:word@127.0.0.1:1080
    frames: rebuilt
    strict: true
    usage: false
    embedding_batch: 96
""".replace('"a key\'s text".', "k-1")
    found = entry(read(text))
    vendor = found.options["vendor"]
    assert (found.kind, found.default_model, found.missing) == ("openai_compatible", "llama-3", "")
    assert (found.accepts_any_model, found.has_only_listed_models) == (False, False)
    assert found.options["name"] == vendor.name == "lab"
    assert found.options["base_url"] == "http://127.0.0.1:9000/v1"
    assert (found.options["api_key"], found.options["model"]) == ("k-1", "llama-3")
    assert found.options["proxy"] == "socks5h://user:word@127.0.0.1:1080"
    assert (vendor.frames, vendor.strict, vendor.usage, vendor.embedding_batch) == ("rebuilt", True, False, 96)


def test_a_vendor_of_the_table_is_known_by_its_name(read: Callable[..., SourceContents]) -> None:
    """What the file does not say, the environment does, and then the table."""
    found = entry(read("providers: {openai: {proxy: http://p:1}}", OPENAI_API_KEY="k"), "openai")
    assert (found.missing, found.options["api_key"]) == ("", "k")
    assert found.options["base_url"] == "https://api.openai.com/v1"
    assert found.options["vendor"].strict
    assert entry(read("providers: {openai: }"), "openai").missing == "OPENAI_API_KEY"
    assert entry(read("providers: {lab: {}}")).missing == "LAB_BASE_URL"


def test_the_file_goes_before_the_environment(read: Callable[..., SourceContents]) -> None:
    """A row of models.yaml goes before an environment row of the same name."""
    variables = {"OPENAI_API_KEY": "e", "OPENAI_BASE_URL": "http://e/v1", "OPENAI_MODEL": "e"}
    found = entry(read("providers: {openai: {api_key: f, base_url: http://f/v1, model: f}}", **variables), "openai")
    options = found.options
    assert (options["api_key"], options["base_url"], options["model"]) == ("f", "http://f/v1", "f")
    assert found.default_model == "f"


def test_an_address_may_end_in_chat_completions(read: Callable[..., SourceContents]) -> None:
    """`base_url` may end in /chat/completions, which is removed."""
    for end in ("", "/", "/chat/completions", "/chat/completions/"):
        found = entry(read(f"providers: {{lab: {{base_url: 'http://lab/v1{end}'}}}}"))
        assert found.options["base_url"] == "http://lab/v1"


def test_several_keys_and_addresses_are_several_accounts(read: Callable[..., SourceContents]) -> None:
    found = read(
        "providers: {lab: {base_url: [http://a/v1, http://b/v1], api_key: [k1, k2]}}\n"
        "models: [{name: m, provider: lab, model: x}]"
    )
    accounts = [(each.name, each.options["base_url"], each.options["api_key"]) for each in found.entries]
    assert accounts == [
        ("lab", "http://a/v1", "k1"),
        ("lab#2", "http://a/v1", "k2"),
        ("lab#3", "http://b/v1", "k1"),
        ("lab#4", "http://b/v1", "k2"),
    ]
    assert [each.options["name"] for each in found.entries] == ["lab", "lab#2", "lab#3", "lab#4"]
    assert row(found).upstreams == tuple(Deployment(each.name, "x") for each in found.entries)


def test_an_empty_value_is_an_unset_one(read: Callable[..., SourceContents]) -> None:
    """As in the environment: `${NAME:-}` is for what may be set and need not."""
    text = (
        "providers: {groq: {base_url: '${URL:-}', api_key: ['${K1:-}', '${K2:-}'], model: '${M:-}', proxy: '${P:-}'}}"
    )
    unset = entry(read(text), "groq")
    assert (unset.missing, unset.default_model) == ("GROQ_API_KEY", "llama-3.3-70b-versatile")
    assert (unset.options["base_url"], unset.options["proxy"]) == ("https://api.groq.com/openai/v1", "")
    for keys in ({"K1": "k"}, {"K2": "k"}, {"GROQ_API_KEY": "k"}):
        assert [(each.name, each.options["api_key"]) for each in read(text, **keys).entries] == [("groq", "k")]
    assert [each.options["api_key"] for each in read(text, K1="a", K2="b").entries] == ["a", "b"]


def test_other_kinds(read: Callable[..., SourceContents]) -> None:
    """A kind that is still to come is read, and cannot be called; OCI needs a credential to look for, not a place."""
    found = read(
        "providers: {house: {kind: demo}, later: {kind: quantum}, cloud: {kind: oci, region: r, compartment: c},"
        " signed: {kind: oci, profile: WORK}}"
    )
    assert (entry(found, "house").accepts_any_model, entry(found, "house").available) == (True, True)
    assert not entry(found, "later").available
    assert "openai_compatible" in entry(found, "later").missing
    assert "OCI_CONFIG_FILE" in entry(found, "cloud").missing
    assert entry(found, "cloud").options["region"] == "r"
    assert (entry(found, "signed").available, entry(found, "signed").options["profile"]) == (True, "WORK")


def test_no_secret_is_shown(read: Callable[..., SourceContents], refused: Callable[..., tuple[int, str]]) -> None:
    """No key and no password of the file is in a repr or a message."""
    assert "hush" not in repr(
        read("providers: {lab: {base_url: http://a/v1, api_key: hush, proxy: http://u:hush@p:1}}")
    )
    for wrong in ("api_key: hush hush", "base_url: http://u:hush@lab/v1", "proxy: http://u:hush@p:none"):
        address = "" if wrong.startswith("base_url") else ", base_url: http://lab/v1"
        assert "hush" not in refused(f"providers: {{lab: {{{wrong}{address}}}}}")[1]


# models


def test_a_models_fields(read: Callable[..., SourceContents]) -> None:
    text = """
models:
  - name: m
    provider: openai
    model: gpt-4o-mini
    aliases: [m1, m2]
    fallbacks: [other]
    connect_timeout: 1
    first_event_timeout: 2.5
    idle_timeout: 3
    total_timeout: 40
    ttft_timeout_ms: 800
    max_tokens: 512
    params: {update: {a: 1}, add: {b: [2]}, rename: {c: d}, delete: [e]}
    tool_call: false
    stream_tool_call: false
    multimodal: false
    price: {prompt: 0.15, completion: 0.6, above: {tokens: 128000, prompt: 0.3, completion: 0.9, cached: 0.1}}
    owned_by: somebody
    region: us-chicago-1
    compartment: ocid1
    endpoint: https://e
    type: dedicated
    description: for the phone
  - {name: other, provider: groq}
aliases: {m3: m}
"""
    first, second = read(text).rows
    assert first == ModelConfig(
        name="m",
        upstreams=(Deployment("openai", "gpt-4o-mini"),),
        aliases=("m1", "m2", "m3"),
        fallbacks=("other",),
        timeouts={"connect": 1, "first_event": 2.5, "idle": 3, "total": 40},
        ttft_timeout=0.8,
        max_tokens=512,
        rules=ParameterRules({"a": 1}, {"b": [2]}, {"c": "d"}, ("e",)),
        tools=False,
        stream_tools=False,
        images=False,
        price=Price(0.15, 0.6, above=(128_000, Price(0.3, 0.9, cached=0.1))),
        owned_by="somebody",
        details={"region": "us-chicago-1", "compartment": "ocid1", "endpoint": "https://e", "type": "dedicated"},
    )
    assert first.description == "for the phone"
    assert second == ModelConfig(name="other", upstreams=(Deployment("groq", "other"),), owned_by="groq")


def test_several_places(read: Callable[..., SourceContents]) -> None:
    places = "[{provider: openai, weight: 3}, {provider: groq, model: y}]"
    found = read(f"models: [{{name: m, model: x, upstreams: {places}}}]")
    assert row(found).upstreams == (Deployment("openai", "x", 3), Deployment("groq", "y", 1))


def test_other_names_for_the_same(read: Callable[..., SourceContents]) -> None:
    """Other gateways' names for model, compartment, total_timeout and params."""
    found = row(read(model("model_id: x, compartment_id: c, timeout: 9, param_config: {add_params: {a: 1}}")))
    assert found.upstreams == (Deployment("openai", "x"),)
    assert found.timeouts == {"total": 9}
    assert found.rules == ParameterRules(add={"a": 1})
    assert found.details == {"compartment": "c"}


@pytest.mark.parametrize(
    ("fields", "total", "idle"),
    [("", 60, 7), ("timeout: 30", 30, 7), ("total_timeout: 30", 30, 7), ("total_timeout: 30, idle_timeout: 1", 30, 1)],
)
def test_a_models_timeouts_go_before_its_providers(
    read: Callable[..., SourceContents], fields: str, total: float, idle: float
) -> None:
    """A model's time-outs go before its provider's, and those before the settings."""
    providers = "providers: {lab: {base_url: http://a/v1, timeout: 60, idle_timeout: 7}}\n"
    listing = read(f"{providers}models: [{{name: m, provider: lab, {fields}}}]")
    where = Catalogue({"environment": ENVIRONMENT, "file": listing})
    assert where.route("m").targets[0].timeouts == Timeouts(total=total, idle=idle)


def test_each_place_has_its_own_providers_timeouts(read: Callable[..., SourceContents]) -> None:
    listing = read("""
providers: {a: {base_url: http://a/v1, timeout: 60}, b: {base_url: http://b/v1, idle_timeout: 5}}
models: [{name: m, connect_timeout: 1, upstreams: [{provider: a}, {provider: b}]}]
""")
    targets = Catalogue({"environment": ENVIRONMENT, "file": listing}).route("m").targets
    assert [target.timeouts for target in targets] == [Timeouts(connect=1, total=60), Timeouts(connect=1, idle=5)]


def test_a_providers_timeouts_are_those_of_its_other_models_too(read: Callable[..., SourceContents]) -> None:
    listing = read("providers: {lab: {base_url: http://a/v1, timeout: 60, connect_timeout: 1}}")
    where = Catalogue({"environment": ENVIRONMENT, "file": listing})
    assert where.route("any", "lab").targets[0].timeouts == Timeouts(total=60, connect=1)


# files of other gateways


BRIDGE = """
providers:
  closeai:
    adapter: openai
    base_url: "https://api.openai-proxy.org/v1/chat/completions"
    requires_proxy: false
    models:
      gpt-4o:
        max_tokens: 8192
        timeout: 120
      o3-mini<low>:
        param_config: {add_params: {reasoning_effort: low}}
      o3-mini<high>:
        param_config: {add_params: {reasoning_effort: high}}
  gemini:
    base_url: "https://generativelanguage.googleapis.com/v1beta/chat/completions"
    requires_proxy: true
    models:
      gemini-2.0-flash:
  deepseek:
    models:
      deepseek-reasoner:
        param_config:
          update_params: {temperature: 0.6}
          rename_params: {max_tokens: max_reasoning_token}
          delete_params: [top_p]
proxy:
  http: "socks5://127.0.0.1:7890"
  https: "socks5://127.0.0.1:7891"
logging:
  format: json
  output: {file: {path: ../logs/x.log, max_size: 10485760}, console: true}
  level: debug
"""


def test_llm_bridges_file(read: Callable[..., SourceContents]) -> None:
    """LLM Bridge's config.yaml loads as it is, and its base_url loses /chat/completions."""
    found = read(BRIDGE, CLOSEAI_API_KEY="k")
    assert [(each.name, each.available) for each in found.entries] == [
        ("closeai", True),
        ("gemini", False),
        ("deepseek", False),
    ]
    assert all(each.has_only_listed_models for each in found.entries)
    assert entry(found, "closeai").options["base_url"] == "https://api.openai-proxy.org/v1"
    assert [each.options["proxy"] for each in found.entries] == ["", "socks5://127.0.0.1:7891", ""]
    assert [each.name for each in found.rows] == [
        "closeai/gpt-4o",
        "closeai/o3-mini<low>",
        "closeai/o3-mini<high>",
        "gemini/gemini-2.0-flash",
        "deepseek/deepseek-reasoner",
    ]
    plain = row(found, "closeai/gpt-4o")
    assert (plain.upstreams, plain.max_tokens, plain.timeouts) == (
        (Deployment("closeai", "gpt-4o"),),
        8192,
        {"total": 120},
    )
    rules = row(found, "deepseek/deepseek-reasoner").rules
    assert rules == ParameterRules({"temperature": 0.6}, {}, {"max_tokens": "max_reasoning_token"}, ("top_p",))


def test_variants_differ(read: Callable[..., SourceContents]) -> None:
    """Variants once behaved all as the base model."""
    found = read(BRIDGE)
    low, high = (row(found, f"closeai/o3-mini<{effort}>") for effort in ("low", "high"))
    assert low.upstreams == high.upstreams == (Deployment("closeai", "o3-mini"),)
    assert (low.rules.add, high.rules.add) == ({"reasoning_effort": "low"}, {"reasoning_effort": "high"})


def test_a_providers_own_proxy_goes_before_the_common_one(read: Callable[..., SourceContents]) -> None:
    text = "providers: {a: {requires_proxy: true, proxy: 'http://own:1'}, b: {requires_proxy: true}, c: {}}\n"
    for common, second in (
        ("proxy: {http: 'http://plain:1', https: 'http://safe:1'}", "http://safe:1"),
        ("proxy: {http: 'http://plain:1'}", "http://plain:1"),
    ):
        found = read(text + common)
        assert [each.options["proxy"] for each in found.entries] == ["http://own:1", second, ""]


def test_whose_models_stand_below_it_has_no_others(read: Callable[..., SourceContents]) -> None:
    """`pass_unknown` lets a provider with listed models take any name."""
    for fields, complete in (
        ("", False),
        ("models: {m: }", True),
        ("models: {}, pass_unknown: false", True),
        ("models: {m: }, pass_unknown: true", False),
    ):
        assert entry(read(f"providers: {{lab: {{{fields}}}}}")).has_only_listed_models is complete


REGIONS = """
- region: us-chicago-1
  compartment_id: ocid1.compartment.a
  models:
    ondemand:
      - name: cohere.command-latest
        model_id: cohere.command-a-03-2025
        tool_call: true
        stream_tool_call: false
        description: "The latest."
      - name: meta.llama-vision
        model_id: meta.llama-3.2-90b-vision-instruct
        tool_call: False
        multimodal: True
    embedding:
      - name : cohere.embed-v3
        model_id : cohere.embed-multilingual-v3.0
    dedicated:
      - name: tuned
        endpoint: ocid1.generativeaiendpoint.x
- region: us-ashburn-1
  compartment_id: ocid1.compartment.b
  models:
    ondemand:
    datascience:
      - name: mistral
        endpoint: https://modeldeployment.example/predict
        multimodal: false
"""


def test_an_oci_access_gateways_file(read: Callable[..., SourceContents]) -> None:
    """Each model keeps its own region and compartment."""
    found = read(REGIONS)
    assert [(each.name, each.kind, each.available) for each in found.entries] == [("oci", "oci", False)]
    places = entry(found, "oci").options["places"]
    assert places == (("us-chicago-1", "ocid1.compartment.a"), ("us-ashburn-1", "ocid1.compartment.b"))
    shown = {
        each.name: (each.upstreams[0].model, each.details["type"], each.details["region"], each.details["endpoint"])
        for each in found.rows
    }
    assert shown == {
        "cohere.command-latest": ("cohere.command-a-03-2025", "ondemand", "us-chicago-1", ""),
        "meta.llama-vision": ("meta.llama-3.2-90b-vision-instruct", "ondemand", "us-chicago-1", ""),
        "cohere.embed-v3": ("cohere.embed-multilingual-v3.0", "embedding", "us-chicago-1", ""),
        "tuned": ("ocid1.generativeaiendpoint.x", "dedicated", "us-chicago-1", "ocid1.generativeaiendpoint.x"),
        "mistral": (
            "https://modeldeployment.example/predict",
            "datascience",
            "us-ashburn-1",
            "https://modeldeployment.example/predict",
        ),
    }
    assert row(found, "mistral").details["compartment"] == "ocid1.compartment.b"
    owners = {each.name: each.owned_by for each in found.rows}
    assert owners["cohere.command-latest"] == owners["cohere.embed-v3"] == "cohere"
    assert owners["tuned"] == owners["mistral"] == "oci"
    flags = {each.name: (each.tools, each.stream_tools, each.images) for each in found.rows}
    assert flags["cohere.command-latest"] == (True, False, True)
    assert flags["meta.llama-vision"] == (False, True, True)
    assert flags["mistral"] == (True, True, False)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (f"{REGIONS}      - name: tuned\n", 29, "'tuned' is given for the second time"),
        (REGIONS.replace("name: mistral", "model_id: mistral"), 26, "name: Missing"),
        (REGIONS.replace("datascience:", "datasience:"), 25, "datasience: Unknown field"),
        (REGIONS.replace("  compartment_id: ocid1.compartment.b\n", ""), 21, "compartment_id: Missing"),
        (REGIONS.replace("tool_call: False", "tool_call: 1"), 13, "tool_call: Must be true or false"),
        ("- just\n- words\n", 1, "[0]"),
    ],
)
def test_an_oci_access_gateways_file_broken(
    refused: Callable[..., tuple[int, str]], text: str, line: int, words: str
) -> None:
    found = refused(text)
    assert found[0] == line, found
    assert words in found[1]


# variables


def test_variables(read: Callable[..., SourceContents]) -> None:
    text = "providers: {lab: {base_url: 'http://${HOST}:${PORT}/v1', api_key: \"${KEY}\"}}"
    found = entry(read(text, HOST="lab", PORT="9000", KEY="007")).options
    assert (found["base_url"], found["api_key"]) == ("http://lab:9000/v1", "007")
    assert entry(read("providers: {lab: {api_key: '${K:-none}${L:-}'}}")).options["api_key"] == "none"
    assert entry(read("providers: {lab: {api_key: '${K:-none}'}}", K="k")).options["api_key"] == "k"
    assert row(read(BLOCK + "  owned_by: ${A}-${B:-c d}\n", A="a")).owned_by == "a-c d"


def test_variables_may_be_numbers_and_truths(read: Callable[..., SourceContents]) -> None:
    """Without quotes; with them they stay text."""
    text = f"""{BLOCK}
  timeout: ${{SECONDS}}
  max_tokens: ${{MOST:-256}}
  tool_call: ${{TOOLS}}
  params:
    add:
      temperature: ${{HEAT}}
      user: "${{HEAT}}"
"""
    found = row(read(text, SECONDS="2.5", TOOLS="false", HEAT="0.5"))
    assert (found.timeouts, found.max_tokens, found.tools) == ({"total": 2.5}, 256, False)
    assert found.rules.add == {"temperature": 0.5, "user": "0.5"}
    assert row(read(text, SECONDS="2.5", TOOLS="true", HEAT="1", MOST="9")).max_tokens == 9


def test_a_variable_stays_one_value(read: Callable[..., SourceContents]) -> None:
    """What it holds is no YAML: nobody's environment adds a field."""
    for text in (
        "a, strict: true",
        "a}\n  evil: {",
        "[1, 2]",
        "{a: b}",
        "# no comment",
        "!!python/name:os.system",
        "*a",
    ):
        assert row(read(f"{BLOCK}  owned_by: ${{TEXT}}\n", TEXT=text)).owned_by == text


@pytest.mark.parametrize("text", ["${NOT_SET}", "'a ${NOT_SET} b'", "${NOT_SET_EITHER:-x}${NOT_SET}"])
def test_a_variable_that_is_not_set_is_named(refused: Callable[..., tuple[int, str]], text: str) -> None:
    line, reason = refused(f"{BLOCK}  owned_by: {text}\n")
    assert (line, reason) == (4, "the variable NOT_SET is not set")


# what is no YAML


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("models: [", 2, "node content"),
        ("models:\n  - {name: a, provider: openai\n  - x\n", 4, "expected ',' or '}'"),
        ("models:\n- name: 'a\naliases: {}\n", 4, "line 2"),
        ("providers:\n  lab:\n    model: a: b\n", 3, "mapping values are not allowed"),
        ("providers:\n\tlab: {}\n", 2, "tab"),
        ("providers:\n  lab:\n  \tmodel: a\n", 3, "tab"),
        ("providers:\n  lab: {}\n  groq: {}\n  lab: {}\n", 4, "'lab' stands here for the second time"),
        ("models: []\naliases: {}\nmodels: []\n", 3, "'models' stands here for the second time"),
        ("models: []\n---\nmodels: []\n", 2, "another document"),
        ("aliases:\n  ? [a, b]\n  : c\n", 2, "a key must be a name"),
        ("aliases:\n  a: *nobody\n", 2, "undefined alias"),
        ("aliases:\n  a: !here b\n", 2, "!here"),
        ("\n\nmodels: é \0\n", 3, "not allowed"),
        ("models: []\nproxy:\n  http: 2024-13-45\n", 3, "month"),
        ("models: []\nproxy:\n  http: !!int abc\n", 3, "abc"),
        (f"models: []\nproxy:\n  http: {'9' * 5000}\n", 3, ""),
        ("aliases:\n  a: {<<: 5}\n", 2, ""),
        ("aliases:\n  <<: [1, 2]\n", 2, ""),
        ("aliases:\n  <<: text\n", 2, ""),
    ],
)
def test_broken_yaml(refused: Callable[..., tuple[int, str]], text: str, line: int, words: str) -> None:
    found = refused(text)
    assert found[0] == line, found
    assert words in found[1]


@pytest.mark.parametrize(
    "value",
    [
        "!!python/name:os.system",
        "!!python/object:os.stat_result x",
        "!!python/object/apply:os.system [{0}]",
        "!!python/object/new:os.system [{0}]",
        "!!python/object/apply:subprocess.Popen [[touch, {1}]]",
        "!!python/object:collections.Counter {{a: 1}}",
        "!ours {{a: 1}}",
        "!ours [a]",
    ],
)
def test_nothing_is_made_of_python(refused: Callable[..., tuple[int, str]], tmp_path: Path, value: str) -> None:
    made = tmp_path / "made"
    value = value.format(f"touch {made}", made)
    line, _ = refused(f"{BLOCK}  params:\n    add:\n      a: {value}\n")
    assert line == 6
    assert not made.exists()


@pytest.mark.parametrize(
    "text", [b"\xff\xfe\x00\x01", b"models: \xe4", "models: []".encode("utf-16"), bytes(range(256))]
)
def test_what_is_no_text(refused: Callable[..., tuple[int, str]], text: bytes) -> None:
    assert "UTF-8" in refused(text)[1]


def test_as_windows_writes_it(read: Callable[..., SourceContents], refused: Callable[..., tuple[int, str]]) -> None:
    text = "models:\r\n- name: m\r\n  provider: openai\r\n"
    assert row(read(b"\xef\xbb\xbf" + text.encode())).name == "m"
    assert refused(text + "  wrong: 1\r\n")[0] == 4


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing yet\n", "---\n", "{}", "null", "models: []", "[]"])
def test_an_empty_file_is_fine(read: Callable[..., SourceContents], text: str) -> None:
    found = read(text)
    assert not found.rows
    assert all(not each.available for each in found.entries)


@pytest.mark.parametrize("text", ["5", "just text", "true", "2024-01-01", "<html><body>It works!</body></html>"])
def test_a_scalar_is_no_catalogue(refused: Callable[..., tuple[int, str]], text: str) -> None:
    line, reason = refused(text)
    assert line == 1
    assert "`providers` and `models`" in reason


@pytest.mark.parametrize("data", [b"#" * 10_000_000, b"[" * 10_000_000, b"models:\n" + b"- a\n" * 2_500_000])
def test_a_file_of_10_mb_is_refused_at_once(refused: Callable[..., tuple[int, str]], data: bytes) -> None:
    started = process_time()
    assert "larger than" in refused(data)[1]
    assert process_time() - started < AT_ONCE


def test_a_file_that_cannot_be_read(path: Path) -> None:
    for wrong, words in (
        (path.parent, "directory"),
        (path / "nowhere", "cannot be read"),
        (path.parent / "none", "No such"),
    ):
        path.touch()
        with pytest.raises(CatalogueError, match=rf"^{re.escape(str(wrong))}, line 1: .*{words}"):
            models_file.read(wrong, {}, KNOWN)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_rights(tmp_path: Path) -> None:
    closed = tmp_path / "models.yaml"
    closed.touch(mode=0)
    with pytest.raises(CatalogueError, match=r"line 1: .*Permission denied"):
        models_file.read(closed, {}, KNOWN)


# what grows


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)
)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "text", [BOMB, MERGE_BOMB, "a: &a [*a]", "a: &a {b: *a}", "a: &a {<<: *a}", "a: &a {<<: [*a]}"]
)
def test_an_anchor_that_grows_is_refused(refused: Callable[..., tuple[int, str]], text: str) -> None:
    started = process_time()
    assert "unfolds to more than a catalogue can be" in refused(text)[1]
    assert process_time() - started < AT_ONCE


def test_a_long_chain_of_fallbacks_is_followed_at_once() -> None:
    rows = [ModelConfig(f"m{at}", (Deployment("demo", "m"),), fallbacks=(f"m{at + 1}",)) for at in range(10000)]
    placed = [(each, ("models", at)) for at, each in enumerate(rows)]
    started = process_time()
    last = ModelConfig("m10000", (Deployment("demo", "m"),))
    assert len(check_consistency([*placed, (last, ("models", 10000))], {})) == 10001
    with pytest.raises(Inconsistent, match="the fallbacks of 'm9998' come back to it") as caught:
        check_consistency([*placed, (replace(last, fallbacks=("m9998",)), ("models", 10000))], {})
    assert process_time() - started < 4.0
    assert caught.value.place == ("models", 9998, "fallbacks")


def test_more_places_than_a_round_can_hold_are_refused(refused: Callable[..., tuple[int, str]]) -> None:
    """A round has each place as often as its weight says: half a million turns would hold up the start for minutes."""
    places = ", ".join(f"{{provider: openai, model: m{number}, weight: 100}}" for number in range(5000))
    assert refused(f"models: [{{name: m, upstreams: [{places}]}}]") == (
        1,
        "models[0].upstreams: Length must be between 1 and 100.",
    )
    keys = ", ".join(f"k{number}" for number in range(101))
    text = f"providers:\n  lab: {{base_url: 'http://lab.example/v1', api_key: [{keys}]}}"
    assert refused(text) == (2, "101 pairs of address and key are more than the 100 that are taken")


@pytest.mark.thorough
@pytest.mark.parametrize("opening", ["[", "- ", "{a: ", "? "])
def test_deep_nesting_is_refused(tmp_path: Path, opening: str) -> None:
    """In a process of its own: what is too deep for the parser's stack would end this one."""
    file = tmp_path / "models.yaml"
    file.write_text(opening * (1_000_000 // len(opening)))
    code = (
        "import sys\nfrom pathlib import Path\nfrom dispatch.sources import models_file\n"
        "try:\n    models_file.read(Path(sys.argv[1]), {})\n"
        "except models_file.CatalogueError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, file], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done
    assert re.fullmatch(rf"{file}, line 1: .+\n", done.stdout)


def test_anchors_and_merge_keys_work(read: Callable[..., SourceContents]) -> None:
    text = """
models:
  - &base {name: a, provider: openai, timeout: 5, max_tokens: 9}
  - {<<: *base, name: b, timeout: 6}
  - {<<: [{name: c, max_tokens: 1}, *base], owned_by: &who me}
  - {name: d, provider: openai, owned_by: *who}
"""
    found = {each.name: (each.timeouts.get("total"), each.max_tokens, each.owned_by) for each in read(text).rows}
    assert found == {"a": (5, 9, "openai"), "b": (6, 9, "openai"), "c": (5, 1, "me"), "d": (None, None, "me")}


def test_keys_that_are_no_text_are_names(read: Callable[..., SourceContents]) -> None:
    found = read("providers: {1: {models: {2.5: , true: , null: }}}\naliases: {2024-01-01: 1/2.5, no: 1/null}")
    assert [each.name for each in found.rows] == ["1/2.5", "1/true", "1/null"]
    assert [each.aliases for each in found.rows] == [("2024-01-01",), (), ("no",)]


# what makes no sense


def falls(name: str, to: str) -> str:
    return f"- {{name: {name}, provider: openai, fallbacks: [{to}]}}\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("models:\n- {name: a, provider: openai}\n- {name: a, provider: groq}\n", 3, "'a' is given for the second"),
        ("models:\n- {name: a, provider: openai}\n- {name: b, provider: openai, aliases: [a]}\n", 3, "'a'"),
        ("models:\n- {name: a, provider: openai, aliases: [x]}\n- {name: b, provider: groq, aliases: [x]}\n", 3, "'x'"),
        ("models:\n- {name: a, provider: openai, aliases: [a]}\n", 2, "'a'"),
        ("models:\n- {name: a, provider: openai, aliases: [x, x]}\n", 2, "'x'"),
        ("models: [{name: a, provider: openai}]\naliases:\n  a: a\n", 3, "'a'"),
        ("models: [{name: a, provider: openai, aliases: [x]}]\naliases:\n  x: a\n", 3, "'x'"),
        ("providers: {openai: {models: {a: }}}\nmodels:\n- {name: openai/a, provider: groq}\n", 3, "'openai/a'"),
        ("aliases:\n  x: nothing\n", 2, "'nothing', and no model is called so"),
        (f"models:\n{falls('a', 'nothing')}", 2, "'nothing', and no model is called so"),
        (f"models:\n{falls('a', 'a')}", 2, "come back to it"),
        (f"models:\n{falls('a', 'b')}{falls('b', 'a')}", 2, "come back to it"),
        (f"models:\n{falls('a', 'b')}{falls('b', 'c')}{falls('c', 'b')}", 3, "the fallbacks of 'b' come back to it"),
        ("models:\n- {name: a, provider: openai, aliases: [x], fallbacks: [x]}\n", 2, "come back to it"),
        ("models:\n- {name: a, provider: nobody}\n", 2, "'nobody', which is not known"),
        ("models:\n- {name: a, upstreams: [{provider: openai}, {provider: opnai}]}\n", 2, "'opnai'"),
        ("providers:\n  a/b: {}\n", 2, "neither # nor /"),
        ("providers:\n  a#2: {}\n", 2, "neither # nor /"),
    ],
)
def test_what_is_incoherent(refused: Callable[..., tuple[int, str]], text: str, line: int, words: str) -> None:
    found = refused(text)
    assert found[0] == line, found
    assert words in found[1]


BLOCKED = "models:\n- name: a\n  provider: openai\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{BLOCKED}- name: b\n  model: x\n  provider: nobody\n", 6),
        (f"{BLOCKED}- name: b\n  upstreams:\n  - provider: openai\n  - model: x\n    provider: nobody\n", 8),
        (f"{BLOCKED}- provider: groq\n  name: a\n", 5),
        (f"{BLOCKED}- name: b\n  provider: groq\n  aliases:\n  - c\n  - a\n", 8),
        (f"{BLOCKED}- name: b\n  provider: groq\n  fallbacks:\n  - a\n  - nothing\n", 8),
        (f"{BLOCKED}- name: b\n  provider: groq\n  model: x\n  fallbacks: [b]\n", 7),
        ("providers:\n  lab:\n    model: x\n    base_url:\n    - http://a/v1\n    - nonsense\n", 6),
        ("providers:\n  lab:\n    base_url: http://a/v1\n    model: x\n    api_key: two words\n", 5),
        ("providers:\n  lab:\n    base_url: http://a/v1\n    model: x\n    proxy: nonsense\n", 5),
        ("providers:\n  oci:\n    kind: oci\n    region: us chicago\n", 4),
        ("providers:\n  oci:\n    kind: oci\n    region: r-1\n    compartment_id: a b\n", 5),
        ("providers:\n  oci:\n    kind: oci\n    region: r-1\n    base_url: nonsense\n", 5),
        ("providers:\n  help:\n    kind: bedrock\n    agent_id: A\n    agent_alias_id: B C\n", 5),
        ("providers:\n  far:\n    kind: bedrock-models\n    model: x\n    region: EU!\n", 5),
    ],
)
def test_a_mistake_is_told_by_its_fields_own_line(
    refused: Callable[..., tuple[int, str]], text: str, line: int
) -> None:
    found = refused(text)
    assert found[0] == line, found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models: [{nmae: m, provider: openai}]", "'name' may be meant"),
        ("models: [{name: m, providr: openai}]", "'provider' may be meant"),
        ("models: [{name: m, provider: openai, max-tokens: 5}]", "'max_tokens' may be meant"),
        ("models: [{name: m, provider: openai, temperature: 1}]", "goes into 'params'"),
        ("models: [{name: m, provider: openai, reasoning: {effort: low}}]", "goes into 'params'"),
        ("models: [{name: m, provider: openai, params: {temperature: 1}}]", "known are update, add, rename, delete"),
        ("providers: {lab: {models: {m: {seed: 1}}}}", "goes into 'params'"),
        ("providers: {lab: {top_p: 1}}", "goes into the 'params' of that model"),
        ("providers: {lab: {baseurl: 'http://a/v1'}}", "'base_url' may be meant"),
        ("provider: {}", "'providers' may be meant"),
    ],
)
def test_an_unknown_field_names_the_one_that_is_meant(
    refused: Callable[..., tuple[int, str]], text: str, words: str
) -> None:
    reason = refused(text)[1]
    assert "Unknown field; " in reason
    assert words in reason


def test_a_description_is_shown(app_with: Callable[..., Any], path: Path) -> None:
    path.write_text("models: [{name: m, provider: demo, description: for the phone}, {name: n, provider: demo}]\n")
    client = app_with(MODELS_FILE=path)
    listed = {each["id"]: each for each in client.get("/v1/models").get_json()["data"]}
    assert listed["m"]["description"] == client.get("/v1/models/m").get_json()["description"] == "for the phone"
    assert "description" not in listed["n"]


def test_a_long_cycle_of_fallbacks(
    read: Callable[..., SourceContents], refused: Callable[..., tuple[int, str]]
) -> None:
    rows = "".join(f"- {{name: m{n}, provider: openai, fallbacks: [m{n + 1}]}}\n" for n in range(500))
    assert len(read(f"models:\n{rows}- {{name: m500, provider: openai}}\n").rows) == 501
    assert refused(f"models:\n{rows}- {{name: m500, provider: openai, fallbacks: [m0]}}\n") == (
        2,
        "the fallbacks of 'm0' come back to it",
    )


def fields_wrong() -> Iterator[tuple[str, str]]:
    """A model's or provider's fields, and what the reason must name."""
    for field in ("timeout", "connect_timeout", "first_event_timeout", "idle_timeout", "total_timeout"):
        for value in ("soon", "-1", "0", "[1]", "null", "true", ".nan", ".inf", "'60'", "1e400"):
            yield f"{field}: {value}", field
        yield f"{field}: {'9' * 400}", field
    for value in ("-5", "0", "fast", ".nan", ".inf", "true"):
        yield f"ttft_timeout_ms: {value}", "ttft_timeout_ms"
    for value in ("-1", "0", "1.5", "many", "'5'", ".inf", ".nan", "1e30"):
        yield f"max_tokens: {value}", "max_tokens"
    for price in (
        "{prompt: -1, completion: 1}",
        "{prompt: 1}",
        "5",
        "{prompt: .nan, completion: 1}",
        "{in: 1, out: 2}",
        "{prompt: 1, completion: 1, above: 5}",
        "{prompt: 1, completion: 1, above: {prompt: 2, completion: 2}}",
        "{prompt: 1, completion: 1, above: {tokens: 0, prompt: 2, completion: 2}}",
        "{prompt: 1, completion: 1, above: {tokens: 9, prompt: 2}}",
    ):
        yield f"price: {price}", "price"
    for value in ("maybe", "1", "null", "'true'"):
        yield f"tool_call: {value}", "tool_call"
    for value in ("5", "[5]", "x", "[[x]]", "{x: y}", "['a b']", "['']"):
        yield f"aliases: {value}", "aliases"
    for value in ("x", "[{}]", "5"):
        yield f"fallbacks: {value}", "fallbacks"
    for value in ("5", "[a]", "{upadte: {}}", "{update: 5}", "{rename: {a: 5}}", "{delete: a}", "{delete: [[a]]}"):
        yield f"params: {value}", "params"
    yield "alias: [x]", "alias"
    yield "type: chat", "type"
    yield "owned_by: [a]", "owned_by"
    yield "model: {a: b}", "model"
    yield "upstreams: [{provider: groq}]", "either a provider or upstreams"


@pytest.mark.parametrize(("fields", "words"), list(fields_wrong()), ids=lambda text: text[:50])
def test_a_models_field_that_is_wrong(refused: Callable[..., tuple[int, str]], fields: str, words: str) -> None:
    line, reason = refused(f"{BLOCK}  {fields}\n")
    assert line == 4 or (line, words) == (2, "either a provider or upstreams"), reason
    assert words in reason


@pytest.mark.parametrize(
    "upstreams",
    ["[]", "5", "[groq]", "[{}]", "[{provider: groq, weight: 0}]", "[{provider: groq, weight: -1}]"]
    + [f"[{{provider: groq, weight: {weight}}}]" for weight in ("101", "1.5", ".nan", "x", "true")],
)
def test_places_that_are_wrong(refused: Callable[..., tuple[int, str]], upstreams: str) -> None:
    line, reason = refused(f"models:\n- name: m\n  upstreams: {upstreams}\n")
    assert line == 3
    assert "upstreams" in reason


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("bas_url: http://a/v1", "bas_url"),
        ("base_url: 5", "base_url"),
        ("base_url: [5]", "base_url"),
        ("base_url: []", "base_url"),
        ("base_url: lab:9000", "lab:9000"),
        ("base_url: ftp://lab/v1", "ftp://lab/v1"),
        ("base_url: http://lab:99999/v1", "http://lab:99999/v1"),
        ("base_url: [http://lab/v1, nonsense]", "nonsense"),
        ("api_key: 5", "api_key"),
        ("api_key: {a: b}", "api_key"),
        ("api_key: [k, 5]", "api_key"),
        ("api_key: []", "api_key"),
        ("api_key: two words", "API_KEY"),
        ("proxy: 127.0.0.1:7890", "proxy"),
        ("proxy: ftp://p:1", "proxy"),
        ("proxy: 5", "proxy"),
        ("frames: fast", "frames"),
        ("strict: 1", "strict"),
        ("embedding_batch: 0", "embedding_batch"),
        ("timeout: -1", "timeout"),
        ("models: 5", "models"),
        ("models: [a]", "models"),
        ("models: {a: 5}", "models.a"),
        ("models: {a: {max_token: 5}}", "models.a.max_token"),
        ("models: {a: {param_config: {add_parms: {}}}}", "add_parms"),
        ("models: {'a b': }", "a b"),
    ],
)
def test_a_providers_field_that_is_wrong(refused: Callable[..., tuple[int, str]], fields: str, words: str) -> None:
    """At the start, and by its line; not at the first call, by a 500."""
    address = "base_url: http://lab/v1" if not fields.startswith("base_url") else "kind: openai_compatible"
    line, reason = refused(f"providers:\n  lab:\n    {address}\n    {fields}\n")
    assert line in (2, 4), reason
    assert words in reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("providers: 5", "providers"),
        ("providers: [a]", "providers"),
        ("providers: {a: 5}", "providers.a"),
        ("providers: {'a b': {}}", "a b"),
        ("providers: {grüße: {}}", "grüße"),
        ("models: {a: b}", "models"),
        ("models: [a]", "models[0]"),
        ("models: [null]", "models[0]"),
        ("models: [{}]", "models[0].name"),
        ("models: [{provider: openai}]", "models[0].name"),
        ("models: [{name: a}]", "models[0]"),
        ("models: [{name: 5, provider: openai}]", "models[0].name"),
        ("models: [{name: '', provider: openai}]", "models[0].name"),
        ("models: [{name: a b, provider: openai}]", "models[0].name"),
        ("models: [{name: café, provider: openai}]", "models[0].name"),
        (f"models: [{{name: {'x' * 201}, provider: openai}}]", "models[0].name"),
        ("aliases: [a]", "aliases"),
        ("aliases: {a: 5}", "aliases.a"),
        ("aliases: {'a b': c}", "a b"),
        ("model: []", "model"),
        ("proxy: http://p:1", "proxy"),
        ("proxy: {https: 5}", "proxy.https"),
        ("logging: 5", "logging"),
    ],
)
def test_a_shape_that_is_wrong(refused: Callable[..., tuple[int, str]], text: str, words: str) -> None:
    line, reason = refused(f"# the first line\n{text}\n")
    assert line == 2
    assert words in reason


# whatever is in it


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 10**20),
    st.floats(),
    st.sampled_from(["a", "b", "lab", "openai", "a b", "", "http://h/v1", "${SET}", "${UNSET}", "<x>", "a/b", "x#2"]),
)
names = st.sampled_from(["a", "b", "c", "d", "a<x>", "org/a", "lab/a", "1"])
seconds = st.floats(0.5, 100).map(lambda value: round(value, 3))
rules = st.fixed_dictionaries(
    {},
    optional={
        "update": st.dictionaries(names, scalars, max_size=2),
        "rename": st.dictionaries(names, names, max_size=2),
        "delete": st.lists(names, max_size=2),
    },
)
places = st.lists(
    st.fixed_dictionaries(
        {"provider": st.sampled_from(["lab", "pool", "openai"])}, optional={"weight": st.integers(1, 9), "model": names}
    ),
    min_size=1,
    max_size=3,
)
wanted = {
    "aliases": st.lists(names, max_size=2),
    "fallbacks": st.lists(names, max_size=2),
    "timeout": seconds,
    "ttft_timeout_ms": st.integers(1, 5000),
    "max_tokens": st.integers(1, 9000),
    "params": rules,
    "tool_call": st.booleans(),
}
models = st.lists(
    st.one_of(
        st.fixed_dictionaries({"name": names, "provider": st.sampled_from(["lab", "pool", "groq"])}, optional=wanted),
        st.fixed_dictionaries({"name": names, "upstreams": places}, optional=wanted),
    ),
    max_size=4,
    unique_by=lambda each: each["name"],
)
nested = st.dictionaries(
    names, st.none() | st.fixed_dictionaries({}, optional={"max_tokens": st.integers(1, 9)}), max_size=2
)
files = st.fixed_dictionaries(
    {
        "providers": st.fixed_dictionaries(
            {
                "lab": st.fixed_dictionaries({"base_url": st.just("http://lab/v1")}, optional={"models": nested}),
                "pool": st.fixed_dictionaries({"base_url": st.just(["http://a/v1", "http://b/v1"])}),
            }
        ),
        "models": models,
    },
    optional={"aliases": st.dictionaries(names, names, max_size=2), "proxy": st.just({"http": "http://p:1"})},
)
junk = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | names, inner, max_size=3)
)


def places_in(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places_in(inner, (*place, key))


def with_value(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """The same, but for what stands in one place."""
    if not place:
        return new
    first, *rest = place
    if isinstance(value, dict):
        return {**value, first: with_value(value[first], tuple(rest), new)}
    return [with_value(each, tuple(rest), new) if at == first else each for at, each in enumerate(value)]


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    file = draw(files)
    for _ in range(draw(st.integers(1, 2))):
        file = with_value(file, draw(st.sampled_from(list(places_in(file)))), draw(junk))
    return file


@st.composite
def misspelt(draw: st.DrawFn) -> str:
    """A file with some characters lost, and others found."""
    text = dump(draw(files))
    start = draw(st.integers(0, len(text)))
    return (
        text[:start]
        + draw(st.text("\t\n -:[]{}&*!|<>#'\"%@`,?${}~\0aé", max_size=6))
        + text[start + draw(st.integers(0, 8)) :]
    )


def dump(value: Any) -> str:
    return str(yaml.safe_dump(value, allow_unicode=True, sort_keys=False))


def names_a_line(error: CatalogueError) -> None:
    assert re.search(r"line \d+: .", str(error)), error


def loads_or_names_a_line(read: Callable[..., SourceContents], text: str) -> None:
    """And if it loads, every name and every alias leads to exactly one row."""
    try:
        listing = read(text, SET="set")
    except CatalogueError as error:
        names_a_line(error)
        return
    named = [name for each in listing.rows for name in (each.name, *each.aliases)]
    assert len(named) == len(set(named))
    where = Catalogue({"environment": from_environment({"GROQ_API_KEY": "k"}, demo_pace_ms=0), "file": listing})
    assert sorted(where.snapshot.names) == sorted(named)
    for each in listing.rows:
        for name in (each.name, *each.aliases):
            assert where.snapshot.names[name] is each
            lead_there(where, name, each)


def lead_there(where: Catalogue, name: str, row: ModelConfig) -> None:
    """What is asked for by this name gets this row, unless its head is another configured provider."""
    entries: Mapping[str, ProviderConfig] = where.snapshot.entries
    head = name.partition("/")[0]
    homes = {upstream.provider.partition("#")[0] for upstream in row.upstreams}
    if any(entries[upstream.provider].available for upstream in row.upstreams) and (
        head == name or head not in entries or not entries[head].available or head in homes
    ):
        assert where.route(name).row is row


@settings(max_examples=150, deadline=None, derandomize=True)
@given(file=files)
def test_any_file_loads_or_names_a_line(read: Callable[..., SourceContents], file: Mapping[str, Any]) -> None:
    loads_or_names_a_line(read, dump(file))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(file=mutated())
@example(file={"providers": {"lab": {"base_url": [5]}}})
@example(file={"providers": {"lab": {"api_key": []}}, "models": [{"name": "a", "provider": "lab"}]})
def test_any_wrong_value_is_named_by_its_line(read: Callable[..., SourceContents], file: Any) -> None:
    loads_or_names_a_line(read, dump(file))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=misspelt())
@example(text="a: {<<: 5}")
@example(text="a: &a {<<: *a}")
def test_any_slip_of_the_pen_is_named_by_its_line(read: Callable[..., SourceContents], text: str) -> None:
    loads_or_names_a_line(read, text)


# the example


def keys_in(value: Any) -> Iterator[str]:
    yield from (place[-1] for place in places_in(value) if place and isinstance(place[-1], str))


OLDER = {"model_id", "compartment_id", "param_config", "adapter", "requires_proxy", "logging"}
"""Other gateways' names for what has another name here, and what is read for their sake."""


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example as somebody has it who took the # from every line. A comment proper has one space after it."""
    file = tmp_path / "models.yaml"
    file.write_text(re.sub(r"^#(?=[^ #\n]|  )", "", EXAMPLE.read_text(), flags=re.MULTILINE))
    return file


def test_the_example_copied_changes_nothing(tmp_path: Path, app_with: Callable[..., Any]) -> None:
    """Nor does git take up the copy."""
    copied = tmp_path / "models.yaml"
    copied.write_text(EXAMPLE.read_text())
    keys = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "OCI_REGION": "eu-frankfurt-1"}
    for variables in ({}, keys):
        one, other = (app_with(**variables), app_with(**variables, MODELS_FILE=copied))
        for path in ("/v1/models", "/v1/providers"):
            assert other.get(path).get_json() == one.get(path).get_json()
        snapshots = [each.application.extensions["thinkline"].catalogue.snapshot for each in (one, other)]
        assert snapshots[0].entries == snapshots[1].entries
        assert snapshots[0].names == snapshots[1].names
    assert "models.yaml" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_example_loads_with_nothing_set(example: Path) -> None:
    found = models_file.read(example, {}, KNOWN)
    where = Catalogue({"environment": ENVIRONMENT, "file": found})
    assert where.default == "demo", "a copy of it must not change who answers"
    assert [each.name for each in found.rows if each.fallbacks] == ["fast"]


def test_the_examples_of_the_documentation_load(
    read: Callable[..., SourceContents], refused: Callable[..., tuple[int, str]]
) -> None:
    pages = "\n".join(path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])
    texts = re.findall(r"^```yaml\n(.*?)^```$", pages, re.MULTILINE | re.DOTALL)
    texts = [text for text in texts if re.search(r"^(models|providers|aliases|keys):", text, re.MULTILINE)]
    assert len(texts) >= 10
    for text in texts:
        secrets = {"OPERATIONS": "a-secret-of-some-length", "SECRET": "s" * 24, "AWS_BEARER_TOKEN_BEDROCK": "k"}
        listing = read(text, OPENAI_API_KEY="k", OCI_COMPARTMENT="c", **secrets)
        assert listing.rows or listing.entries or listing.keys
    text = next(each for each in texts if "aliases: [default" in each)
    assert [each.aliases for each in read(text, OPENAI_API_KEY="k").rows] == [("default", "quick"), ()]
    line, reason = refused(text.replace("provider: openai", "provder: openai"), OPENAI_API_KEY="k")
    assert f"models.yaml, line {line}: {reason}\n" in pages


def test_the_example_has_every_field(example: Path) -> None:
    used = set(keys_in(yaml.safe_load(example.read_text())))
    for schema in (
        schemas.FileSchema,
        schemas.ProviderSchema,
        schemas.ModelSchema,
        schemas.UpstreamSchema,
        schemas.PriceSchema,
        schemas.RulesSchema,
        schemas.ApiKeySchema,
        BudgetSchema,
    ):
        fields = {name for name in schema().fields if name not in OLDER and not name.endswith("_params")}
        assert fields <= used, f"{EXAMPLE.name} lacks {sorted(fields - used)}"


def test_the_examples_models_can_be_asked_once_their_keys_are_set(example: Path) -> None:
    keys = {"OPENAI_API_KEY": "k", "GROQ_API_KEY": "k", "LAB_BASE_URL": "http://lab/v1", "LAB2_BASE_URL": "http://b/v1"}
    environment = from_environment(keys, demo_pace_ms=0)
    found = models_file.read(example, keys, KNOWN)
    where = Catalogue({"environment": environment, "file": found})
    for each in found.rows:
        if each.upstreams[0].provider != "oci" and each.guardrail is None:
            assert where.route(each.name).row is each
    assert where.route("gpt-3.5-turbo").row is where.route("quick").row is where.route("fast").row
    assert entry(found).options["model"] == "llama-3.1-8b"
    assert where.route("plain").targets[0].timeouts == Timeouts(connect=2, first_event=10, idle=20, total=60)


@pytest.mark.parametrize(
    "text",
    [
        'providers: {lab: {base_url: "${SOME_KEY}"}}',
        'providers: {lab: {base_url: "${SOME_KEY}/v1", api_key: a-key}}',
        'providers: {oci: {region: "${SOME_KEY}"}}',
        'models: [{name: m, provider: "${SOME_KEY}"}]',
        'models: [{name: m, provider: demo, fallbacks: ["${SOME_KEY}"]}]',
        'models: [{name: m, provider: demo, aliases: ["${SOME_KEY}", "${SOME_KEY}"]}]',
    ],
)
def test_a_variable_is_shown_by_its_name(tmp_path: Path, text: str) -> None:
    """A key in the wrong place is a mistake that is made, and no reason to print it."""
    file = tmp_path / "models.yaml"
    file.write_text(text)
    with pytest.raises(models_file.CatalogueError) as caught:
        models_file.read(file, {"SOME_KEY": "quite!secret"}, ("demo",), {})
    assert "quite!secret" not in str(caught.value)
    assert "${SOME_KEY}" in str(caught.value)
