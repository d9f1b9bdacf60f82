"""The papers say what the code does: README.md, .env.example, CONTRIBUTING.md, CHANGELOG.md, Dockerfile, deploy/."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import Field
from fnmatch import fnmatch
from functools import cache
from io import StringIO
from pathlib import Path
from shutil import copy, copytree
from typing import Any

import pytest
from dotenv import dotenv_values

from app import build_services
from config import Settings, documented
from core import errors
from dispatch.sources.environment import from_environment
from providers.vendors import VENDORS, Vendor
from tests.conftest import ROOT, environment

PAPERS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
FILE = re.compile(r"(\./)?[\w.-]+(/[\w.-]+)*(\.(py|md|txt|toml|service|example)|/)|Makefile|Dockerfile|LICENSE")
WORKPLACE = re.compile(r"(?<![\w.~-])/(work|tmp)/")
CURL = re.compile(r"^curl .*?http://127\.0\.0\.1:8000(\S+).*?-d '(.*?)'$", re.MULTILINE | re.DOTALL)
ASSIGNMENT = re.compile(r"^# (?P<about>.+)\n#(?P<name>[A-Z_]+)=(?P<default>.*)$", re.MULTILINE)


@cache
def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(title: str) -> str:
    """The part of README.md under a heading, up to the next heading of its rank or a higher one."""
    before, found, rest = f"\n{read('README.md')}".partition(f" {title}\n")
    assert found, f"README lacks the heading {title!r}"
    rank = len(before.rpartition("\n")[2])
    return re.split(rf"^#{{2,{rank}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[str]:
    """The rows of a Markdown table, without its head."""
    return [line for line in text.splitlines() if line.startswith("|")][2:]


def blocks(kind: str, paper: str = "README.md") -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", read(paper), re.MULTILINE | re.DOTALL)


def same(expected: list[str], found: list[str], where: str) -> None:
    """The same lines, in the same order; each that is not has its own line in the message."""
    lacking = [f"{where} lacks the line: {line}" for line in expected if line not in found]
    foreign = [f"{where} has a line that the code knows nothing of: {line}" for line in found if line not in expected]
    assert not lacking + foreign, "\n".join(["", *lacking, *foreign])
    assert found == expected, f"{where} has its lines in another order than the code"


# settings


def shown(default: Any) -> str:
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
    default = shown(setting.default)
    return f"| `{setting.name.upper()}` | {f'`{default}`' if default else 'unset'} | {sentence(setting, '`')} |"


def test_readme_has_every_setting_and_no_other():
    same([setting_row(each) for each in documented()], rows(section("Settings")), "README's table of settings")


def test_env_example_has_every_setting_and_no_other():
    expected = [f"{each.name.upper()}={shown(each.default)}  # {sentence(each)}" for each in documented()]
    settings = read(".env.example").partition("# Providers -")[0]
    found = [f"{name}={default}  # {about}" for about, name, default in ASSIGNMENT.findall(settings)]
    same(expected, found, ".env.example")


def test_env_example_sets_nothing_and_spells_the_defaults_as_they_are_read():
    assert not dotenv_values(ROOT / ".env.example"), ".env.example sets something: every line must be a comment"
    uncommented = re.sub(r"^#(?=[A-Z])", "", read(".env.example"), flags=re.MULTILINE)
    values = {name: value or "" for name, value in dotenv_values(stream=StringIO(uncommented)).items()}
    loaded = Settings.load({**values, "ENV_FILE": "/dev/null"})
    wrong = [each.name.upper() for each in documented() if getattr(loaded, each.name) != each.default]
    assert not wrong, f".env.example's own values are not the defaults: {wrong}"


def test_readme_writes_no_setting_that_does_not_exist():
    vendors = "|".join(vendor.variable for vendor in VENDORS)
    known = {"ENV_FILE", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"}
    for each in documented():
        known |= {each.name.upper(), *each.metadata["also"], *each.metadata["choices"]}
    others = "AZURE_OPENAI_(API_KEY|ENDPOINT)|AWS_[A-Z_]+"
    upstream = re.compile(rf"({vendors})_(API_KEY|BASE_URL|MODEL)|{others}")
    for paper in PAPERS:
        names = set(re.findall(r"\b[A-Z]{2,}_[A-Z_]+\b", read(paper)))
        wrong = [name for name in names - known if not upstream.match(name)]
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
    lacking = [name for name in upper - vendors if not re.search(rf"`{name}\b", read("README.md"))]
    platforms = [name for name in lacking if name.startswith(("AWS_ENDPOINT_URL_", "AWS_CONTAINER_"))]
    assert sorted(lacking) == sorted(platforms), f"README lacks {lacking}"
    settings = {each.name.upper() for each in documented()}
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


def test_readme_has_every_provider_and_no_other():
    same([vendor_row(each) for each in VENDORS], rows(section("Providers")), "README's table of providers")


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


# errors


def sources() -> Iterator[Path]:
    for folder in ("access", "dispatch", "providers", "schemas", "server", "views"):
        yield from (ROOT / folder).rglob("*.py")


def kinds_of(kind: type[errors.GatewayError]) -> Iterator[type[errors.GatewayError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from kinds_of(child)


def test_readme_has_every_error_that_is_raised_and_no_code_that_is_not():
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources())
    table = rows(section("Errors"))
    for kind in kinds_of(errors.GatewayError):
        if kind.__module__ == "core.errors" and kind.code and re.search(rf"\b{kind.__name__}\b", code):
            row = f"| {kind.status} | `{kind.type}` | `{kind.code}` |"
            assert any(line.startswith(row) for line in table), f"README's table of errors lacks the row: {row} ..."
    for name in re.findall(r"^\| \S+ \| `\w+` \| `(\w+)` \|", "\n".join(table), re.MULTILINE):
        assert f'"{name}"' in code + read("core/errors.py"), f"README names an error code that nothing raises: {name}"


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


def test_the_demo_answers_the_examples_as_readme_says(app_with):
    """The first two commands that a newcomer copies, and what README prints below them."""
    whole, stream = CURL.findall(read("README.md"))
    client = app_with()
    answer = client.post(whole[0], data=whole[1])
    printed = next(text for text in blocks("json") if '"chat.completion"' in text)
    assert without_changing(answer.json) == without_changing(json.loads(printed)), answer.text
    printed = next(text for text in blocks("text") if "chat.completion.chunk" in text)
    answer = client.post(stream[0], data=stream[1])
    assert frames(answer.text) == frames(printed), answer.text
    assert printed.rstrip().endswith("data: [DONE]")


def test_the_recipes_behind_a_voice_platform_lead_where_they_say():
    recipes = [dict(dotenv_values(stream=StringIO(text))) for text in blocks("sh") if "MODEL_ALIASES" in text]
    assert {each["PROVIDER_NAME"] for each in recipes} == {"oci", "bedrock-models"}
    model = next(json.loads(text) for text in blocks("json") if '"think"' in text)["think"]["provider"]["model"]
    for each in recipes:
        (target,) = build_services(Settings.load(environment(**each))).catalogue.route(model).targets
        assert target.provider.name == each["PROVIDER_NAME"]
        assert f"{model}={target.provider.name}/{target.model}" == each["MODEL_ALIASES"]


def test_the_error_is_as_readme_says(app_with):
    printed = next(text for text in blocks("json") if '"error"' in text)
    answer = app_with().post("/v1/chat/completions", json={"provider": "groq", "messages": [{"role": "user"}]})
    assert answer.json == json.loads(printed)


def test_the_paths_in_readme_answer(app_with):
    client = app_with()
    for method, path in re.findall(r"`(GET|POST) (/[^`]+)`", section("Endpoints")):
        answer = client.open(path.replace("{id}", "demo"), method=method)
        assert answer.status_code in (200, 400), f"{method} {path} answers {answer.status}"


# what the papers point at


@pytest.mark.parametrize("paper", PAPERS)
def test_links_lead_somewhere(paper):
    for target in re.findall(r"\]\(([^)\s]+)\)", read(paper)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        assert (ROOT / name).exists(), f"{paper} links to {target}, but there is no {name}"
        headings = re.findall(r"^#+ (.+)$", read(name or paper), re.MULTILINE) if anchor else []
        anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
        assert not anchor or anchor in anchors, f"{paper} links to #{anchor}; the headings are {anchors}"


def test_each_promise_is_held_by_tests_that_exist():
    held = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", section("Promises"))
    assert len(held) >= len(rows(section("Promises"))) > 5
    for file, name in held:
        assert re.search(rf"^def {name}\(", read(file), re.MULTILINE), f"{file} has no test {name}"


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
    told = []
    for path in files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        told += [f"{path.relative_to(ROOT)}:{number}: {line}" for number, line in enumerate(lines, 1) if found(line)]
    assert not told, "these lines hold an absolute path of somebody's machine:\n" + "\n".join(told)


def found(line: str) -> bool:
    return WORKPLACE.search(line) is not None


# where it runs


def test_the_image_holds_all_that_runs(tmp_path):
    """Docker itself is not needed: what the Dockerfile copies must start on its own."""
    for line in re.findall(r"^COPY (.+)$", read("Dockerfile"), re.MULTILINE):
        *names, target = line.split()
        for name in names:
            source = ROOT / name
            assert source.exists(), f"Dockerfile copies {name}, which does not exist"
            if source.is_dir():
                copytree(source, tmp_path / target)
            else:
                copy(source, tmp_path / target)
    code = "import app; print(app.create_app().test_client().get('/docs').status_code)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert run.stdout == "200\n", f"the image lacks something:\n{run.stderr}"


def test_data_dir_is_there_and_the_services_own():
    """It does not run as root, and cannot make the folder itself."""
    assert f"install -d -o thinkline {Settings().data_dir}\n" in read("Dockerfile")
    assert re.search(rf"install -d -o thinkline -g thinkline {Settings().data_dir}\b", read("README.md"))
    assert f"/opt/thinkline/{Settings().data_dir}" in read("deploy/thinkline.service")


def test_systemd_waits_for_the_streams_that_end():
    seconds = re.search(r"^TimeoutStopSec=(\d+)$", read("deploy/thinkline.service"), re.MULTILINE)
    assert seconds, "deploy/thinkline.service has no TimeoutStopSec"
    assert int(seconds[1]) > Settings().graceful_timeout, "systemd would kill streams that may still end"
