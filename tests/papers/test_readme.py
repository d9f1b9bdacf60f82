"""The documentation says what the code does: README.md, docs/, .env.example, CONTRIBUTING.md, Dockerfile, deploy/."""

import ast
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import Field
from fnmatch import fnmatch
from functools import cache
from io import StringIO
from itertools import takewhile
from os.path import normpath
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import pytest
from dotenv import dotenv_values

from app import build_services
from config import Settings, setting_fields
from core import errors
from dispatch.sources.environment import from_environment
from providers.common.conversation import OPENING
from providers.vendors import PROVIDERS as PROVIDERS_BY_KIND
from providers.vendors import VENDORS, Vendor
from tests.conftest import ROOT, environment
from tools import reference

PAGES = tuple(path.relative_to(ROOT).as_posix() for path in reference.pages())
PAPERS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", *PAGES)
MANUAL = ("README.md", *PAGES)
CLIENTS, PROVIDERS = "docs/clients/", "docs/providers/"
QUICKSTART, RESILIENCE = "docs/quickstart.md", "docs/resilience.md"
SETTINGS, ERRORS = "docs/reference/settings.md", "docs/reference/errors.md"
ENDPOINTS, LOGS = "docs/reference/endpoints.md", "docs/reference/logs.md"
FILE = re.compile(r"(\./)?[\w.-]+(/[\w.-]+)*(\.(py|md|txt|toml|service|example)|/)|Makefile|Dockerfile|LICENSE")
WORKPLACE = re.compile(r"(?<![\w.~-])/(work|tmp)/")
CURL = re.compile(r"^curl .*?http://127\.0\.0\.1:8000(\S+).*?-d '(.*?)'$", re.MULTILINE | re.DOTALL)
ASSIGNMENT = re.compile(r"^# (?P<about>.+)\n#(?P<name>[A-Z_]+)=(?P<default>.*)$", re.MULTILINE)


@cache
def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(title: str, paper: str) -> str:
    """The part of a page under a heading, up to the next heading of its rank or a higher one."""
    before, found, rest = f"\n{read(paper)}".partition(f" {title}\n")
    assert found, f"{paper} lacks the heading {title!r}"
    rank = len(before.rpartition("\n")[2])
    return re.split(rf"^#{{1,{rank}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[str]:
    """The rows of a Markdown table, the first of a text, without its head."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    return list(takewhile(lambda line: line.startswith("|"), lines[start:]))[2:]


def blocks(kind: str, paper: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", read(paper), re.MULTILINE | re.DOTALL)


def same(expected: list[str], found: list[str], where: str) -> None:
    """The same lines, in the same order; each that is not has its own line in the message."""
    lacking = [f"{where} lacks the line: {line}" for line in expected if line not in found]
    foreign = [f"{where} has a line that the code knows nothing of: {line}" for line in found if line not in expected]
    assert not lacking + foreign, "\n".join(["", *lacking, *foreign])
    assert found == expected, f"{where} has its lines in another order than the code"


# settings


def written_default(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:g}"
    return "" if default == () else str(default)


def sentence(setting: Field[Any], quote: str = "") -> str:
    facts = setting.metadata
    choices, also = (", ".join(f"{quote}{each}{quote}" for each in facts[key]) for key in ("choices", "also"))
    return facts["about"] + f" One of {choices}." * bool(choices) + f" Also read: {also}." * bool(also)


def setting_row(setting: Field[Any]) -> str:
    default = written_default(setting.default)
    return f"| `{setting.name.upper()}` | {f'`{default}`' if default else 'unset'} | {sentence(setting, '`')} |"


def test_the_page_of_settings_has_every_setting_and_no_other():
    same([setting_row(each) for each in setting_fields()], rows(read(SETTINGS)), f"{SETTINGS} (make docs)")


def test_env_example_has_every_setting_and_no_other():
    expected = [f"{each.name.upper()}={written_default(each.default)}  # {sentence(each)}" for each in setting_fields()]
    settings = read(".env.example").partition("# Providers -")[0]
    found = [f"{name}={default}  # {about}" for about, name, default in ASSIGNMENT.findall(settings)]
    same(expected, found, ".env.example")


def test_env_example_sets_nothing_and_spells_the_defaults_as_they_are_read():
    assert not dotenv_values(ROOT / ".env.example"), ".env.example sets something: every line must be a comment"
    uncommented = re.sub(r"^#(?=[A-Z])", "", read(".env.example"), flags=re.MULTILINE)
    values = {name: value or "" for name, value in dotenv_values(stream=StringIO(uncommented)).items()}
    loaded = Settings.load({**values, "ENV_FILE": "/dev/null"})
    wrong = [each.name.upper() for each in setting_fields() if getattr(loaded, each.name) != each.default]
    assert not wrong, f".env.example's own values are not the defaults: {wrong}"


def test_no_page_writes_a_setting_that_does_not_exist():
    vendors = "|".join(vendor.variable for vendor in VENDORS)
    known = {"ENV_FILE", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "ANTHROPIC_AUTH_TOKEN", "GLIBC_TUNABLES"}
    for each in setting_fields():
        known |= {each.name.upper(), *each.metadata["also"], *each.metadata["choices"]}
    others = "AZURE_OPENAI_(API_KEY|ENDPOINT)|AWS_[A-Z_]+|OTEL_[A-Z_]+"
    upstream = re.compile(rf"({vendors}|NAME)_(API_KEY|BASE_URL|MODEL)|{others}")
    for paper in PAPERS:
        text = re.sub(r"\$\{\w+[^}]*\}", "", read(paper))  # models.yaml may name variables of its writer's own
        names = set(re.findall(r"\b[A-Z]{2,}_[A-Z_]+\b", text))
        names -= known | {f"{name}_FILE" for name in known}  # each secret may stand in a file of its own
        wrong = [name for name in names if not upstream.match(name)]
        assert not wrong, f"{paper} names settings that do not exist: {wrong}"


class Recorder(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.asked.add(str(name))
        return super().__contains__(name)


def test_what_the_code_reads_besides_is_in_both():
    """Everything that the sources ask the environment for, with nothing set and with all that leads further."""
    keys = {f"{vendor.variable}_{kind}": "x" for vendor in VENDORS for kind in ("API_KEY",)}
    addresses = {f"{vendor.variable}_BASE_URL": "http://h/v1" for vendor in VENDORS}
    asked: set[str] = set()
    for values in ({}, keys, {**keys, **addresses}, {"AWS_PROFILE": "p"}, {"HTTPS_PROXY": "p:1", "HTTP_PROXY": "p:1"}):
        variables = Recorder(values)
        clouds = {**Settings().clouds, "agent_id": "A", "agent_alias_id": "B", "oci_region": "r"}
        from_environment(variables, demo_pace_ms=0, clouds=clouds)
        asked |= variables.asked
    assert {"OPENAI_MODEL", "AZURE_OPENAI_ENDPOINT", "AWS_PROFILE", "NO_PROXY"} <= asked
    upper = {name for name in asked if name.isupper()}
    uncommented = set(re.findall(r"^#([A-Z][A-Z0-9_]*)=", read(".env.example"), re.MULTILINE))
    spelt = set(re.findall(r"\b[A-Z][A-Z0-9_]*\b", read(".env.example")))
    assert upper <= spelt, f".env.example lacks {sorted(upper - spelt)}"
    vendors = {f"{vendor.variable}_{kind}" for vendor in VENDORS for kind in ("API_KEY", "BASE_URL", "MODEL")}
    manual = "\n".join(map(read, MANUAL))
    lacking = [name for name in upper - vendors if not re.search(rf"`{name}\b", manual)]
    platforms = [name for name in lacking if name.startswith(("AWS_ENDPOINT_URL_", "AWS_CONTAINER_"))]
    assert sorted(lacking) == sorted(platforms), f"the documentation lacks {lacking}"
    settings = {each.name.upper() for each in setting_fields()}
    foreign = uncommented - upper - settings
    assert not {name for name in foreign if not name.startswith("AWS_")}, f"nobody reads {foreign}"


# providers


def needs(vendor: Vendor) -> str:
    """What to set for a row to be used, in its own names and in those of the vendor's SDK."""
    kinds = ["API_KEY"] * (not vendor.keyless) + ["BASE_URL"] * (not vendor.base_url)
    names = [f"{vendor.variable}_{kind}" for kind in kinds] + ["AWS_REGION"] * ("{region}" in vendor.base_url)
    ours = " and ".join(f"`{name}`" for name in names)
    theirs = " and ".join(f"`{name}`" for names in vendor.env_aliases for name in names)
    return f"{ours}, or {theirs}" if theirs else ours


def vendor_row(vendor: Vendor) -> str:
    own = f"your own; `{vendor.path}` is added to a bare host"
    address = f"`{vendor.base_url}{vendor.path}`" if vendor.base_url else own
    model = f"`{vendor.model}`" if vendor.model else "none: name one"
    return f"| `{vendor.name}` | {vendor.label} | {needs(vendor)} | {address} | {model} |"


def test_the_page_of_providers_has_every_provider_and_no_other():
    same([vendor_row(each) for each in VENDORS], rows(read(f"{PROVIDERS}index.md")), "the table (make docs)")


def test_env_example_has_every_provider_and_no_other():
    expected = []
    for vendor in VENDORS:
        defaults = {"API_KEY": "", "BASE_URL": vendor.base_url, "MODEL": vendor.model}
        expected += [f"#{vendor.variable}_{kind}={default}" for kind, default in defaults.items()]
        expected += [f"(or {name})" for names in vendor.env_aliases for name in names]
    text = read(".env.example").partition("# Providers -")[2]
    names = [name for line in re.findall(r"names, (.+), are read", text) for name in line.split(", ")]
    found = re.findall(r"^#(?!AWS_|BEDROCK_MODELS_)[A-Z].*$", text, re.MULTILINE) + [f"(or {name})" for name in names]
    same(sorted(expected), sorted(found), ".env.example")


def test_the_lines_of_a_vendor_are_written_by_make_docs():
    text = read(".env.example")
    assert reference.env_example(text) == text
    groq = re.search(r"# Groq\n(#GROQ_.*\n)+\n", text)
    assert groq
    assert reference.env_example(text.replace(groq[0], "")) == text
    assert reference.env_example(text.replace("# Groq\n", "# Groq, by its own address\n")) != text


# errors


def sources() -> Iterator[Path]:
    """What runs in the service: all but the tests and the tools."""
    for path in files():
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] not in ("tools", "bench", "streamcheck"):
            yield path


def kinds_of(kind: type[errors.GatewayError]) -> Iterator[type[errors.GatewayError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from kinds_of(child)


def test_the_page_of_errors_has_every_error_that_is_raised_and_no_code_that_is_not():
    classes = Path(errors.__file__)
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources() if path != classes)
    table = rows(read(ERRORS))
    for kind in kinds_of(errors.GatewayError):
        if kind.__module__ == errors.__name__ and kind.code and re.search(rf"\b{kind.__name__}\b", code):
            row = f"| {kind.status} | `{kind.type}` | `{kind.code}` |"
            assert any(line.startswith(row) for line in table), f"{ERRORS} lacks the row: {row} ..."
    names = re.findall(r"^\| \S+ \| `\w+` \| `(\w+)` \|", "\n".join(table), re.MULTILINE)
    assert len(names) >= 20
    for name in names:
        assert f'"{name}"' in code + classes.read_text(), f"{ERRORS} names an error code that nothing raises: {name}"


# what the code knows


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_are_those_of_the_code(page):
    assert read(page) == reference.render_page(read(page)), f"{page} is not as the code is: run `make docs`"


def test_every_table_has_its_page():
    found = re.findall(r"^<!-- make docs: (\w+) -->$", "\n".join(map(read, PAGES)), re.MULTILINE)
    assert sorted(found) == sorted(reference.BLOCKS)


def test_a_table_that_is_not_the_codes_is_noticed():
    page = "before\n<!-- make docs: settings -->\n| one of nobody's |\n<!-- end -->\nafter\n"
    text = reference.render_page(page)
    assert text.startswith("before\n<!-- make docs: settings -->\n| Variable |")
    assert text.endswith("\n<!-- end -->\nafter\n")
    assert "nobody" not in text
    assert reference.render_page(text) == text
    empty = page.replace("| one of nobody's |\n", "")
    assert reference.render_page(empty) == text


def keys_of(title: str) -> set[str]:
    """The keys that the page of logs has for a line, by a part of its heading."""
    heading = next(each for each in re.findall(r"^## (.+)$", read(LOGS), re.MULTILINE) if f"`{title}`" in each)
    return set(re.findall(r"^\| `(\w+)` \|", section(heading, LOGS), re.MULTILINE))


class Keys(logging.Handler):
    """The keys of what is logged, by message."""

    def __init__(self) -> None:
        super().__init__()
        self.met: dict[str, set[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.met.setdefault(record.getMessage(), set()).update(getattr(record, "facts", ()))


def test_the_page_of_logs_has_every_key_of_a_requests_lines(app_with):
    hi = {"messages": [{"role": "user", "content": "hi"}]}
    bearer = {"Authorization": "Bearer secret"}
    client = app_with(API_KEYS="ada:secret", GROQ_API_KEY="x", GROQ_BASE_URL="http://127.0.0.1:9/v1", RETRIES=1)
    keys = Keys()
    logging.getLogger("thinkline").addHandler(keys)
    try:
        client.post("/v1/chat/completions", json={**hi, "stream": True, "provider": "demo"}, headers=bearer).get_data()
        client.post("/v1/chat/completions", json={**hi, "provider": "groq"}, headers=bearer)
        client.post("/v1/embeddings", json={"input": "hi", "provider": "demo"}, headers=bearer)
        client.post("/v1/images/generations", json={"prompt": "hi", "provider": "demo"}, headers=bearer)
        client.post("/v1/rerank", json={"query": "hi", "documents": ["a"], "provider": "demo"}, headers=bearer)
        client.post("/v1/chat/completions", json=hi, headers={"X-Forwarded-For": "192.0.2.1"})
    finally:
        logging.getLogger("thinkline").removeHandler(keys)
    assert {"caller", "inputs", "images", "documents", "tried", "said", "ttft_ms"} <= keys.met["request"]
    for message in ("request", "refused", "retry", "no answer"):
        lacking = keys.met[message] - keys_of(message)
        assert not lacking, f"{LOGS} lacks {lacking} of `{message}`: see LOG_KEYS in tools/reference.py"


def test_the_page_of_logs_has_no_key_that_nothing_writes():
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources())
    keys = [key for each in ("request", "refused", "retry") for key in keys_of(each)]
    assert len(keys) > 30
    assert not [key for key in keys if f'"{key}"' not in code]


# examples


@pytest.mark.parametrize("paper", PAPERS)
def test_json_is_json(paper):
    texts = blocks("json", paper) + re.findall(r"^data: ({.*)$", read(paper), re.MULTILINE)
    texts += [body for _, body in CURL.findall(read(paper))]
    for text in texts:
        try:
            json.loads(text)
        except ValueError as error:
            pytest.fail(f"{paper} has an example that is not JSON ({error}):\n{text}")


@pytest.mark.parametrize("paper", PAPERS)
def test_python_is_python(paper):
    for text in blocks("python", paper):
        ast.parse(text)


def without_changing(answer: Any) -> Any:
    return {key: value for key, value in answer.items() if key not in ("id", "created")}


def frames(text: str) -> list[Any]:
    return [without_changing(json.loads(data)) for data in re.findall(r"^data: ({.*)$", text, re.MULTILINE)]


def test_the_demo_answers_the_examples_as_the_quickstart_says(app_with):
    """The first two requests that a newcomer copies, and what the page prints below them."""
    whole, stream = CURL.findall(read(QUICKSTART))
    client = app_with()
    answer = client.post(whole[0], data=whole[1])
    printed = next(text for text in blocks("json", QUICKSTART) if '"chat.completion"' in text)
    assert without_changing(answer.json) == without_changing(json.loads(printed)), answer.text
    printed = next(text for text in blocks("text", QUICKSTART) if "chat.completion.chunk" in text)
    answer = client.post(stream[0], data=stream[1])
    assert frames(answer.text) == frames(printed), answer.text
    assert printed.rstrip().endswith("data: [DONE]")


@pytest.mark.parametrize("paper", [each for each in MANUAL if CURL.search(read(each))])
def test_the_demo_answers_every_request_that_can_be_copied(app_with, paper):
    for path, body in CURL.findall(read(paper)):
        answer = app_with().post(path, data=body)
        assert answer.status_code == 200, answer.text
        assert not json.loads(body).get("stream") or answer.text.endswith("data: [DONE]\n\n")


def test_the_recipes_behind_a_voice_platform_lead_where_they_say():
    page = f"{CLIENTS}deepgram.md"
    recipes = [dict(dotenv_values(stream=StringIO(text))) for text in blocks("sh", page) if "MODEL_ALIASES" in text]
    assert {each["PROVIDER_NAME"] for each in recipes} == {"oci", "bedrock-models"}
    model = next(json.loads(text) for text in blocks("json", page) if '"think"' in text)["think"]["provider"]["model"]
    for each in recipes:
        (target,) = build_services(Settings.load(environment(**each))).catalogue.route(model).targets
        assert target.provider.name == each["PROVIDER_NAME"]
        assert f"{model}={target.provider.name}/{target.model}" == each["MODEL_ALIASES"]


@pytest.mark.parametrize("client", ["deepgram", "vapi", "livekit", "openai"])
def test_readmes_recipes_are_those_of_the_clients_pages(client):
    """README has each in short: the same address, key and names."""
    kind = "json" if client in ("deepgram", "vapi") else "python"
    spelt = {word for text in blocks(kind, f"{CLIENTS}{client}.md") for word in re.findall(r"[\w./:-]+", text)}
    shorts = [set(re.findall(r"[\w./:-]+", text)) for text in blocks(kind, "README.md")]
    assert any(short <= spelt for short in shorts)


def test_the_error_is_as_the_page_says(app_with):
    printed = next(text for text in blocks("json", ERRORS) if '"error"' in text)
    answer = app_with().post("/v1/chat/completions", json={"provider": "groq", "messages": [{"role": "user"}]})
    assert answer.json == json.loads(printed)


def test_the_paths_of_the_page_answer(app_with):
    client = app_with()
    paths = re.findall(r"`(GET|POST) (/[^`]+)`", read(ENDPOINTS))
    assert {("POST", "/v1/chat/completions"), ("GET", "/health"), ("GET", "/docs")} <= set(paths)
    for method, path in paths:
        answer = client.open(path.replace("{id}", "demo"), method=method)
        error = (answer.json if answer.status_code == 404 else {}).get("error", {})
        is_unknown_id = error.get("code") in ("response_not_found", "request_not_found")
        assert answer.status_code in (200, 400) or is_unknown_id, f"{method} {path} answers {answer.status}"


# what the papers point at


def links(paper: str) -> list[str]:
    """What a page links to here, and the pictures that it shows; from the root, with the anchor."""
    found = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", read(paper))
    targets = [link or source for link, source in found if not (link or source).startswith("https://")]
    places = [(Path(paper).parent / each) if not each.startswith("#") else Path(f"{paper}{each}") for each in targets]
    return [normpath(each.as_posix()) for each in places]


def anchors(paper: str) -> list[str]:
    """The headings of a page as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.+)$", read(paper), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("paper", PAPERS)
def test_links_lead_somewhere(paper):
    for target in links(paper):
        name, _, anchor = target.partition("#")
        assert (ROOT / name).exists(), f"{paper} links to {target}, but there is no {name}"
        assert not anchor or anchor in anchors(name), f"{paper} links to #{anchor}; the headings are {anchors(name)}"


def test_a_platform_and_a_provider_are_one_click_away():
    direct = set(links("README.md"))
    lacking = [page for page in PAGES if page.startswith((CLIENTS, PROVIDERS)) and page not in direct]
    assert not lacking, f"README.md links to no {lacking}"


def test_every_page_is_found_from_readme():
    seen, left = set(), ["README.md"]
    while left:
        page = left.pop()
        seen.add(page)
        left += [each for link in links(page) if (each := link.partition("#")[0]) in PAGES and each not in seen]
    assert set(PAGES) <= seen, f"nothing links to {set(PAGES) - seen}"


def test_readme_is_read_in_one_go():
    assert 5_000 <= len(read("README.md").encode()) <= 8_192


def test_each_promise_is_held_by_tests_that_exist():
    promises = section("Promises", RESILIENCE)
    held = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promises)
    assert len(held) >= len(rows(promises)) > 5
    assert all("::" in row for row in rows(promises)), "a promise names no test"
    for file, name in held:
        assert re.search(rf"^def {name}\(", read(file), re.MULTILINE), f"{file} has no test {name}"


@pytest.mark.parametrize("paper", PAPERS)
def test_tests_exist(paper):
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", read(paper)):
        assert re.search(rf"^def {name}\(", read(file), re.MULTILINE), f"{paper} names {file}::{name}: there is none"


def test_each_override_names_its_test():
    overrides = [row for row in read("docs/server.md").splitlines() if row.startswith("| ") and "---" not in row]
    named = [row for row in overrides if "::" in row or "`make soak`" in row]
    assert len(named) >= 20
    assert len(overrides) - len(named) == 2, "a row of docs/server.md names no test"  # the two heads


def test_what_the_user_is_made_to_say_is_as_the_page_says():
    assert f'"{OPENING}"' in read(f"{PROVIDERS}bedrock-models.md")


def test_the_example_of_models_yaml_names_kinds_that_there_are():
    kinds = re.findall(r"^# *kind: ([\w-]+)", read("models.example.yaml"), re.MULTILINE)
    assert kinds
    assert set(kinds) <= set(PROVIDERS_BY_KIND)
    (others,) = re.findall(r"the default; others are .*, such as (.+)$", read("models.example.yaml"), re.MULTILINE)
    assert set(others.split(" and ")) <= set(PROVIDERS_BY_KIND)


def test_readmes_bounds_are_those_of_the_promises():
    promised = " ".join(rows(section("Promises", RESILIENCE)))
    for row in rows(section("What the tests hold", "README.md")):
        for bound in re.findall(r"\d+", row):
            assert re.search(rf"\b{bound}\b", promised), f"README.md has a bound that no promise has: {row}"


@pytest.mark.parametrize("paper", PAPERS)
def test_files_exist(paper):
    for code in re.findall(r"`([^`\n]+)`", read(paper)):
        for word in code.split():
            if FILE.fullmatch(word):
                assert (ROOT / word).exists(), f"{paper} mentions {word}, which does not exist"


@pytest.mark.parametrize("paper", PAPERS)
def test_make_targets_exist(paper):
    targets = re.findall(r"^([a-z][\w-]*):", read("Makefile"), re.MULTILINE)
    for code in re.findall(r"`([^`\n]+)`", read(paper)) + blocks("sh", paper):
        for target in re.findall(r"(?:^|&& )make ([a-z][\w-]*)", code, re.MULTILINE):
            assert target in targets, f"{paper} names `make {target}`, but the Makefile has {targets}"


def files() -> Iterator[Path]:
    """What belongs to the repository, besides its tests."""
    ignored = [line.strip("/") for line in read(".gitignore").split()] + [".git", "tests"]
    folders = [ROOT]
    while folders:
        for path in folders.pop().iterdir():
            if any(fnmatch(path.name, pattern) for pattern in ignored):
                continue
            if path.is_dir():
                folders.append(path)
            else:
                yield path


def test_no_file_tells_of_a_workplace():
    mentions = []
    for path in files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        mentions += [
            f"{path.relative_to(ROOT)}:{number}: {line}" for number, line in enumerate(lines, 1) if found(line)
        ]
    assert not mentions, "these lines hold an absolute path of somebody's machine:\n" + "\n".join(mentions)


def found(line: str) -> bool:
    return WORKPLACE.search(line) is not None


# where it runs


@pytest.mark.thorough
def test_the_image_holds_all_that_runs(tmp_path):
    """Docker itself is not needed: what the Dockerfile copies must start on its own."""
    lines = [line.split() for line in re.findall(r"^COPY (?!--from)(.+)$", read("Dockerfile"), re.MULTILINE)]
    for *names, target in lines:
        for name in names:
            source = ROOT / name
            assert source.exists(), f"Dockerfile copies {name}, which does not exist"
            if source.is_dir():
                copytree(source, tmp_path / target)
            else:
                (tmp_path / target).mkdir(parents=True, exist_ok=True)
                copy(source, tmp_path / target)
    kept = set(re.findall(r"^!(\S+)$", read(".dockerignore"), re.MULTILINE))
    copied = {name for *names, _ in lines for name in names}
    assert copied <= kept, f".dockerignore keeps {copied - kept} from the Dockerfile"
    code = "import app; print(app.create_app().test_client().get('/docs').status_code)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert run.stdout == "200\n", f"the image lacks something:\n{run.stderr}"
    for tool in (["doctor.py", "--help"], ["test_streaming.py", "--help"], ["-m", "tools.keys", "new", "alice"]):
        subprocess.run([sys.executable, *tool], cwd=tmp_path, env=environment(), capture_output=True, check=True)


def test_data_dir_is_there_and_the_services_own():
    """It does not run as root, and cannot make the folder itself."""
    assert f"install -d -o thinkline {Settings().data_dir}\n" in read("Dockerfile")
    assert re.search(rf"install -d -o thinkline -g thinkline {Settings().data_dir}\b", read("docs/operate/server.md"))
    assert f"/opt/thinkline/{Settings().data_dir}" in read("deploy/thinkline.service")


def test_systemd_waits_for_the_streams_that_end():
    seconds = re.search(r"^TimeoutStopSec=(\d+)$", read("deploy/thinkline.service"), re.MULTILINE)
    assert seconds, "deploy/thinkline.service has no TimeoutStopSec"
    assert int(seconds[1]) > Settings().graceful_timeout, "systemd would kill streams that may still end"
