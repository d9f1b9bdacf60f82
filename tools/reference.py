"""The tables of docs/ whose facts the code has: settings, providers, errors, endpoints, metrics, keys of log lines; and
what `make bench` has measured. And the lines of vendors in .env.example.

    make docs       or: python -m tools.reference; writes them into the pages

A page marks where a table goes, and keeps what people have written around it:

    <!-- make docs: settings -->
    <!-- end -->
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from config import ROOT, setting_fields
from core.errors import (
    BudgetExceeded,
    CircuitOpen,
    ContextTooLong,
    GatewayError,
    HalfClosed,
    InvalidRequest,
    Overloaded,
    PermissionDenied,
    RateLimited,
    RequestCancelled,
    RequestTimeout,
    TokensLimited,
    TooLarge,
    Unauthenticated,
    UnknownModel,
    Unsupported,
    UpstreamAuthFailed,
    UpstreamDown,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
)
from providers.vendors import VENDORS, Vendor
from schemas.openapi.document import document
from telemetry.metrics import METRICS
from tools.bench import report

DOCS, ENV_EXAMPLE = ROOT / "docs", ROOT / ".env.example"
VENDOR_LINES = re.compile(
    r"^(?P<title># .*)\n#(?P<variable>\w+)_API_KEY=.*\n#(?P=variable)_BASE_URL=.*\n#(?P=variable)_MODEL=.*\n",
    re.MULTILINE,
)
BLOCK = re.compile(r"^<!-- make docs: (\w+) -->\n(?:.*?\n)??<!-- end -->$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """An error as the table shows it. `code` and `status` are the class's own, unless given."""

    kind: type[GatewayError]
    meaning: str
    mends: str
    code: str = ""
    status: str = ""


# fmt: off
ERRORS = (
    ErrorRow(InvalidRequest, "The body is not a JSON object.", "the caller", "invalid_json"),
    ErrorRow(InvalidRequest, "`param` is missing.", "the caller", "missing_required_parameter"),
    ErrorRow(InvalidRequest, "`param` has a value that cannot be used.", "the caller", "invalid_value"),
    ErrorRow(Unsupported, "This provider cannot do that.", "the caller"),
    ErrorRow(ContextTooLong, "The conversation is too long for the model.", "the caller"),
    ErrorRow(InvalidRequest, "There is no such provider.", "the caller", "unknown_provider"),
    ErrorRow(InvalidRequest, "The provider lacks its key or address.", "you, in `.env`", "provider_not_configured"),
    ErrorRow(InvalidRequest, "The response to follow is unknown, or has expired.",
        "send all items of the conversation", "previous_response_not_found"),
    ErrorRow(Unauthenticated, "No key came; or none is set here, and the request came from elsewhere.",
        "the caller; you, by API_KEY", "missing_api_key"),
    ErrorRow(Unauthenticated, "The key is not one of this server's, or has expired.", "the caller"),
    ErrorRow(PermissionDenied, "The key may not call this model; the message has those that it may call.",
        "the caller; you, by `keys`"),
    ErrorRow(UnknownModel, "There is no such model.", "the caller"),
    ErrorRow(InvalidRequest, "No such response is kept for this key.", "the caller", "response_not_found", "404"),
    ErrorRow(InvalidRequest, "No such request is among the last ones of this key.", "the caller", "request_not_found",
        "404"),
    ErrorRow(InvalidRequest, "There is no such path, or it has no such method.", "the caller", "null", "404, 405"),
    ErrorRow(InvalidRequest, "A WebSocket answers at this path, and the request opens none.", "the caller",
        "upgrade_required", "426"),
    ErrorRow(RequestTimeout, "The body was begun, and did not come; or the answer was not read.", "the caller"),
    ErrorRow(UpstreamRejected, "The agent's session is busy with another turn.",
        "send the turn again, or the history with it", "session_busy", "409"),
    ErrorRow(TooLarge, "The body is over MAX_BODY_BYTES.", "the caller"),
    ErrorRow(UpstreamRejected, "The provider refuses the request; its status is kept.",
        "the caller", "the provider's", "4xx"),
    ErrorRow(UpstreamRateLimited, "The provider asks to slow down, and went on to; or `rpm` of `models.yaml` is spent.",
        "wait `Retry-After`, or a higher limit there"),
    ErrorRow(RateLimited, "The model was asked as often as its `rpm` allows; or the key's requests of this minute, or "
        "its places, are taken.", "wait `Retry-After`"),
    ErrorRow(TokensLimited, "The key's tokens of this minute are spent.", "wait `Retry-After`"),
    ErrorRow(BudgetExceeded, "The key has spent its budget of this day or month; the message says when it renews.",
        "wait; you, by `budget`"),
    ErrorRow(HalfClosed, "The sending side was shut, which counts as hanging up.", "the caller"),
    ErrorRow(RequestCancelled, "The answer was cancelled over another connection.", "the caller"),
    ErrorRow(GatewayError, "A fault of Thinkline's own. The log has the rest.", "please report it", "null"),
    ErrorRow(GatewayError, "WebSockets need gunicorn on Linux, which `make run` starts.", "you",
        "not_served_here", "501"),
    ErrorRow(UpstreamError, "The provider cannot be reached, failed, or broke off.",
        "the provider; you, if its address is wrong"),
    ErrorRow(UpstreamAuthFailed, "The provider refuses the key that is set here.", "you, in `.env`"),
    ErrorRow(UpstreamError, "The account at the provider has nothing left.", "you, at the provider",
        "insufficient_quota"),
    ErrorRow(UpstreamDown, "The provider says that it is overloaded.", "wait", status="503"),
    ErrorRow(Overloaded, "Too many requests are under way here, or the server shuts down.", "wait `Retry-After`"),
    ErrorRow(Overloaded, "The table of usage cannot be read now.", "wait `Retry-After`", "usage_unavailable"),
    ErrorRow(InvalidRequest, "No usage is kept here (USAGE_DAYS is 0).", "you", "usage_not_kept"),
    ErrorRow(CircuitOpen, "The provider failed too often and is left alone for now.", "wait `Retry-After`"),
    ErrorRow(UpstreamTimeout, "The provider took too long.", "the provider"),
)

LOG_KEYS: Mapping[str, Mapping[str, str]] = {
    "The line of a request, `request`": {
        "request_id": "The answer's `x-request-id`.",
        "caller": "The name of the key that came with it.",
        "call": "The caller's id of the conversation or the phone call: `session_id`, `metadata.session_id`, Vapi's "
        "`call.id`, ElevenLabs' `conversation_id`, Twilio's CallSid.",
        "from": "The address that the request came from: its peer's, or as a proxy of `TRUSTED_PROXIES` says.",
        "path": "Which endpoint: chat, completions, embeddings, images, moderations, rerank.",
        "model": "The model that the caller named.",
        "stream": "Whether the answer was to be streamed.",
        "inputs": "How many inputs were to be embedded.",
        "documents": "How many documents were to be put in order.",
        "images": "How many pictures were to be made.",
        "provider": "The provider that answered, or failed last.",
        "target": "The provider and model that answered, or failed last.",
        "status": "The status; 499 where the caller left.",
        "outcome": "`done`, `hung_up` (the caller left, or did not read) or `failed`.",
        "attempts": "How often a provider was asked.",
        "duration_ms": "Milliseconds from the request to the end of the answer.",
        "hedged": "True where two targets were asked at the same time.",
        "tried": "Each target that failed, and what it failed with last, also where another one answered.",
        "ttft_ms": "Milliseconds to the first token.",
        "prompt_tokens": "Tokens of the request, as the provider counts them.",
        "completion_tokens": "Tokens of the answer, likewise.",
        "cost": "What it has cost, in the currency of the prices.",
        "code": "The error's code, where it failed.",
        "error": "The error's message.",
        "said": "What the provider said to it, in its own words.",
    },
    "The line of a request that is refused, `refused`": {
        "request_id": "The answer's `x-request-id`.",
        "status": "The status.",
        "code": "The error's code.",
        "param": "The field at fault.",
        "error": "The error's message.",
        "method": "The request's method.",
        "path": "The request's path, or how it begins.",
        "call": "As above, where the body was read.",
        "from": "As above.",
        "forwarded_for": "The header `X-Forwarded-For`, which anybody may have written.",
    },
    "The line of an attempt that failed, `retry` or `no answer`": {
        "request_id": "The answer's `x-request-id`.",
        "target": "The provider and model that failed.",
        "error": "The error's message.",
        "said": "What the provider said to it, in its own words.",
        "wait": "Seconds until it is asked again; `retry` alone has it.",
    },
    "The lines of a breaker, `breaker opened` and `breaker closed`": {
        "request_id": "The answer's `x-request-id`, of the request that changed it.",
        "target": "The provider and model that is left alone, or asked again.",
    },
    "The lines of an exchange with a provider, at `TRACE` or by `x-trace: 1`: `sent to the provider`, `came back`": {
        "request_id": "The answer's `x-request-id`.",
        "provider": "The provider.",
        "url": "The address, without a query's secrets.",
        "method": "The method.",
        "status": "The status that came back.",
        "headers": "The headers, those with credentials masked.",
        "bytes": "Bytes of the body.",
        "seconds": "Seconds from the request to the end of what came back.",
        "payload": "The body: at most 20,000 characters, without pictures.",
    },
}
# fmt: on


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    first, *rest = (f"| {' | '.join(cells)} |" for cells in (head, *rows))
    return "\n".join([first, f"|{'---|' * len(head)}", *rest])


def settings() -> str:
    """Every setting of config.py."""
    return table(["Variable", "Default", "What"], map(_setting, setting_fields()))


def _setting(each: Field[Any]) -> Sequence[str]:
    value = each.default
    text = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
    default = "unset" if value in ("", ()) else f"`{text}`"
    choices, also = (", ".join(f"`{name}`" for name in each.metadata[key]) for key in ("choices", "also"))
    about = each.metadata["about"] + f" One of {choices}." * bool(choices) + f" Also read: {also}." * bool(also)
    return f"`{each.name.upper()}`", default, about


def providers() -> str:
    """Every row of providers/vendors.py."""
    return table(["Name", "Provider", "What to set", "Default address", "Default model"], map(_vendor, VENDORS))


def _vendor(each: Vendor) -> Sequence[str]:
    kinds = ["API_KEY"] * (not each.keyless) + ["BASE_URL"] * (not each.base_url)
    names = [f"{each.variable}_{kind}" for kind in kinds] + ["AWS_REGION"] * ("{region}" in each.base_url)
    needs = " and ".join(f"`{name}`" for name in names)
    theirs = " and ".join(f"`{name}`" for names in each.env_aliases for name in names)
    own = f"your own; `{each.path}` is added to a bare host"
    return (
        f"`{each.name}`",
        each.label,
        f"{needs}, or {theirs}" if theirs else needs,
        f"`{each.base_url}{each.path}`" if each.base_url else own,
        f"`{each.model}`" if each.model else "none: name one",
    )


def errors() -> str:
    """Every error that a caller can get, with the properties of its class."""
    head = ["Status", "Type", "Code", "What it means", "Who mends it", "Repeated here", "`x-should-retry`"]
    return table(head, map(_error, ERRORS))


def _error(row: ErrorRow) -> Sequence[str]:
    code = row.code or row.kind.code or "null"
    hint = {None: "", True: "`true`", False: "`false`"}[row.kind.client_may_retry]
    return (
        row.status or str(row.kind.status),
        f"`{row.kind.type}`",
        code if code in ("null", "the provider's") else f"`{code}`",
        row.meaning,
        row.mends,
        "yes" if row.kind.retryable else "",
        hint,
    )


def endpoints() -> str:
    """Every endpoint of the OpenAPI document."""
    rows = (
        [f"`{method.upper()} /v1{path}`", each["summary"], "none" if each.get("security") == [] else "needed"]
        for path, method, each in _operations()
    )
    return table(["Path", "What", "Key"], rows)


def operations() -> str:
    """Each endpoint's parameters, body and statuses."""
    return "\n\n".join(_operation(f"{method.upper()} /v1{path}", each) for path, method, each in _operations())


def _operations() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in document()["paths"].items():
        for method, each in methods.items():
            yield path, method, each


def _operation(title: str, each: Mapping[str, Any]) -> str:
    parts = [f"## {title}", each["description"]]
    if "requestBody" in each:
        (media,) = each["requestBody"]["content"].values()
        schema = _resolve(media["schema"])
        parts += [_fields(schema), schema["description"]]
        for name, field in schema["properties"].items():
            node = field.get("items", field)
            if "$ref" in node:
                parts.append(f"{_kind(node)}, in `{name}`:\n\n{_fields(_resolve(node))}")
    statuses = ", ".join(f"`{status}`" for status in each["responses"])
    return "\n\n".join([*parts, f"Statuses: {statuses}; see [errors](errors.md)."])


def _fields(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = (
        [f"`{name}`" + " (required)" * (name in required), _kind(field), field.get("description", "")]
        for name, field in schema["properties"].items()
    )
    return table(["Field", "Kind", "What"], rows)


def _kind(field: Mapping[str, Any]) -> str:
    """A description of a field's value."""
    if "$ref" in field:
        return str(field["$ref"].rpartition("/")[2])
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(each) for each in field["anyOf"] if each != {"type": "null"}))
    kinds = field.get("type", "anything")
    kind = next(each for each in kinds if each != "null") if isinstance(kinds, list) else kinds
    if kind == "array":
        return f"list of {_kind(field.get('items', {}))}"
    return ", ".join(f"`{each}`" for each in field["enum"]) if "enum" in field else str(kind)


def _resolve(node: Mapping[str, Any]) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = document()["components"]["schemas"][node["$ref"].rpartition("/")[2]]
    return schema


def logs() -> str:
    """The keys of the log lines about requests."""
    rows = {title: ([f"`{name}`", about] for name, about in keys.items()) for title, keys in LOG_KEYS.items()}
    return "\n\n".join(f"## {title}\n\n{table(['Key', 'What'], each)}" for title, each in rows.items())


def metrics() -> str:
    """Every metric of /metrics."""
    rows = [
        [f"`{each.name}`", each.kind, ", ".join(f"`{name}`" for name in each.labels), each.about] for each in METRICS
    ]
    return table(["Metric", "Kind", "Labels", "What"], rows)


BLOCKS: Mapping[str, Callable[[], str]] = {
    "settings": settings,
    "providers": providers,
    "errors": errors,
    "endpoints": endpoints,
    "operations": operations,
    "logs": logs,
    "metrics": metrics,
    **{name: partial(block, report.load()) for name, block in report.BLOCKS.items()},
}


def render_page(page: str) -> str:
    """Return the page with current tables. Raises KeyError for an unknown table."""
    return BLOCK.sub(lambda found: f"<!-- make docs: {found[1]} -->\n{BLOCKS[found[1]]()}\n<!-- end -->", page)


def env_example(text: str) -> str:
    """Return .env.example with the lines of every row of providers/vendors.py; the comment over each stays."""
    found = list(VENDOR_LINES.finditer(text))
    titles = {each["variable"]: each["title"] for each in found}
    blocks = (
        f"{titles.get(each.variable, f'# {each.label}')}\n#{each.variable}_API_KEY=\n"
        f"#{each.variable}_BASE_URL={each.base_url}\n#{each.variable}_MODEL={each.model}\n"
        for each in VENDORS
    )
    return text[: found[0].start()] + "\n".join(blocks) + text[found[-1].end() :]


def pages() -> list[Path]:
    """Every page of docs/."""
    return sorted(DOCS.rglob("*.md"))


def main() -> None:
    """Write the files that have changed, and print their names."""
    for path in (*pages(), ENV_EXAMPLE):
        page = path.read_text(encoding="utf-8")
        if (text := env_example(page) if path == ENV_EXAMPLE else render_page(page)) != page:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
