"""OCI's guardrails: POST /actions/applyGuardrails.

https://docs.oracle.com/en-us/iaas/api/#/en/generative-ai-inference/20231130/ApplyGuardrailsResult/ApplyGuardrails
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from core.context import CallContext, Timeouts
from core.guardrails import GuardrailRules, Side, Verdict
from core.json_values import Json
from providers.oci.client import OciClient, SignedRequest


def check(
    client: OciClient, text: str, side: Side, rules: GuardrailRules, call: CallContext, timeouts: Timeouts
) -> Verdict:
    """Check a text. Raises as OciClient.json does, and one of BAD_SHAPE for an answer of another shape."""
    configs = configs_to_upstream(rules, side)
    if not configs:
        return Verdict(text)
    place = client.place({}, call)
    details: Json = {
        "input": {"type": "TEXT", "content": text},
        "guardrailConfigs": configs,
        "compartmentId": place.compartment,
    }
    if rules.version:
        details["guardrailVersionConfig"] = {"guardrailVersion": rules.version}
    request = SignedRequest("POST", client.inference(place), "/actions/applyGuardrails", orjson.dumps(details))
    answer, _ = client.json(request, call, timeouts)
    found = tuple(_findings(answer["results"], rules.threshold))
    return Verdict("" if found else text, bool(found), found)


def configs_to_upstream(rules: GuardrailRules, side: Side) -> Json:
    """`guardrailConfigs`. Attacks have no kinds here."""
    configs: Json = {}
    if rules.content:
        configs["contentModerationConfig"] = {"categories": list(rules.content)}
    if rules.attacks and side == "input":
        configs["promptInjectionConfig"] = {}
    if rules.sensitive:
        configs["personallyIdentifiableInformationConfig"] = {"types": list(rules.sensitive)}
    return configs


def _findings(results: Mapping[str, Any], threshold: float) -> Iterator[str]:
    for category in (results.get("contentModeration") or {}).get("categories") or ():
        if category["score"] >= threshold:
            yield str(category["name"])
    for entity in results.get("personallyIdentifiableInformation") or ():
        if entity["score"] >= threshold:
            yield str(entity["label"])
    if (results.get("promptInjection") or {}).get("score", 0.0) >= threshold:
        yield "prompt injection"
