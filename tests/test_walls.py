"""The walls of the house: who may import whom, where the environment is read, and how long a file may be.

    client -> app -> views -> schemas -> dispatch -> providers -> upstream
    client <- views <- schemas <- events  <----------  providers <- upstream

What is checked is the code's own imports, wherever they stand in a file. To move a wall, change the table here.
"""

import ast
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ROOT

MAY_IMPORT: Mapping[str, str] = {
    # The edges of the service.
    "app": "config logs views views.* schemas.limits dispatch.* providers.base masking",
    "gunicorn.conf": "app config logs views.house views.limits views.succession views.threads",
    "config": "",
    "masking": "",
    "logs": "masking",
    "log_handlers": "",
    # What all rooms speak of: nothing of ours.
    "errors": "",
    "events": "",
    "lenient_json": "",
    # The corridor.
    "views": "",
    "views.*": "views.* schemas.* dispatch.* events errors",
    "schemas": "",
    "schemas.*": "schemas.* events errors lenient_json",
    "dispatch": "",
    "dispatch.*": "dispatch.* providers providers.base providers.vendors events errors",
    "dispatch.proxies": "dispatch.addresses providers.connect",
    "dispatch.models_file": "dispatch.* providers providers.base providers.connect providers.vendors schemas.catalogue",
    "dispatch.file_vendor": "dispatch.coherence providers.dialects providers.vendors",
    "providers": "providers.base",
    # A vendor's file: the means, and no other vendor's.
    "providers.*": (
        "providers.base providers.http providers.exchange providers.translate providers.turns providers.history "
        "providers.json_schema providers.structured providers.tool_names "
        "providers.sse providers.words providers.failures providers.pictures providers.vendors events errors"
    ),
    "providers.openai_compatible": (
        "providers.base providers.http providers.exchange providers.translate providers.failures providers.chunks "
        "providers.openai_answer providers.openai_request providers.pictures providers.returned providers.vendors "
        "events errors"
    ),
    "providers.openai_request": (
        "providers.base providers.dialects providers.history providers.pictures providers.vendors events errors"
    ),
    "providers.returned": "providers.base providers.dialects",
    "providers.oci*": (
        "providers.oci.* providers.base providers.http providers.exchange providers.translate providers.turns "
        "providers.history providers.json_schema providers.structured providers.tool_names "
        "providers.sse providers.words providers.failures providers.chunks providers.openai_answer events errors"
    ),
    "providers.anthropic": (
        "providers.base providers.http providers.exchange providers.translate providers.failures providers.vendors "
        "providers.anthropic_request providers.anthropic_answer providers.structured events errors"
    ),
    "providers.anthropic_request": (
        "providers.base providers.claude providers.json_schema providers.translate providers.turns events errors"
    ),
    "providers.gemini": (
        "providers.base providers.http providers.exchange providers.translate providers.failures providers.vendors "
        "providers.gemini_chat providers.gemini_answer providers.structured providers.tool_names events errors"
    ),
    "providers.cohere": (
        "providers.base providers.http providers.exchange providers.translate providers.failures providers.vendors "
        "providers.cohere_chat providers.cohere_answer providers.structured providers.tool_names events errors"
    ),
    "providers.demo*": "providers.base providers.words providers.demo* providers.examples events errors",
    "providers.bedrock*": (
        "providers.base providers.aws providers.bedrock_* providers.claude providers.sessions providers.translate "
        "providers.turns providers.words providers.json_schema providers.structured "
        "providers.exchange events errors"
    ),
    # The means themselves.
    "providers.base": "events errors",
    "providers.http": "providers.base providers.engine providers.connect events errors",
    "providers.exchange": (
        "providers.base providers.http providers.sse providers.translate providers.words events errors lenient_json"
    ),
    "providers.translate": "providers.json_schema errors events",
    "providers.history": "",
    "providers.json_schema": "errors",
    "providers.structured": "providers.translate providers.turns errors events",
    "providers.tool_names": "events",
    "providers.turns": "providers.history providers.translate errors",
    "providers.claude": "",
    "providers.pictures": (
        "providers.base providers.http providers.exchange providers.failures providers.translate providers.vendors "
        "events errors"
    ),
    "providers.connect": "providers.base providers.engine errors",
    "providers.aws": (
        "providers.base providers.http providers.exchange providers.failures providers.aws_* events errors"
    ),
    "providers.aws_clients": "providers.base providers.aws_failures errors",
    "providers.aws_failures": "providers.failures errors",
    "providers.sessions": "providers.base events",
    "providers.engine": "",
    "providers.sse": "",
    "providers.words": "",
    "providers.examples": "",
    "providers.dialects": "providers.base",
    "providers.vendors": "providers providers.dialects",
    "providers.failures": "providers.refusals errors masking",
    "providers.refusals": "",
    "providers.chunks": "events",
    "providers.passing": "providers.chunks providers.sse events errors",
    "providers.openai_answer": (
        "providers.base providers.http providers.exchange providers.failures providers.chunks providers.passing "
        "providers.sse providers.translate events errors"
    ),
    # Tools beside the house.
    "doctor": "tools.doctor.*",
    "tools": "",
    "tools.doctor": "",
    "tools.doctor.*": (
        "tools.doctor.* app config logs dispatch.* providers providers.base providers.vendors events errors"
    ),
    "test_streaming": "config streamcheck streamcheck.*",
    "streamcheck": "",
    "streamcheck.*": "streamcheck.*",
    "bench": "",
    "bench.*": "bench bench.* tests",
}
"""Module or pattern: the modules of ours that it may import. An exact name beats a pattern, a longer one a shorter."""

ENVIRONMENT = {"config"}
"""Who may read the environment."""

MOST_LINES = 300
LONGER: Mapping[str, str] = {
    "config.py": "a list of settings, of a few lines each",
    "events.py": "what is asked and what is said, as values of a few lines each",
}
"""Files that may be longer, each with the reason."""


class Import(NamedTuple):
    """One import of one of our modules by another."""

    importer: str
    imported: str
    place: str


def name_of(path: Path) -> str:
    """The module's dotted name: providers/demo.py is providers.demo."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files() -> dict[str, Path]:
    """Our modules, by name, without the tests."""
    found = [*ROOT.glob("*.py"), *(path for path in ROOT.glob("*/**/*.py") if not skipped(path))]
    return {name_of(path): path for path in found}


def skipped(path: Path) -> bool:
    first = path.relative_to(ROOT).parts[0]
    return first.startswith(".") or first == "tests"


MODULES = files()


def parsed(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"), str(MODULES[name]))


def imports_of(name: str, tree: ast.AST) -> Iterator[Import]:
    """What a module imports of ours; `from views import chat` is views.chat, or views where that is no module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            targets = [_absolute(name, node, alias.name) for alias in node.names]
        else:
            continue
        place = f"{MODULES[name].relative_to(ROOT)}:{node.lineno}" if name in MODULES else f"{name}:{node.lineno}"
        for target in targets:
            if found := next((each for each in _stems(target) if each in MODULES or each == "tests"), None):
                yield Import(name, found, place)


def _absolute(name: str, node: ast.ImportFrom, what: str) -> str:
    if not node.level:
        return f"{node.module}.{what}"
    package = name.split(".")[: -node.level] if not _is_package(name) else name.split(".")[: 1 - node.level or None]
    return ".".join([*package, *([node.module] if node.module else []), what])


def _is_package(name: str) -> bool:
    return name in MODULES and MODULES[name].name == "__init__.py"


def _stems(target: str) -> Iterator[str]:
    """a.b.c, a.b, a: the longest that is a module is the one imported."""
    parts = target.split(".")
    for length in range(len(parts), 0, -1):
        yield ".".join(parts[:length])


def allowed(name: str) -> list[str]:
    """The patterns of what a module may import."""
    fitting = [pattern for pattern in MAY_IMPORT if fnmatchcase(name, pattern)]
    assert fitting, f"{name} stands nowhere in MAY_IMPORT: say what it may import"
    return MAY_IMPORT[name if name in fitting else max(fitting, key=len)].split()


def forbidden(found: Iterator[Import]) -> list[str]:
    wrong = {
        each: f"{each.place}: {each.importer} may not import {each.imported}"
        for each in found
        if each.importer != each.imported
        and not any(fnmatchcase(each.imported, pattern) for pattern in allowed(each.importer))
    }
    return list(wrong.values())


def all_imports() -> list[Import]:
    return [each for name in MODULES for each in imports_of(name, parsed(name))]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_what_it_may(name: str) -> None:
    wrong = forbidden(imports_of(name, parsed(name)))
    assert not wrong, "\n".join(["", *wrong])


def test_the_arrows_of_the_corridor() -> None:
    """The table above cannot quietly allow what the plan of the house forbids."""
    rooms = {(each.importer.split(".")[0], each.imported.split(".")[0]) for each in all_imports()}
    arrows = {(one, other) for one, other in rooms if one != other}
    for never in (
        ("providers", "dispatch"),
        ("providers", "schemas"),
        ("providers", "views"),
        ("dispatch", "views"),
        ("schemas", "providers"),
        ("schemas", "dispatch"),
        ("schemas", "views"),
        ("views", "providers"),
        ("views", "app"),
    ):
        assert never not in arrows, never
    schemas = {each.importer for each in all_imports() if each.imported.startswith("schemas.")}
    assert {each for each in schemas if each.startswith("dispatch.")} <= {"dispatch.models_file"}
    assert {one for one, other in arrows if other == "views"} <= {"app", "gunicorn"}
    assert {one for one, other in arrows if other == "logs"} <= {"app", "gunicorn", "tools"}
    assert {one for one, other in arrows if other == "config"} <= {"app", "gunicorn", "tools", "test_streaming"}
    assert not {other for one, other in arrows if one in ("events", "errors", "config", "masking")}
    assert {one for one, other in arrows if other in ("tests", "bench", "streamcheck")} <= {"bench", "test_streaming"}


def test_only_the_transport_looks_into_the_engine() -> None:
    users = {each.importer for each in all_imports() if each.imported == "providers.engine"}
    assert users <= {"providers.http", "providers.connect"}


def test_no_vendor_imports_another() -> None:
    """What vendors share stands in base, http, sse and the helpers, so that any one of them can be removed."""
    vendors = {target.partition(":")[0] for target in _table().values()}
    crossing = [each.place for each in all_imports() if {each.importer, each.imported} <= vendors]
    assert not crossing


def _table() -> dict[str, str]:
    """PROVIDERS, read and not run."""
    for node in parsed("providers").body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PROVIDERS":
            table: dict[str, str] = ast.literal_eval(node.value)
            return table
    raise AssertionError("providers/__init__.py has no PROVIDERS")


def test_there_are_no_circles() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for each in all_imports():
        if each.importer != each.imported:
            graph[each.importer].add(each.imported)
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def reads_of_the_environment(tree: ast.AST) -> list[int]:
    """The lines that read, or write, environment variables."""
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            hit = node.attr in names and isinstance(node.value, ast.Name) and node.value.id in ("os", "posix")
        elif isinstance(node, ast.ImportFrom):
            hit = node.module in ("os", "posix") and any(alias.name in {*names, "*"} for alias in node.names)
        else:
            hit = isinstance(node, ast.Import) and any(alias.name == "os" and alias.asname for alias in node.names)
        if hit:
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("name", sorted(set(MODULES) - ENVIRONMENT))
def test_the_environment_is_read_in_one_place(name: str) -> None:
    lines = reads_of_the_environment(parsed(name))
    assert not lines, f"{MODULES[name].relative_to(ROOT)}, lines {lines}: only config.py reads the environment"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_file_grows_beyond_reading(name: str) -> None:
    path = MODULES[name].relative_to(ROOT).as_posix()
    length = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    if length > MOST_LINES:
        assert LONGER.get(path), f"{path} has {length} lines: divide it, or list it in LONGER with the reason"


def test_the_list_of_longer_files_is_up_to_date() -> None:
    assert set(LONGER) <= {path.relative_to(ROOT).as_posix() for path in MODULES.values()}


# the checks can fail


@pytest.mark.parametrize(
    ("name", "code", "imported"),
    [
        ("providers.demo", "from dispatch.relay import Call", "dispatch.relay"),
        ("providers.demo", "def f():\n    import views.chat", "views.chat"),
        ("providers.demo", "from providers import openai_compatible", "providers.openai_compatible"),
        ("providers.demo", "from . import openai_compatible", "providers.openai_compatible"),
        ("providers.demo", "from .openai_compatible import PARAMETERS", "providers.openai_compatible"),
        ("providers.demo", "from .. import app", "app"),
        ("providers.openai_compatible", "import providers.demo as x", "providers.demo"),
        ("providers.openai_compatible", "from providers.engine import Pool", "providers.engine"),
        ("schemas.chat", "import providers", "providers"),
        ("views.chat", "from providers.base import Target", "providers.base"),
        ("views.chat", "import config", "config"),
        ("dispatch.relay", "from schemas.chat import load_chat", "schemas.chat"),
        ("dispatch.relay", "import logs", "logs"),
        ("events", "import errors", "errors"),
        ("app", "from tests.conftest import ROOT", "tests"),
        ("providers.newcomer", "from providers.demo import DemoProvider", "providers.demo"),
    ],
)
def test_a_wrong_import_is_found_with_its_place(name: str, code: str, imported: str) -> None:
    (found,) = forbidden(imports_of(name, ast.parse(code)))
    assert found.endswith(f"{name} may not import {imported}")
    assert f":{code.count(chr(10)) + 1}: " in found


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.environ['A']",
        "import os\nos.getenv('A')",
        "from os import environ",
        "from os import getenv as get",
        "from os import *",
        "import os as system",
    ],
)
def test_a_read_of_the_environment_is_found(code: str) -> None:
    assert reads_of_the_environment(ast.parse(code)) == [code.count("\n") + 1]
