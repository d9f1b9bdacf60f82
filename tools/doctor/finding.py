"""The result of a check, as a value and as a line of the table, without secrets."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from telemetry.logs import CREDENTIALS

KEY_CHARACTERS = 8  # a shorter key may be a plain word, such as Ollama's usual `ollama`, which would mask names
USER, QUERY = re.compile(r"(\w://)\S*@"), re.compile(r"(\w://[^\s?'\"]*)\?[^\s'\"]*")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was checked, and its state: `ok`, `warn` or `fail`; `mend` says what to do unless it is ok."""

    what: str
    state: str
    detail: str
    mend: str = ""
    latency_ms: int | None = None


def without(finding: Finding, secrets: Iterable[str] = ()) -> Finding:
    """The finding without secrets, which an address or a vendor's sentence may hold."""
    known = "|".join(re.escape(each) for each in sorted(secrets, key=len, reverse=True) if len(each) >= KEY_CHARACTERS)
    texts = [CREDENTIALS.sub(r"\1***", text) for text in (finding.detail, finding.mend)]
    texts = [re.sub(known, "***", text) for text in texts] if known else texts
    detail, mend = (QUERY.sub(r"\1", USER.sub(r"\1***@", text)) for text in texts)
    return replace(finding, detail=detail, mend=mend)


def table(findings: Sequence[Finding]) -> str:
    """One finding a line, with what to do below it."""
    width = max(len(each.what) for each in findings)
    lines = []
    for each in findings:
        time = "" if each.latency_ms is None else f"{each.latency_ms} ms"
        lines.append(f"{each.state.replace('fail', 'FAIL'):4}  {each.what:{width}}  {time:>7}  {each.detail}")
    mends = [f"  {each.what}: {each.mend}" for each in findings if each.mend]
    return "\n".join([*lines, *(["", "What to do", *mends] if mends else [])])
