"""Checks of the settings' names and values: half of a pair, misspelt names, copied examples."""

import re
from collections.abc import Iterator
from difflib import SequenceMatcher, get_close_matches

from config import ROOT, Settings, names_a_secret_file, setting_fields
from dispatch.routing.snapshot import Snapshot
from dispatch.sources.aws import SIGNS
from dispatch.sources.yaml_lines import VARIABLE
from providers.vendors import VENDORS
from tools.doctor.finding import Finding
from tools.doctor.where import Where

PAIRS = (
    ("AGENT_ID", "AGENT_ALIAS_ID"),
    ("AGENT_ALIAS_ID", "AGENT_ID"),
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    ("AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"),
    ("MODEL_LIST_AUTH_TOKEN", "MODEL_LIST_URL"),
)
"""The first has no effect without the second."""

NEAR, NEAR_WORD, SHORT = 0.8, 0.6, 7
KINDS = (
    (re.compile(r"_?(SECRET_|ACCESS_)?(API_?)?(KEY|TOKEN)$"), "_API_KEY"),
    (re.compile(r"_?(API_?)?(BASE|URL|HOST|ENDPOINT|ADDRESS|SERVER)(_URL)?$"), "_BASE_URL"),
    (re.compile(r"_?(DEFAULT_)?MODEL(_NAME|_ID)?$"), "_MODEL"),
)
"""Other products' names for NAME_API_KEY, NAME_BASE_URL and NAME_MODEL."""
STEMS = {"GOOGLE": "GEMINI", "CLAUDE": "ANTHROPIC", "GROK": "XAI", "OPEN_AI": "OPENAI", "AZURE_OPENAI": "AZURE"}

PLACEHOLDER = re.compile(
    r"<.*>|\[.*\]|\W+|.*\.\.\.|.*\bx{4,}|.*\.\.a{4,}|(.*[-_ ])?your\b.*|(.*[-_ ])?your[-_].*"
    r"|(change|replace|insert|fill)[-_ ]?(me|this|it|in).*|todo|placeholder",
    re.IGNORECASE,
)
SECRET = re.compile(r"(.*_)?API_KEYS?|AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|BEARER_TOKEN_BEDROCK)")
OTHERS = ("MODEL_LIST_AUTH_TOKEN", "OCI_COMPARTMENT", "AGENT_ID", "AGENT_ALIAS_ID")


def half_set(settings: Settings, snapshot: Snapshot, where: Where) -> Iterator[Finding]:
    """Only one setting of a pair is set."""
    given = settings.variables
    for one, other in PAIRS:
        if one in given and other not in given:
            yield Finding(f"setting {one}", "fail", f"is set, but {other} is not", f"set {other}, or unset {one}")
    for vendor in VENDORS:
        entry, stem = snapshot.entries[vendor.name], vendor.variable
        names = [f"{stem}_API_KEY", f"{stem}_BASE_URL", *vendor.env_aliases[0], *vendor.env_aliases[1], f"{stem}_MODEL"]
        found = [name for name in names if name in given]
        if entry.missing and found and ("providers", vendor.name) not in where.lines:
            state = "warn" if found == [f"{stem}_MODEL"] else "fail"
            mend = f"set {entry.missing}, or unset {found[0]}"
            yield Finding(f"setting {found[0]}", state, f"is set, but {entry.missing} is not", mend)


def misspelt(settings: Settings) -> Iterator[Finding]:
    """Names that have no effect, and that are nearly those of a setting."""
    known = _known(settings)
    plain = {_plain(name): name for name in known}
    for name in sorted(settings.variables.keys() - known - _read_by_amazon()):
        if names_a_secret_file(name) and name.removesuffix("_FILE") in known:
            continue
        meant = plain.get(_plain(name)) or _usual(name.upper(), known) or _near(name.upper(), known)
        if meant:
            yield Finding(f"setting {name}", "warn", "is set, but nobody reads it", f"{meant} may be meant")


def placeholders(settings: Settings) -> Iterator[Finding]:
    """Values that are placeholders of an example."""
    for name, value in settings.variables.items():
        if not (SECRET.fullmatch(name) or name in OTHERS):
            continue
        values = [each.rpartition(":")[2] for each in value.split(",")] if name.endswith("KEYS") else [value]
        if any(PLACEHOLDER.fullmatch(each.strip()) for each in values):
            yield Finding(f"setting {name}", "fail", "is an example's, and not one of your own", f"replace {name}")


def _known(settings: Settings) -> set[str]:
    """The variables that have an effect, including those that the models file names."""
    names = {"ENV_FILE"}
    for each in setting_fields():
        names |= {each.name.upper(), *each.metadata["also"]}
    for vendor in VENDORS:
        names |= {f"{vendor.variable}_{kind}" for kind in ("API_KEY", "BASE_URL", "MODEL")}
        names |= {*vendor.env_aliases[0], *vendor.env_aliases[1]}
    names |= {*SIGNS, "AWS_REGION", *(name for pair in PAIRS for name in pair)}
    names |= {f"{kind}_PROXY" for kind in ("HTTP", "HTTPS", "ALL", "NO")}
    names |= {f"{kind}_proxy" for kind in ("http", "https", "all", "no")}
    try:
        text = (ROOT / settings.models_file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):  # this has a finding of its own
        text = ""
    return names | {found[1] for found in VARIABLE.finditer(text)}


def _read_by_amazon() -> set[str]:
    names: set[str] = set()
    try:
        from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES as AMAZONS  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        return names
    for _, variables, *_ in AMAZONS.values():
        names |= {variables} if isinstance(variables, str) else {*(variables or ())}
    return names


def _near(name: str, known: set[str]) -> str:
    """What a name is nearly. The first word tells other programs' variables (TF_CLI_CONFIG_FILE) from misspelt ones."""
    if len(name) < SHORT:
        return ""
    word = name.partition("_")[0]
    alike = [each for each in known if SequenceMatcher(None, word, each.partition("_")[0]).ratio() >= NEAR_WORD]
    return next(iter(get_close_matches(name, alike, n=1, cutoff=NEAR)), "")


def _plain(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "", name.upper())


def _usual(name: str, known: set[str]) -> str:
    """Variables with other products' names, such as OPENAI_API_BASE or GOOGLE_API_KEY."""
    for pattern, kind in KINDS:
        stem = pattern.sub("", name)
        meant = STEMS.get(stem, stem) + kind
        if stem != name and meant in known:
            return meant
    return ""
