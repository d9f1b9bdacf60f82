"""Guardrails of Amazon Bedrock: those that are kept there, by ApplyGuardrail, and checks without one, by
InvokeGuardrailChecks.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ApplyGuardrail.html
"""

from collections.abc import Iterator, Mapping
from typing import Any

from core.context import CallContext
from core.guardrails import GuardrailRules, Side, Verdict
from providers.base import Target
from providers.bedrock.client import AwsClient, Members, Operation

APPLY = Operation("bedrock-runtime", "ApplyGuardrail")
CHECKS = Operation("bedrock-runtime", "InvokeGuardrailChecks")
DRAFT = "DRAFT"


def check(
    client: AwsClient, text: str, side: Side, rules: GuardrailRules, target: Target, call: CallContext
) -> Verdict:
    """Check a text. Raises as AwsClient.invoke does, and LookupError for an answer of another shape."""
    if rules.id:
        params = {
            "guardrailIdentifier": rules.id,
            "guardrailVersion": rules.version or DRAFT,
            "source": side.upper(),
            "content": [{"text": {"text": text}}],
        }
        return _verdict_of(client.invoke(APPLY, params, target, call), text)
    checks = checks_to_upstream(rules, side)
    if not checks:
        return Verdict(text)
    role = "user" if side == "input" else "assistant"
    checked = {"messages": [{"role": role, "content": [{"text": text}]}], "checks": checks}
    found = tuple(_findings(client.invoke(CHECKS, checked, target, call), rules.threshold))
    return Verdict("" if found else text, bool(found), found)


def checks_to_upstream(rules: GuardrailRules, side: Side) -> Members:
    """`checks` of InvokeGuardrailChecks."""
    checks: Members = {}
    if rules.content:
        checks["contentFilter"] = {"categories": [{"category": each} for each in rules.content]}
    if rules.attacks and side == "input":
        checks["promptAttack"] = {"categories": [{"category": each} for each in rules.attacks]}
    if rules.sensitive:
        checks["sensitiveInformation"] = {"entities": [{"type": each} for each in rules.sensitive]}
    return checks


def _verdict_of(answer: Members, text: str) -> Verdict:
    """A guardrail that only masks intervenes too: what it did, its assessments tell."""
    if answer["action"] != "GUARDRAIL_INTERVENED":
        return Verdict(text)
    actions = set(_actions(answer.get("assessments")))
    written = "".join(output.get("text", "") for output in answer.get("outputs") or ())
    masks = actions == {"ANONYMIZED"} and bool(written)
    return Verdict(written, not masks, tuple(sorted(actions)))


def _actions(value: Any) -> Iterator[str]:
    """Every `action` in the assessments, but those that only tell."""
    if isinstance(value, Mapping):
        if isinstance(action := value.get("action"), str) and action != "NONE":
            yield action
        for each in value.values():
            yield from _actions(each)
    elif isinstance(value, list):
        for each in value:
            yield from _actions(each)


def _findings(answer: Members, threshold: float) -> Iterator[str]:
    for result in answer["results"].values():
        for entry in result.get("results") or ():
            score = entry.get("severityScore", entry.get("confidenceScore", 0.0))
            if score >= threshold:
                yield str(entry.get("category") or entry.get("type"))
