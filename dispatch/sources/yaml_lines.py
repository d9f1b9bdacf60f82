"""YAML with line numbers: plain data, and the line of each place in it, for error messages.

It has the safe loader's types. A key that is given twice, an anchor that grows without bounds and a variable that is
not set are errors. `${NAME}` in a value is a variable, `${NAME:-text}` one with a default.
"""

import re
from collections.abc import Mapping
from typing import Any

import yaml
from yaml.reader import ReaderError

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp")}
NODES = 500_000
DEPTH = 50

YamlPath = tuple[str | int, ...]


class YamlError(Exception):
    """What is wrong, and in which line (from 1)."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line
        self.what = what


def load(text: str, variables: Mapping[str, str]) -> tuple[Any, dict[YamlPath, int]]:
    """The data, and the line of each place in it: `("models", 0, "name") -> 7`. Raises YamlError."""
    try:
        _not_too_deep(text)
        loader = yaml.CSafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {(): 1}
        reader = _Reader(loader, variables)
        return reader.value(node, ()), reader.lines
    except yaml.MarkedYAMLError as error:
        raise _from_yaml_error(error, text) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(line, "a character that is not allowed in YAML") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise YamlError(1, " ".join(str(error).split())) from None


def _not_too_deep(text: str) -> None:
    """Deep nesting would end the process in libyaml's composer, which recurses; its parser does not recurse."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise YamlError(line, f"it is nested more than {DEPTH} deep")


def _from_yaml_error(error: yaml.MarkedYAMLError, text: str) -> YamlError:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    what = error.problem or "not YAML"
    lines = text.split("\n")
    if line <= len(lines) and "\t" in lines[line - 1]:
        what += " (there is a tab in this line: YAML is indented with spaces)"
    if error.context_mark and error.context_mark.line + 1 != line:
        what += f" (what it belongs to begins in line {error.context_mark.line + 1})"
    return YamlError(line, what)


def line_of(lines: Mapping[YamlPath, int], place: YamlPath) -> int:
    """The line of a place, or of the nearest place around it."""
    while place not in lines:
        place = place[:-1]
    return lines[place]


def dotted(place: YamlPath) -> str:
    """A place as people write it: models[0].name."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return path.removeprefix(".") or "the file"


class _Reader:
    def __init__(self, loader: yaml.CSafeLoader, variables: Mapping[str, str]) -> None:
        self.lines: dict[YamlPath, int] = {}
        self._loader = loader
        self._variables = variables
        self._seen = 0

    def value(self, node: yaml.Node, place: YamlPath) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(place, line)
        self._seen += 1
        if self._seen > NODES or len(place) > DEPTH:
            raise YamlError(line, "the file unfolds to more than a catalogue can be")
        if node.tag not in TAGS:
            raise YamlError(line, f"the tag {node.tag.removeprefix('tag:yaml.org,2002:')} is not allowed")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*place, position)) for position, item in enumerate(node.value)]
        return self._scalar(node, line)

    def _mapping(self, node: yaml.MappingNode, place: YamlPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                sources = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for source in reversed(sources):
                    if not isinstance(source, yaml.MappingNode):
                        raise YamlError(line, "only a mapping can be merged")
                    merged |= self.value(source, (*place, "<<"))
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlError(line, "a key must be a name")
            key = str(key_node.value)
            if key in found:
                raise YamlError(line, f"{key!r} stands here for the second time")
            self.lines[(*place, key)] = line
            found[key] = self.value(value_node, (*place, key))
        return {**merged, **found}

    def _scalar(self, node: yaml.Node, line: int) -> Any:
        text = VARIABLE.sub(lambda found: self._variable(found, line), node.value)
        if text != node.value:
            implicit = not getattr(node, "style", None)  # only a value without quotes may become a number
            tag = self._loader.resolve(yaml.ScalarNode, text, (implicit, not implicit))  # type: ignore[no-untyped-call]
            node = yaml.ScalarNode(tag, text, node.start_mark, node.end_mark)
        try:
            value = self._loader.construct_object(node)
        except ValueError as error:
            raise YamlError(line, str(error)) from None
        return value if isinstance(value, (str, int, float, bool)) or value is None else str(node.value)

    def _variable(self, found: re.Match[str], line: int) -> str:
        name, default = found.groups()
        value = self._variables.get(name) or default
        if value is None:
            raise YamlError(line, f"the variable {name} is not set")
        return value


def with_names(what: str, text: str, variables: Mapping[str, str]) -> str:
    """An error message for a file with this text; values of variables, which may be secret, become `${NAME}` again."""
    names = {found[1] for found in VARIABLE.finditer(text)} & variables.keys()
    for name in sorted(names, key=lambda each: -len(variables[each])):
        for value in (variables[name], repr(variables[name])[1:-1]):
            what = what.replace(value, f"${{{name}}}")
    return what
