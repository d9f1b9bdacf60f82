"""From a model's name to its targets, where models have names. No request is sent."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from core.context import Timeouts
from core.errors import GatewayError, InvalidRequest, UnknownModel, Unsupported, UpstreamDown
from core.requests import ChatRequest
from dispatch.routing.catalogue import Catalogue
from dispatch.routing.config import Deployment, ModelConfig, ProviderConfig, SourceContents
from dispatch.routing.model_lists import ModelLists
from dispatch.routing.route import Route
from dispatch.routing.rules import weighted_rotation
from dispatch.sources.aws import MODEL_IDS as BEDROCK_IDS
from dispatch.sources.environment import from_environment, vendor_entry
from dispatch.sources.oci import MODEL_IDS
from providers.base import ParameterRules, Provider, Target
from providers.openai_compatible.request import to_upstream
from providers.vendors import Vendor
from tests.conftest import Served
from tests.emulators import OpenAIUpstream
from tests.support.frames import chat_body, post
from tests.support.http import HI, openai_error

TWO = {"OPENAI_API_KEY": "k", "GROQ_API_KEY": "k"}
SECOND = 1.0
"""A generous bound for what 10,000 models may cost."""


def place(name: str, address: str = "http://lab/v1", model: str = "", **options: Any) -> ProviderConfig:
    """A provider of one's own; `lab#2` is the second account of lab."""
    vendor = Vendor(name=name.partition("#")[0], label=name, model=model, keyless=True)
    return vendor_entry(vendor, {}, name=name, address=address, **options)


def row(name: str, *places: str, **fields: Any) -> ModelConfig:
    """A model at these places, each `provider` or `provider:weight`; its name there is `its-NAME`."""
    named = [each.partition(":") for each in places]
    upstreams = tuple(Deployment(provider, f"its-{name}", int(weight or 1)) for provider, _, weight in named)
    return ModelConfig(name, upstreams, **fields)


def catalogue(
    *rows: ModelConfig,
    entries: tuple[ProviderConfig, ...] = (),
    variables: dict[str, str] | None = None,
    **options: Any,
) -> Catalogue:
    """What the environment tells of (two vendors, unless `variables` say otherwise), and a file."""
    environment = from_environment(TWO if variables is None else variables, demo_pace_ms=0)
    return Catalogue({"environment": environment, "file": SourceContents(entries, rows)}, **options)


def first(route: Route) -> tuple[str, str, str]:
    """Who is asked first, for which model, and what callers call that."""
    target = route.targets[0]
    return target.provider.name, target.model, target.public_name


def everyone(route: Route) -> list[str]:
    return [target.provider.name for target in route.targets]


def error_of(where: Catalogue, model: str, provider: str = "") -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        where.route(model, provider)
    return caught.value


def chat(model: str = "m", **body: Any) -> ChatRequest:
    return ChatRequest({"messages": HI, **body}, model=model, stream=body.get("stream", False))


# the order in which a name is looked up


FILE = (
    row("fast", "openai", aliases=("quick", "the/quick", "groq-like")),
    row("plain", "groq"),
    row("groq/nested", "groq"),
    row("org/model:free", "openai"),
    row("deepseek/deepseek-chat", "groq"),
    row("openai/best", "groq"),
    row("gpt-4o", "lab"),
    row("o3<high>", "lab"),
    row("cohere.command", "lab"),
)


@pytest.mark.parametrize(
    ("model", "provider", "expected"),
    [
        # the body's provider, with or without its name before the model's
        ("nobody's", "groq", ("groq", "nobody's", "nobody's")),
        ("groq/nobody's", "groq", ("groq", "nobody's", "nobody's")),
        ("fast", "groq", ("groq", "fast", "fast")),
        ("fast", "openai", ("openai", "its-fast", "fast")),
        ("quick", "openai", ("openai", "its-fast", "fast")),
        ("nested", "groq", ("groq", "its-groq/nested", "groq/nested")),
        ("groq/nested", "groq", ("groq", "its-groq/nested", "groq/nested")),
        ("", "groq", ("groq", "llama-3.3-70b-versatile", "llama-3.3-70b-versatile")),
        ("fast", "demo", ("demo", "demo", "demo")),
        # the prefix of a configured provider
        ("groq/nobody's", "", ("groq", "nobody's", "nobody's")),
        ("groq/plain", "", ("groq", "its-plain", "plain")),
        ("groq/nested", "", ("groq", "its-groq/nested", "groq/nested")),
        ("groq/fast", "", ("groq", "fast", "fast")),
        ("openai/quick", "", ("openai", "its-fast", "fast")),
        ("openai/best", "", ("openai", "best", "best")),
        ("lab/gpt-4o", "", ("lab", "its-gpt-4o", "gpt-4o")),
        ("demo/fast", "", ("demo", "demo", "demo")),
        # a name or an alias
        ("fast", "", ("openai", "its-fast", "fast")),
        ("quick", "", ("openai", "its-fast", "fast")),
        ("the/quick", "", ("openai", "its-fast", "fast")),
        ("groq-like", "", ("openai", "its-fast", "fast")),
        ("gpt-4o", "", ("lab", "its-gpt-4o", "gpt-4o")),
        ("org/model:free", "", ("openai", "its-org/model:free", "org/model:free")),
        ("o3<high>", "", ("lab", "its-o3<high>", "o3<high>")),
        ("cohere.command", "", ("lab", "its-cohere.command", "cohere.command")),
        # of a provider that is not configured, the prefix is a part of the name
        ("deepseek/deepseek-chat", "", ("groq", "its-deepseek/deepseek-chat", "deepseek/deepseek-chat")),
        ("mistral/x", "", ("openai", "mistral/x", "mistral/x")),
        # the default provider
        ("Fast", "", ("openai", "Fast", "Fast")),
        ("fast/", "", ("openai", "fast/", "fast/")),
        ("best", "", ("openai", "best", "best")),
        ("", "", ("openai", "gpt-4o-mini", "gpt-4o-mini")),
    ],
)
def test_who_is_asked_for_what(model: str, provider: str, expected: tuple[str, str, str]) -> None:
    """A body's provider, then a prefix, then a name or an alias, then a vendor's prefix, then the default."""
    assert first(catalogue(*FILE, entries=(place("lab"),)).route(model, provider)) == expected


def test_the_defaults_own_models_need_no_prefix() -> None:
    """`closeai/gpt-4o` of LLM Bridge's file, once closeai is the default."""
    where = catalogue(
        row("lab/m", "lab"), row("lab/n", "lab"), row("m", "openai"), entries=(place("lab"),), default="lab"
    )
    assert first(where.route("n")) == ("lab", "its-lab/n", "lab/n")
    assert first(where.route("m")) == ("openai", "its-m", "m"), "a name in full goes before it"


def test_a_vendors_prefix_means_oci() -> None:
    """`cohere.` means OCI once OCI is configured; until then the model's name is like any other."""
    assert first(catalogue().route("cohere.command-a")) == ("openai", "cohere.command-a", "cohere.command-a")
    oci = ProviderConfig("oci", "oci", "", missing="a key", model_ids=MODEL_IDS)
    with_oci = catalogue(row("meta.mine", "openai"), entries=(oci,))
    for model in ("cohere.command-a", "meta.llama", "xai.grok", "openai.gpt-oss", "google.gemini"):
        assert error_of(with_oci, model).code == "provider_not_configured"
    assert first(with_oci.route("meta.mine")) == ("openai", "its-meta.mine", "meta.mine")
    assert first(with_oci.route("mistral.large")) == ("openai", "mistral.large", "mistral.large")


@pytest.mark.parametrize("missing", ["a key", ""])
@pytest.mark.parametrize("model", ["cohere.command-a", "meta.llama-4", "openai.gpt-oss-20b-1:0"])
def test_ids_like_those_of_the_default_are_its_own(model: str, missing: str) -> None:
    """A second account at OCI, or a gateway in front of it, has models of the same names."""
    oci = ProviderConfig("oci", "oci", "", missing=missing, model_ids=MODEL_IDS)
    bedrock = ProviderConfig("bedrock-models", "bedrock-models", "", missing="a key", model_ids=BEDROCK_IDS)
    mine = place("mine", model="meta.llama-3.3-70b-instruct")
    where = catalogue(entries=(oci, bedrock, mine), default="mine")
    assert first(where.route(model)) == ("mine", model, model)


@pytest.mark.parametrize("default", ["", "groq", "lab", "demo"])
def test_a_name_goes_before_the_default(default: str) -> None:
    """PROVIDER_NAME is for those whom nobody else knows."""
    where = catalogue(row("m", "openai"), entries=(place("lab", model="x"),), default=default)
    assert where.default == (default or "openai")
    assert first(where.route("m")) == ("openai", "its-m", "m")
    assert everyone(where.route("")) == [where.default]


def test_a_provider_that_was_chosen_answers_itself() -> None:
    """A model that several have, asked for at one of them, is not asked for at the others."""
    where = catalogue(row("m", "openai:3", "groq", "lab"), entries=(place("lab"),))
    for _ in range(5):
        assert everyone(where.route("m", "groq")) == ["groq"]
        assert everyone(where.route("lab/m")) == ["lab"]
    assert where.route("m", "groq").row is where.route("m").row


# the default provider


def test_the_order_of_defaults() -> None:
    """The environment's order; a file's own provider after them, the demo last, a list's never."""
    lab = place("lab")
    assert catalogue(entries=(lab,)).default == "openai"
    assert catalogue(entries=(lab,), variables={"GROQ_API_KEY": "k"}).default == "groq"
    assert catalogue(entries=(lab,), variables={}).default == "lab"
    assert catalogue(entries=(lab,), variables={}, default="demo").default == "demo"
    assert catalogue(entries=(place("lab", address=""),), variables={}).default == "demo"
    listed = replace(place("list-openai", has_only_listed_models=True), is_default_candidate=False)
    assert catalogue(entries=(listed,), variables={}).default == "demo"
    key = vendor_entry(Vendor(name="openai", label="", base_url="http://o/v1"), {}, key="k")
    assert catalogue(entries=(lab, key), variables={"GROQ_API_KEY": "k"}).default == "openai"


@pytest.mark.parametrize(
    ("name", "message"), [("nobody", "known are openai, "), ("deepseek", "needs DEEPSEEK_API_KEY")]
)
def test_a_default_that_cannot_be_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match="PROVIDER_NAME") as caught:
        catalogue(FILE[0], default=name)
    assert message in str(caught.value)


# unknown providers and models


def test_an_unknown_provider_is_told_the_known() -> None:
    """The error lists the providers that are known."""
    found = error_of(catalogue(FILE[0], entries=(place("lab"),)), "fast", "nobody")
    assert (found.status, found.code, found.param) == (400, "unknown_provider", "provider")
    assert all(name in found.message for name in ("openai", "lab", "demo"))


def test_a_model_whose_provider_is_not_configured_says_what_it_needs() -> None:
    """A provider that is not configured is named as such, also by its prefix."""
    where = catalogue(row("m", "deepseek"), row("both", "deepseek", "groq"))
    for model, provider in (("m", ""), ("m", "deepseek"), ("x", "deepseek")):
        found = error_of(where, model, provider)
        assert (found.status, found.code) == (400, "provider_not_configured")
        assert "DEEPSEEK_API_KEY" in found.message
    assert everyone(where.route("both")) == ["groq"]


def test_who_lists_all_its_models_has_no_others() -> None:
    """A provider with a complete list has no models besides; an agent or the demo answers to any name."""
    where = catalogue(row("lab/m", "lab"), row("n", "lab"), entries=(place("lab", has_only_listed_models=True),))
    assert first(where.route("lab/m")) == first(where.route("m", "lab")) == ("lab", "its-lab/m", "lab/m")
    assert first(where.route("n", "lab")) == ("lab", "its-n", "n")
    assert first(where.route("lab/lab/m")) == first(where.route("lab/m", "lab")) == ("lab", "its-lab/m", "lab/m")
    for model, provider in (("lab/x", ""), ("x", "lab"), ("lab/lab/x", "lab")):
        found = error_of(where, model, provider)
        assert isinstance(found, UnknownModel)
        assert (found.status, found.code, found.param) == (404, "model_not_found", "model")


def test_who_passes_unknown_names_on() -> None:
    """`pass_unknown`, and providers that list nothing."""
    where = catalogue(row("lab/m", "lab"), entries=(place("lab", has_only_listed_models=False),))
    assert first(where.route("lab/x")) == ("lab", "x", "x")


def test_the_demo_swallows_no_name_when_there_are_models() -> None:
    """A slip of the pen is a 404, not a robot's answer on somebody's phone."""
    where = catalogue(row("m", "lab"), entries=(place("lab", address=""),), variables={})
    assert where.default == "demo"
    assert isinstance(error_of(where, "n"), UnknownModel)
    assert error_of(where, "m").code == "provider_not_configured"
    assert first(where.route("")) == first(where.route("n", "demo")) == first(where.route("demo/n"))


def test_the_demo_answers_to_any_name_when_it_is_alone_or_chosen() -> None:
    """A provider with a complete list has no models besides; an agent or the demo answers to any name."""
    alone = catalogue(variables={})
    chosen = catalogue(row("m", "lab"), entries=(place("lab"),), variables={}, default="demo")
    for where in (alone, chosen):
        for model in ("", "gpt-4o-mini", "demo", "a/b", "demo/x"):
            assert first(where.route(model)) == ("demo", "demo", "demo")
    assert first(chosen.route("m")) == ("lab", "its-m", "m")


def test_the_demo_does_not_answer_for_a_list_that_is_awaited() -> None:
    """A caller who comes before the list (MODEL_LIST_URL) shall come again, and hear no robot."""
    environment = from_environment({}, demo_pace_ms=0)
    where = Catalogue({"environment": environment, "list": SourceContents()})
    with pytest.raises(UpstreamDown) as caught:
        where.route("claude-haiku-4-5")
    assert (caught.value.status, caught.value.code) == (503, "upstream_error")
    for model in ("", "demo", "demo/n"):
        assert first(where.route(model)) == ("demo", "demo", "demo")


def test_who_has_no_default_model_says_so() -> None:
    where = catalogue(entries=(place("lab"),), default="lab")
    found = error_of(where, "")
    assert (found.status, found.param) == (400, "model")
    assert "LAB_MODEL" in found.message


# what a model can


TOOL = [{"type": "function", "function": {"name": "f"}}]
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]


@pytest.mark.parametrize(
    ("flags", "body", "param"),
    [
        ({"tools": False}, {"tools": TOOL}, "tools"),
        ({"tools": False}, {"functions": [{"name": "f"}]}, "tools"),
        ({"tools": False}, {"tools": TOOL, "stream": True}, "tools"),
        ({"stream_tools": False}, {"tools": TOOL, "stream": True}, "tools"),
        ({"images": False}, {"messages": [*HI, *IMAGE]}, "messages[1].content"),
    ],
)
def test_what_a_model_cannot_is_refused(flags: dict[str, bool], body: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        catalogue(row("m", "openai", **flags)).chat_route(chat(**body))
    assert (caught.value.status, caught.value.param) == (400, param)
    assert "'m'" in caught.value.message


@pytest.mark.parametrize(
    ("flags", "body"),
    [
        ({}, {"tools": TOOL, "messages": IMAGE, "stream": True}),
        ({"stream_tools": False}, {"tools": TOOL}),
        ({"tools": False}, {"messages": IMAGE}),
        (
            {"images": False},
            {"tools": TOOL, "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        ),
        ({"tools": False, "images": False}, {"tools": [], "messages": [{"role": "assistant", "content": None}]}),
    ],
)
def test_what_a_model_can_is_not_refused(flags: dict[str, bool], body: dict[str, Any]) -> None:
    where = catalogue(row("m", "openai", **flags))
    assert where.chat_route(chat(**body)).row is not None
    assert where.chat_route(chat("nobody's", **body)).row is None


# round they go


def targets_asked(where: Catalogue, times: int, model: str = "m") -> list[str]:
    return [where.route(model).targets[0].provider.name for _ in range(times)]


@pytest.mark.parametrize(
    ("weights", "longest"), [((3, 1), 3), ((1, 1), 1), ((5, 3, 2), 2), ((100, 1), 100), ((7,), 100)]
)
def test_weights_are_shares_of_the_requests(weights: tuple[int, ...], longest: int) -> None:
    """And evenly: no place has more in a row than it must."""
    names = [f"p{number}" for number in range(len(weights))]
    places = [f"{name}:{weight}" for name, weight in zip(names, weights, strict=True)]
    where = catalogue(row("m", *places), entries=tuple(place(name) for name in names))
    rounds = 10
    order = targets_asked(where, rounds * sum(weights))
    assert Counter(order) == {name: rounds * weight for name, weight in zip(names, weights, strict=True)}
    assert not any(order[at : at + longest + 1] == [names[-1]] * (longest + 1) for at in range(len(order)))


def test_a_round_of_many_turns_is_made_quickly() -> None:
    many = [Deployment("lab", f"m{number}", 100 - number % 2) for number in range(100)]
    assert seconds(lambda: weighted_rotation(many)) < SECOND
    assert weighted_rotation([Deployment("lab", "m", 100), Deployment("groq", "m", 100)]) == (0, 1)


def test_the_others_are_left_for_when_the_first_fails() -> None:
    where = catalogue(row("m", "openai", "groq", "lab:2"), entries=(place("lab"),))
    for _ in range(8):
        assert sorted(everyone(where.route("m"))) == ["groq", "lab", "openai"]


def test_accounts_have_turns() -> None:
    accounts = tuple(place(name) for name in ("lab", "lab#2", "lab#3"))
    where = catalogue(row("m", "lab", "lab#2", "lab#3"), entries=accounts)
    assert Counter(targets_asked(where, 30)) == {"lab": 10, "lab#2": 10, "lab#3": 10}
    assert Counter(everyone(where.route("m", "lab"))) == {"lab": 1, "lab#2": 1, "lab#3": 1}
    assert {target.name for target in where.route("m").targets} == {"lab/its-m", "lab#2/its-m", "lab#3/its-m"}


def test_each_model_has_its_own_turns() -> None:
    where = catalogue(row("m", "openai", "groq"), row("n", "openai", "groq"))
    assert [targets_asked(where, 1, model) for model in ("m", "n", "m", "n")] == [
        ["openai"],
        ["openai"],
        ["groq"],
        ["groq"],
    ]


def test_who_failed_too_often_comes_last() -> None:
    """An open breaker is passed over, while another is left."""
    broken: set[str] = set()
    where = catalogue(row("m", "openai:3", "groq"), row("one", "groq"), is_open=broken.__contains__)
    broken.add("openai/its-m")
    assert targets_asked(where, 8) == ["groq"] * 8
    assert everyone(where.route("m")) == ["groq", "openai"]
    broken.add("groq/its-m")
    assert Counter(targets_asked(where, 8)) == {"openai": 6, "groq": 2}
    broken.clear()
    assert Counter(targets_asked(where, 8)) == {"openai": 6, "groq": 2}


# which source goes first


def test_a_file_goes_before_the_list_before_the_environment() -> None:
    def contents_of(address: str) -> SourceContents:
        return SourceContents((place("openai", address),), (row("m", "openai", owned_by=address),))

    everybody = {name: contents_of(f"http://{name}/v1") for name in ("environment", "list", "file")}
    for name in ("file", "list", "environment"):
        where = Catalogue(everybody)
        assert where.snapshot.entries["openai"].options["base_url"] == f"http://{name}/v1"
        assert [each.owned_by for each in where.snapshot.rows] == [f"http://{name}/v1"]
        del everybody[name]


def test_a_name_that_two_tell_of_is_one_models() -> None:
    """An alias of a model that is not believed leads nowhere, rather than to a mixture of two."""
    where = catalogue(row("m", "openai"), row("n", "openai", aliases=("x",)))
    other = (row("m", "groq", aliases=("mine",)), row("x", "groq"), row("o", "groq", aliases=("n",)))
    where.replace("list", SourceContents((), other))
    assert sorted(where.snapshot.names) == ["m", "n", "o", "x"]
    assert {name: where.route(name).row.name for name in "mnox"} == {"m": "m", "n": "n", "x": "n", "o": "o"}
    assert {name: first(where.route(name))[0] for name in "mnox"} == {
        "m": "openai",
        "n": "openai",
        "x": "openai",
        "o": "groq",
    }


def test_a_model_at_a_provider_that_nobody_tells_of_is_refused() -> None:
    with pytest.raises(ValueError, match="'nobody'"):
        catalogue(row("m", "nobody"))


# when a source has something new


def test_what_is_new_takes_the_place_of_what_was() -> None:
    where = catalogue(row("a", "lab"), row("b", "lab"), entries=(place("lab"),))
    before = where.snapshot
    where.replace("file", SourceContents((place("other"),), (row("b", "other"), row("c", "other"))))
    assert first(where.route("b")) == ("other", "its-b", "b")
    assert first(where.route("c")) == ("other", "its-c", "c")
    assert first(where.route("a")) == ("openai", "a", "a")
    assert error_of(where, "a", "lab").code == "unknown_provider"
    assert sorted(before.names) == ["a", "b"], "a snapshot never changes"
    assert "lab" in before.entries


def test_a_request_works_with_what_it_began_with() -> None:
    """A provider that goes while its request is under way: not a 500."""
    where = catalogue(row("a", "lab"), entries=(place("lab"),))

    class Late(str):
        """A name at whose first reading the file changes."""

        __slots__ = ()

        def partition(self, separator: str) -> tuple[str, str, str]:
            where.replace("file", SourceContents())
            return super().partition(separator)

    assert first(where.route(Late("a"))) in (("lab", "its-a", "a"), ("openai", "a", "a"))


def build_provider(where: Catalogue, name: str) -> Provider:
    return where.route("any", name).targets[0].provider


def test_a_provider_that_stays_as_it_is_is_kept() -> None:
    """Its connections too: a change of the file costs nobody a handshake."""
    where = catalogue(row("m", "lab"), entries=(place("lab"), place("pool")))
    lab, pool, openai = (build_provider(where, name) for name in ("lab", "pool", "openai"))
    where.replace("file", SourceContents((place("lab"), place("pool", "http://pool/v1")), (row("n", "lab"),)))
    assert build_provider(where, "lab") is lab
    assert where.route("n").targets[0].provider is lab
    assert build_provider(where, "openai") is openai
    assert build_provider(where, "pool") is not pool
    assert build_provider(where, "pool") is build_provider(where, "pool")


@pytest.mark.parametrize("changed", [{"address": "http://b/v1"}, {"key": "k"}, {"proxy": "http://p:1"}])
def test_a_provider_that_is_configured_otherwise_is_built_anew(changed: dict[str, str]) -> None:
    where = catalogue(entries=(place("lab"),))
    before = build_provider(where, "lab")
    where.replace("file", SourceContents((place("lab", **changed),)))
    assert build_provider(where, "lab") is not before


@pytest.mark.parametrize(
    "lost", [SourceContents(), SourceContents((place("lab", address=""),)), SourceContents((), (row("m", "nobody"),))]
)
def test_what_would_lose_the_default_changes_nothing(lost: SourceContents) -> None:
    where = catalogue(row("m", "lab"), entries=(place("lab"),), default="lab")
    before = where.snapshot
    with pytest.raises(ValueError, match=r"PROVIDER_NAME|nobody"):
        where.replace("file", lost)
    assert where.snapshot is before
    where.replace("list", SourceContents((), (row("n", "lab"),)))
    assert sorted(where.snapshot.names) == ["m", "n"], "and what it told before still holds"


def test_the_default_moves_on_when_nobody_chose_it() -> None:
    where = catalogue(entries=(place("lab"), place("pool")), variables={})
    assert where.default == "lab"
    where.replace("file", SourceContents((place("pool"),)))
    assert where.default == "pool"


def test_the_demo_does_not_answer_in_the_place_of_a_provider_that_was_there() -> None:
    where = catalogue(row("m", "lab"), entries=(place("lab"),), variables={})
    with pytest.raises(ValueError, match="without 'lab' there is no provider but the demo"):
        where.replace("file", SourceContents((), (row("m", "demo"),)))
    assert where.default == "lab"
    assert first(where.route("m"))[0] == "lab"
    chosen = catalogue(entries=(place("lab"),), variables={}, default="demo")
    chosen.replace("file", SourceContents())
    assert chosen.default == "demo"


# what a row changes


def body_of(target: Target, strict: bool = False, **body: Any) -> dict[str, Any]:
    return to_upstream(chat(**body), target, Vendor(name="lab", label="Lab", strict=strict))


def target_of(**fields: Any) -> Target:
    return catalogue(row("m", "openai", **fields)).route("m").targets[0]


def test_rules_are_applied_in_their_order() -> None:
    """Update, add, rename, delete."""
    rules = ParameterRules(
        update={"temperature": 0.6, "max_tokens": 5},
        add={"reasoning_effort": "low", "seed": 1, "top_p": 1},
        rename={"max_tokens": "max_reasoning_token", "seed": "random_seed", "not": "there"},
        delete=("top_p", "user", "nothing"),
    )
    sent = body_of(target_of(rules=rules), temperature=1, reasoning_effort="high", user="me")
    assert sent == {
        "messages": HI,
        "model": "its-m",
        "temperature": 0.6,
        "reasoning_effort": "high",
        "max_reasoning_token": 5,
        "random_seed": 1,
    }


def test_a_strict_upstream_gets_what_its_rules_say() -> None:
    """What OpenAI does not publish is left out, unless the file asks for it."""
    sent = body_of(target_of(rules=ParameterRules(add={"thinking": True})), strict=True, top_k=5)
    assert sent == {"messages": HI, "model": "its-m", "thinking": True}


@pytest.mark.parametrize(
    ("asked_for", "sent"),
    [
        ({}, {}),
        ({"max_tokens": 100}, {"max_tokens": 100}),
        ({"max_tokens": 5000}, {"max_tokens": 512}),
        ({"max_completion_tokens": 5000, "max_tokens": 7}, {"max_completion_tokens": 512, "max_tokens": 7}),
    ],
)
def test_a_cap_on_tokens(asked_for: dict[str, int], sent: dict[str, int]) -> None:
    assert body_of(target_of(max_tokens=512), **asked_for) == {"messages": HI, "model": "its-m", **sent}


def test_a_row_changes_what_it_says_and_no_more() -> None:
    timeouts = Timeouts(1, 2, 3, 4)
    where = catalogue(
        row("m", "openai", timeouts={"idle": 9, "total": 10}, ttft_timeout=0.8), row("n", "openai"), timeouts=timeouts
    )
    target, other = where.route("m").targets[0], where.route("n").targets[0]
    assert (target.timeouts, target.ttft_timeout) == (Timeouts(1, 2, 9, 10), 0.8)
    assert (other.timeouts, other.ttft_timeout, other.max_tokens, other.rules) == (
        timeouts,
        None,
        None,
        ParameterRules(),
    )


def test_variants_send_different_bodies(serve: Callable[..., Served], upstream: OpenAIUpstream, tmp_path: Path) -> None:
    """LLM Bridge's form, its base_url with /chat/completions, two variants of one model, each with its own body."""
    file = tmp_path / "models.yaml"
    file.write_text(f"""
providers:
  closeai:
    base_url: {upstream.base_url}/chat/completions
    api_key: "{upstream.key}"
    models:
      o3<low>: {{max_tokens: 64, param_config: {{add_params: {{reasoning_effort: low}}}}}}
      o3<high>: {{param_config: {{update_params: {{reasoning_effort: high}}, delete_params: [temperature]}}}}
""")
    app = serve(MODELS_FILE=file)
    for effort in ("low", "high"):
        body = chat_body(model=f"closeai/o3<{effort}>", temperature=1, max_tokens=4096, stream=effort == "low")
        assert post(app.port, body)[0] == 200
    low, high = (received.json for received in upstream.received)
    assert (low["model"], low["reasoning_effort"], low["temperature"], low["max_tokens"]) == ("o3", "low", 1, 64)
    assert (high["model"], high["reasoning_effort"], high["max_tokens"]) == ("o3", "high", 4096)
    assert "temperature" not in high
    status, _, data = post(app.port, chat_body(model="closeai/o3<medium>"))
    assert (status, b"model_not_found" in data) == (404, True)
    assert len(upstream.received) == 2


def test_what_is_refused_never_leaves(app_with: Callable[..., Any], upstream: OpenAIUpstream, tmp_path: Path) -> None:
    """A model without tools or images refuses them before an upstream is asked."""
    file = tmp_path / "models.yaml"
    file.write_text("models: [{name: m, provider: openai, tool_call: false, multimodal: false}]")
    client = app_with(MODELS_FILE=file, **upstream.settings())
    for body, param in (({"tools": TOOL}, "tools"), ({"messages": IMAGE}, "messages[0].content")):
        details = openai_error(client.post("/v1/chat/completions", json=chat_body(**{"model": "m", **body})), 400)
        assert (details["code"], details["param"]) == ("unsupported_value", param)
    assert not upstream.received


# what is shown


def test_models_by_name_are_listed(app_with: Callable[..., Any], tmp_path: Path) -> None:
    """Names and aliases, by the ids to call them by; not those that cannot be called."""
    file = tmp_path / "models.yaml"
    file.write_text("""
providers: {house: {kind: demo}, lab: {models: {m: }}}
models:
  - {name: org/fast, provider: house, aliases: [quick], owned_by: us}
  - {name: none, provider: deepseek}
""")
    client = app_with(MODELS_FILE=file)
    rows = {each["id"]: each["owned_by"] for each in client.get("/v1/models").get_json()["data"]}
    assert (rows["org/fast"], rows["quick"]) == ("us", "us")
    assert not {"none", "lab/m"} & set(rows)
    for identifier, owner in rows.items():
        assert client.get(f"/v1/models/{identifier}").get_json()["owned_by"] == owner
        assert client.post("/v1/chat/completions", json=chat_body(model=identifier)).status_code == 200
    assert openai_error(client.get("/v1/models/none"), 404)["code"] == "model_not_found"


def test_the_providers_of_a_file_are_listed(app_with: Callable[..., Any], tmp_path: Path) -> None:
    """GET /v1/providers has the file's providers beside those of the environment."""
    file = tmp_path / "models.yaml"
    file.write_text(
        "providers: {lab: {base_url: http://a/v1, api_key: [hush-1, hush-2], model: x}, cloud: {kind: oci}}"
    )
    answer = app_with(MODELS_FILE=file).get("/v1/providers")
    rows = {each["name"]: each for each in answer.get_json()["providers"]}
    assert (rows["lab"]["available"], rows["lab"]["default_model"]) == (True, "x")
    assert (rows["cloud"]["available"], bool(rows["cloud"]["reason"])) == (False, True)
    assert "hush" not in answer.text


# ten thousand


@pytest.fixture(scope="module")
def many() -> SourceContents:
    rows = tuple(row(f"model-{number}", "lab", aliases=(f"alias-{number}",)) for number in range(10_000))
    return SourceContents((place("lab", has_only_listed_models=True),), rows)


def seconds(work: Callable[[], object]) -> float:
    """Of CPU: what the machine does besides does not count."""
    started = process_time()
    work()
    return process_time() - started


def test_ten_thousand_models_are_put_together_and_found_quickly(many: SourceContents) -> None:
    where = catalogue()
    assert seconds(lambda: where.replace("file", many)) < SECOND
    few = catalogue(*many.rows[:10], entries=many.entries)
    for each in (where, few):
        assert seconds(lambda each=each: [each.route("alias-7") for _ in range(5000)]) < SECOND
    assert first(where.route("alias-9999")) == ("lab", "its-model-9999", "model-9999")


def test_ten_thousand_models_are_listed_quickly(app_with: Callable[..., Any], many: SourceContents) -> None:
    client = app_with()
    where: Catalogue = client.application.extensions["thinkline"].catalogue
    where.replace("file", many)
    assert seconds(lambda: client.get("/v1/models")) < SECOND
    assert seconds(lambda: [client.get("/v1/models") for _ in range(10)]) < SECOND
    assert len(client.get("/v1/models").get_json()["data"]) >= 20_000
    assert seconds(lambda: client.get("/v1/models/alias-9999")) < SECOND
    with pytest.raises(GatewayError):
        ModelLists(where, 300).one("alias-10000")
