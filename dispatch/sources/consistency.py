"""Whether a source's models are consistent: each name means one thing, and each fallback exists."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from dispatch.routing.config import ModelConfig
from dispatch.sources.yaml_lines import YamlPath

Located = tuple[ModelConfig, YamlPath]
"""A row, and its place in the file."""


class Inconsistent(Exception):
    """An inconsistency, and its place in the file."""

    def __init__(self, place: YamlPath, what: str) -> None:
        super().__init__(what)
        self.place = place
        self.what = what


def check_consistency(placed: Sequence[Located], aliases: Mapping[str, str]) -> tuple[ModelConfig, ...]:
    """The rows with the aliases that are listed apart from them. Raises Inconsistent."""
    rows: dict[str, ModelConfig] = {}
    places: dict[str, YamlPath] = {}
    for row, place in placed:
        _claim(row.name, (*place, "name"), places)
        rows[row.name] = row
    for row, place in placed:
        for position, alias in enumerate(row.aliases):
            _claim(alias, (*place, "aliases", position), places)
    for alias, name in aliases.items():
        if name not in rows:
            raise Inconsistent(("aliases", alias), f"{alias!r} is an alias of {name!r}, and no model is called so")
        _claim(alias, ("aliases", alias), places)
        rows[name] = replace(rows[name], aliases=(*rows[name].aliases, alias))
    names = {name: row.name for row in rows.values() for name in (row.name, *row.aliases)}
    leads_to: dict[str, list[str]] = {}
    for row in rows.values():
        for position, fallback in enumerate(row.fallbacks):
            if fallback not in names:
                place = (*places[row.name][:-1], "fallbacks", position)
                raise Inconsistent(place, f"{row.name!r} falls back to {fallback!r}, and no model is called so")
        leads_to[row.name] = [names[fallback] for fallback in row.fallbacks]
    try:
        TopologicalSorter(leads_to).prepare()
    except CycleError as error:
        first = min(error.args[1], key=list(rows).index)
        raise Inconsistent((*places[first][:-1], "fallbacks"), f"the fallbacks of {first!r} come back to it") from None
    return tuple(rows.values())


def _claim(name: str, place: YamlPath, places: dict[str, YamlPath]) -> None:
    if name in places:
        raise Inconsistent(place, f"the name {name!r} is given for the second time")
    places[name] = place
