"""The walls between the rooms: who may import whom, where the environment is read, and how long a file may be.

    client -> server -> views -> schemas -> dispatch -> providers -> upstream
    client <- server <- views <- schemas <- events  <----------  providers <- upstream

A room is a folder; what it may import follows from the folder's name, so that a new file needs no rule, nor a new
vendor. What is checked is the code's own imports, wherever they stand in a file.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

from providers.vendors import VENDORS
from tests.conftest import ROOT

ROOMS: Mapping[str, str] = {
    "core": "",
    "telemetry": "core.*",
    "storage": "core.*",
    "access": "core.*",
    "usage": "core.* storage.* telemetry.records",
    "schemas": "core.*",
    "providers": "core.*",
    "dispatch": "core.* providers providers.base providers.vendors providers.dialects providers.transport.proxy "
    "schemas.models_file",
    "server": "core.* schemas.errors",
    "voice": "core.* schemas.* server.sockets.socket dispatch.routing.voice_config providers.transport.client "
    "providers.transport.endpoint providers.transport.exchange",
    "views": "core.* schemas.* dispatch.* access.* usage.* server.* telemetry.records telemetry.metrics voice.*",
    "config": "",
    "app": "config core.* schemas.limits dispatch.* access.* storage.* usage.* telemetry.* server.* views.*",
    "gunicorn": "app config telemetry.* server.* dispatch.routing.catalogue",
    "doctor": "tools.doctor.*",
    "test_streaming": "config tools.streamcheck.*",
    "tools": "app config core.* dispatch.* providers providers.vendors schemas.openapi.* storage.* telemetry.* "
    "tests usage.*",
}
"""A room, by its folder or file: what of other rooms it may import."""

SHARED = "providers.base providers.vendors providers.transport.* providers.common.*"
FLOORS: Mapping[str, str] = {
    "providers": "providers.base providers.vendors",
    "providers.base": "",
    "providers.dialects": "providers.base",
    "providers.vendors": "providers.dialects",
    "providers.transport": "providers.base",
    "providers.common": "providers.base providers.vendors providers.transport.*",
    "providers.openai_compatible": f"{SHARED} providers.dialects",
    # OCI's newer models speak OpenAI's dialect.
    "providers.oci": f"{SHARED} providers.dialects providers.openai_compatible.*",
}
"""Within providers/: what may be imported of it. A vendor's folder that is not here may import what is SHARED, and no
other vendor's, so that any one of them can be removed.
"""

ENVIRONMENT = {"config", "tools.bench.peers", "tools.bench.processes"}
"""Who may read the environment: the settings, and the bench, which hands its own on to what it starts."""

MOST_LINES = 300
LONGER: Mapping[str, str] = {
    "config.py": "a list of settings, of a few lines each",
    "schemas/openapi/document.py": "a table of the endpoints, with what each is about",
    "tools/reference.py": "tables of sentences, a line each",
}
"""Files that may be longer, each with the reason."""


class Import(NamedTuple):
    """One import of one of our modules by another."""

    importer: str
    imported: str
    place: str


def name_of(path: Path) -> str:
    """The module's dotted name: providers/vendors.py is providers.vendors."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files() -> dict[str, Path]:
    """Our modules, by name, without the tests."""
    folders = [path for path in ROOT.iterdir() if path.is_dir() and path.name != "tests" and path.name[0] != "."]
    return {
        name_of(path): path for path in [*ROOT.glob("*.py"), *(path for each in folders for path in each.rglob("*.py"))]
    }


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


def room_of(name: str) -> str:
    """The first part of a module's name; for providers, the folder or file in it."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "providers" else parts[0]


def allowed(name: str) -> list[str]:
    """The patterns of what a module may import besides its own room."""
    first, room = name.split(".", maxsplit=1)[0], room_of(name)
    assert first in ROOMS, f"{name} stands in no room of ROOMS: say what it may import"
    patterns = ROOMS[first].split()
    return [*patterns, *FLOORS.get(room, SHARED).split()] if first == "providers" else patterns


def forbidden(found: Iterable[Import]) -> list[str]:
    """What is imported over a wall, with file and line."""
    wrong = {
        each: f"{each.place}: {each.importer} may not import {each.imported}"
        for each in found
        if room_of(each.importer) != room_of(each.imported)
        and not any(fnmatchcase(each.imported, pattern) for pattern in allowed(each.importer))
    }
    return list(wrong.values())


@cache
def imports_in(name: str) -> tuple[Import, ...]:
    """What one of our modules imports of ours."""
    return tuple(imports_of(name, parsed(name)))


def all_imports() -> list[Import]:
    return [each for name in MODULES for each in imports_in(name)]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_what_it_may(name: str) -> None:
    wrong = forbidden(imports_in(name))
    assert not wrong, "\n".join(["", *wrong])


def test_no_arrow_leads_up() -> None:
    """The table above cannot quietly allow what the plan forbids: rooms import rooms, and none back."""
    graph: dict[str, set[str]] = {}
    for each in all_imports():
        one, other = room_of(each.importer), room_of(each.imported)
        if other not in (one, "tests"):
            graph.setdefault(one, set()).add(other)
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    for low in ("core", "schemas", "providers", "dispatch"):
        reached = {other for one, others in graph.items() if one.split(".")[0] == low for other in others}
        above = {"views", "server", "access", "usage", "telemetry", "app", "config"}
        assert not {room.split(".")[0] for room in reached} & above


def test_only_the_transport_looks_into_connections() -> None:
    users = {each.importer for each in all_imports() if each.imported == "providers.transport.connection"}
    assert all(user.startswith("providers.transport.") for user in users)


def test_there_are_no_circles() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for each in all_imports():
        if each.importer != each.imported:
            graph[each.importer].add(each.imported)
    assert list(TopologicalSorter(graph).static_order())


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


def words(text: str) -> str:
    """The words of a literal or an identifier, between spaces: ` bedrock id ` of BEDROCK_ID."""
    return f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "


FOLDERS = {path.relative_to(ROOT / "providers").parts[0] for path in ROOT.glob("providers/**/provider.py")}
VENDOR_NAMES = sorted({words(name) for name in (*FOLDERS, *(vendor.name for vendor in VENDORS))})
"""The names of the vendors' rows, and of their folders: those with a provider.py."""
WITHOUT_VENDORS = [name for name in MODULES if re.match(r"dispatch(\.(?!sources)|$)", name)]
"""What goes from a model's name to a first event by properties alone; the sources know the vendors."""


def vendors_in(tree: ast.AST) -> list[str]:
    """The vendors' names in literals and identifiers, with their lines; docstrings may have examples."""
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        f"line {getattr(node, 'lineno', '?')}: {text!r} has the name of{name.rstrip()}"
        for node in ast.walk(tree)
        if id(node) not in docstrings
        for _, text in ast.iter_fields(node)
        if isinstance(text, str)
        for name in VENDOR_NAMES
        if name in words(text)
    ]


@pytest.mark.parametrize("name", sorted(WITHOUT_VENDORS))
def test_a_vendor_is_named_in_its_row_its_folder_and_its_source_alone(name: str) -> None:
    found = vendors_in(parsed(name))
    assert not found, "\n".join([f"{MODULES[name].relative_to(ROOT)}: make it a property of ProviderConfig", *found])


# the checks can fail


@pytest.mark.parametrize(
    ("name", "code", "imported"),
    [
        ("providers.demo.provider", "from dispatch.relay import Relay", "dispatch.relay"),
        ("providers.demo.provider", "def f():\n    import views.chat", "views.chat"),
        ("providers.gemini.decode", "from providers.cohere.decode import CohereDecoder", "providers.cohere.decode"),
        ("providers.demo.provider", "from ..gemini import decode", "providers.gemini.decode"),
        ("providers.newcomer.decode", "from providers.gemini.decode import GeminiDecoder", "providers.gemini.decode"),
        ("providers.transport.sse", "from providers.common.words import cut_at_words", "providers.common.words"),
        ("core.events", "import telemetry.logs", "telemetry.logs"),
        ("schemas.chat.encode", "from providers.base import Target", "providers.base"),
        ("dispatch.relay", "from schemas.chat.request import load_chat", "schemas.chat.request"),
        ("dispatch.relay", "from telemetry.records import RequestRecord", "telemetry.records"),
        ("server.worker", "from views.services import Services", "views.services"),
        ("views.chat", "import app", "app"),
        ("views.chat", "from tests import conftest", "tests"),
    ],
)
def test_a_forbidden_import_is_found(name: str, code: str, imported: str) -> None:
    (found,) = forbidden(imports_of(name, ast.parse(code)))
    assert found.endswith(f"{name} may not import {imported}")
    assert f":{code.count(chr(10)) + 1}: " in found


def test_a_new_vendor_needs_no_rule() -> None:
    code = "from providers.base import Target\nfrom providers.transport.client import send\nimport core.events"
    assert not forbidden(imports_of("providers.newcomer.provider", ast.parse(code)))


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


@pytest.mark.parametrize(
    "code",
    [
        "if entry.name == 'bedrock-models': pass",
        "AZURE_FOUNDRY = 1",
        "entry.openai_options",
        "f'the {x} of Cohere'",
        "def at_oci(): pass",
        "from providers.vendors import OCI_PREFIXES",
        "build(demo=1)",
    ],
)
def test_a_vendors_name_is_found(code: str) -> None:
    assert vendors_in(ast.parse(code))


def test_an_example_in_a_docstring_is_no_vendors_name() -> None:
    assert not vendors_in(ast.parse('def f():\n    """As OCI does."""\n    return "social"'))
