"""What the emulated OCI has: its models and dedicated endpoints, as the management service lists them, page by page.

https://docs.oracle.com/en-us/iaas/api/#/en/generative-ai/20231130/ModelCollection/ListModels
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from tests.emulators.oci.keys import COMPARTMENT, SECOND_COMPARTMENT, TENANCY

PAGE = 7
"""Rows on a page, whatever limit is asked for: a client that reads one page alone misses most of them."""
COMPARTMENTS = (TENANCY, COMPARTMENT, SECOND_COMPARTMENT)
ENDPOINT = "ocid1.generativeaiendpoint.oc1.us-chicago-1.aaaaendpoint"
IMPORTED = "ocid1.generativeaiendpoint.oc1.us-chicago-1.aaaaimported"
CLUSTER = "ocid1.generativeaidedicatedaicluster.oc1.us-chicago-1.aaaacluster"
STATES = ("ACTIVE", "CREATING", "UPDATING", "DELETING", "DELETED", "FAILED")
QUERY = {"compartmentId", "lifecycleState", "displayName", "id", "limit", "page", "sortBy", "sortOrder"}


class Denied(Exception):
    """The request is refused. `detail` is for whoever mends the test; a caller is not told it."""

    def __init__(self, status: int, code: str, message: str, detail: str = "") -> None:
        super().__init__(detail or message)
        self.status = status
        self.code = code
        self.message = message


class Known(NamedTuple):
    """A model: what it can do, and what its row says besides."""

    capabilities: str
    more: Mapping[str, Any] = {}


_PAST = {"timeOnDemandRetired": "2025-11-07T00:00:00.000Z", "timeDeprecated": "2025-04-07T00:00:00.000Z"}
MODELS: Mapping[str, Known] = {
    "meta.llama-3.3-70b-instruct": Known("CHAT FINE_TUNE"),
    "meta.llama-4-maverick-17b-128e-instruct-fp8": Known("CHAT"),
    "meta.llama-3.2-90b-vision-instruct": Known("CHAT", {"timeOnDemandRetired": "2099-01-01T00:00:00.000Z"}),
    "meta.llama-3-70b-instruct": Known("TEXT_GENERATION CHAT", _PAST),
    "meta.llama-3.1-70b-instruct": Known("FINE_TUNE"),
    "openai.gpt-5": Known("CHAT"),
    "openai.gpt-4.1": Known("CHAT"),
    "openai.gpt-oss-120b": Known("CHAT"),
    "xai.grok-4": Known("CHAT"),
    "xai.grok-4-fast-non-reasoning": Known("CHAT", {"timeDeprecated": "2026-08-01T00:00:00.000Z"}),
    "google.gemini-2.5-flash": Known("CHAT"),
    "cohere.command-a-03-2025": Known("CHAT"),
    "cohere.command-r-08-2024": Known("CHAT FINE_TUNE", {"lifecycleState": "CREATING"}),
    "cohere.command-a-vision": Known("CHAT"),
    "cohere.command-a-reasoning": Known("CHAT"),
    "cohere.embed-v4.0": Known("TEXT_EMBEDDINGS"),
    "cohere.embed-multilingual-v3.0": Known("TEXT_EMBEDDINGS"),
    "cohere.embed-multilingual-image-v3.0": Known("TEXT_EMBEDDINGS"),
    "cohere.rerank-v4.0-fast": Known("TEXT_RERANK"),
}
OFFERED = frozenset(MODELS) - {
    "meta.llama-3-70b-instruct", "meta.llama-3.1-70b-instruct", "cohere.command-r-08-2024"
}  # fmt: skip
"""Those that can be called on demand."""


def _row(name: str, known: Known, number: int) -> dict[str, Any]:
    return {
        "id": f"ocid1.generativeaimodel.oc1.us-chicago-1.aaaamodel{number}",
        "compartmentId": TENANCY,
        "displayName": name,
        "vendor": name.partition(".")[0],
        "version": "1.0.0",
        "capabilities": known.capabilities.split(),
        "lifecycleState": "ACTIVE",
        "type": "BASE",
        "timeCreated": "2025-03-13T18:17:31.000Z",
        **known.more,
    }


MODEL_ROWS: list[dict[str, Any]] = [_row(name, known, number) for number, (name, known) in enumerate(MODELS.items())]
MODEL_ROWS += [
    _row("meta.llama-3.3-70b-instruct", Known("FINE_TUNE"), 100),  # the same name again, for fine-tuning
    _row("my-fine-tuned-llama", Known("CHAT", {"type": "CUSTOM", "vendor": "meta"}), 101),
]
IMPORTED_MODEL = "ocid1.generativeaiimportedmodel.oc1.us-chicago-1.aaaaqwen"
MODEL_OF = {ENDPOINT: MODEL_ROWS[0]["id"], IMPORTED: IMPORTED_MODEL}


def _endpoint(identifier: str, name: str, model: str, state: str = "ACTIVE") -> dict[str, Any]:
    return {
        "id": identifier,
        "compartmentId": COMPARTMENT,
        "dedicatedAiClusterId": CLUSTER,
        "displayName": name,
        "modelId": model,
        "lifecycleState": state,
        "timeCreated": "2026-02-01T09:00:00.000Z",
    }


ENDPOINT_ROWS = [
    _endpoint(ENDPOINT, "reception-llama", MODEL_OF[ENDPOINT]),
    _endpoint(f"{ENDPOINT}gone", "old-llama", MODEL_OF[ENDPOINT], "DELETED"),
    _endpoint(IMPORTED, "qwen3-32b", IMPORTED_MODEL),
]


def listed(kind: str, query: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Body and headers of `/models` or `/endpoints`. Raises Denied for what the real service refuses."""
    given = {name: values[-1] for name, values in parse_qs(query).items()}
    capabilities = parse_qs(query).get("capability", [])
    if unknown := given.keys() - QUERY - ({"capability", "vendor"} if kind == "models" else set()):
        raise Denied(400, "InvalidParameter", f"Unknown query parameter {sorted(unknown)}")
    if given.get("lifecycleState", "ACTIVE") not in STATES:
        raise Denied(400, "InvalidParameter", "Invalid lifecycleState")
    if given.get("compartmentId") not in COMPARTMENTS:
        raise Denied(404, "NotAuthorizedOrNotFound", "Authorization failed or requested resource not found.")
    wanted: list[Callable[[dict[str, Any]], bool]] = [
        lambda row: not capabilities or bool(set(capabilities) & set(row["capabilities"])),
        lambda row: given.get("lifecycleState") in (None, row["lifecycleState"]),
        lambda row: given.get("vendor") in (None, row.get("vendor")),
        lambda row: given.get("displayName") in (None, row["displayName"]),
        # A base model is everybody's; an endpoint belongs to a compartment.
        lambda row: kind == "models" or row["compartmentId"] == given["compartmentId"],
    ]
    rows = MODEL_ROWS if kind == "models" else ENDPOINT_ROWS
    rows = [row for row in rows if all(fits(row) for fits in wanted)]
    start = int(given.get("page", "page0").removeprefix("page"))
    end = start + min(PAGE, int(given.get("limit", PAGE)))
    return {"items": rows[start:end]}, {"opc-next-page": f"page{end}"} if end < len(rows) else {}
