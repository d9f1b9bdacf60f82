"""The place of a setting: a line of the models file, or a variable."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import getitem

from app import check
from config import ROOT, Settings
from dispatch.routing.config import ProviderConfig
from dispatch.sources import models_file
from dispatch.sources.aws import SIGNS
from dispatch.sources.proxies import variable_for
from dispatch.sources.yaml_lines import YamlPath, load
from tools.doctor.finding import Finding

WHAT = {"api_key": "the credentials", "base_url": "the address", "model": "the model"}


@dataclass(frozen=True, slots=True)
class Where:
    """The place of a setting: a line of the models file, or a variable. `rows` are the file's models."""

    file: str
    upstreams: Mapping[str, str]
    lines: Mapping[YamlPath, int] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)

    def of(self, entry: ProviderConfig, option: str) -> str:
        """The place to change a provider's option."""
        name, value = entry.name.partition("#")[0], str(entry.options.get(option, ""))
        if name.startswith("list-"):
            return "MODEL_LIST_AUTH_TOKEN" if option == "api_key" else "MODEL_LIST_URL"
        if option == "proxy" and ("providers", name, option) not in self.lines:
            return variable_for(str(entry.options.get("base_url", "https://")), self.upstreams) or "the proxy"
        if option not in entry.options:
            signs = [sign for sign in SIGNS if self.upstreams.get(sign)] if "account" in entry.options else []
            return signs[0] if signs and option == "api_key" else f"{WHAT[option]} of {name}"
        stem = name.upper().replace("-", "_")
        variable = f"{stem}_{option.upper()}"
        if variable not in self.upstreams:  # a vendor's own SDK may spell it differently
            also = (each for each, given in self.upstreams.items() if each.startswith(stem) and value.startswith(given))
            variable = next(also, variable)
        own = None if variable in self.upstreams else self.lines.get(("providers", name))
        line = self.lines.get(("providers", name, option), own)
        return f"{option} of {name} ({self.file}, line {line})" if line else variable

    def row(self, name: str) -> str:
        """The place of a model by name."""
        return f"{self.file}, line {self.rows[name]}" if name in self.rows else "MODEL_ALIASES"


def models_file_and_lines(settings: Settings) -> tuple[Finding, Where]:
    """The models file, and the lines in it."""
    name, path, where = settings.models_file, ROOT / settings.models_file, Where("", settings.upstreams)
    alone = replace(settings, models_file=os.devnull, model_list_url="", provider_name="")
    if name == Settings.models_file and not path.exists():
        return Finding("models file", "ok", f"there is no {name}"), where
    try:
        listing = models_file.read(path, settings.variables, check(alone).snapshot.entries, settings.clouds)
        data, lines = load(path.read_text(encoding="utf-8"), settings.variables)
    except ValueError as error:
        return Finding("models file", "fail", str(error), "mend that line; what follows is without this file"), where
    parts = {row.name: row.name.partition("/") for row in listing.rows}
    rows = {name: lines.get(("providers", part[0], "models", part[2]), 1) for name, part in parts.items()}
    models = data.get("models", []) if isinstance(data, dict) else []
    rows |= {each["name"]: lines["models", at] for at, each in enumerate(models)}
    regions = lines.items() if isinstance(data, list) else ()  # OCI GenAI access gateway's shape
    rows |= {reduce(getitem, place, data): line for place, line in regions if place[-1:] == ("name",)}
    found = Finding("models file", "ok", f"{name}: providers {len(listing.entries)}, models {len(rows)}")
    return found, Where(name, settings.upstreams, lines, rows)
