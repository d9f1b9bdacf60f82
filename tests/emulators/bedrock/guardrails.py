"""ApplyGuardrail and InvokeGuardrailChecks, as an emulated Bedrock answers them: it objects to words."""

from collections.abc import Mapping
from typing import Any

from tests.emulators.bedrock.event_stream import dumps
from tests.emulators.bedrock.rules import Asked, Refused
from tests.emulators.reply import Piece, Reply

CHECKS = ("ApplyGuardrail", "InvokeGuardrailChecks")
GUARDRAIL = "gr1abc2def3g"
BLOCKED, MASK = "Blocked by the guardrail.", "{NAME}"


class Guardrails:
    """One guardrail, GUARDRAIL. `blocks` and `masks` are its words; `checked` are (side, text) as they came.

    `delay` is the seconds before each verdict, `fails` an exception in the place of one.
    """

    def __init__(self) -> None:
        self.blocks: set[str] = set()
        self.masks: set[str] = set()
        self.checked: list[tuple[str, str]] = []
        self.delay = 0.0
        self.fails = ""

    def answer(self, asked: Asked) -> Reply:
        """The verdict. Raises Refused."""
        if self.fails:
            raise Refused(self.fails, "Something is wrong.", 500)
        applies = asked.operation == "ApplyGuardrail"
        body = self._applied(asked.params) if applies else self._checks(asked.params)
        return Reply((Piece(dumps(body)),), headers={"Content-Type": "application/json"}, delay=self.delay)

    def _applied(self, params: Mapping[str, Any]) -> dict[str, Any]:
        if params["guardrailIdentifier"] != GUARDRAIL:
            raise Refused("ResourceNotFoundException", "The guardrail identifier is invalid.", 404)
        text = "".join(block["text"]["text"] for block in params["content"])
        self.checked.append((params["source"], text))
        found = [("BLOCKED", word) for word in self.blocks if word in text]
        found += [("ANONYMIZED", word) for word in self.masks if word in text]
        policy = {"piiEntities": [{"type": "NAME", "match": word, "action": action} for action, word in found]}
        masked = text
        for word in self.masks:
            masked = masked.replace(word, MASK)
        blocked = any(action == "BLOCKED" for action, _ in found)
        return {
            "usage": {"topicPolicyUnits": 1},
            "action": "GUARDRAIL_INTERVENED" if found else "NONE",
            "outputs": [{"text": BLOCKED if blocked else masked}] if found else [],
            "assessments": [{"sensitiveInformationPolicy": {**policy, "regexes": []}}] if found else [],
        }

    def _checks(self, params: Mapping[str, Any]) -> dict[str, Any]:
        text = "".join(block["text"] for message in params["messages"] for block in message["content"])
        role = params["messages"][0]["role"]
        self.checked.append((role, text))
        score = 0.9 if any(word in text for word in self.blocks) else 0.1
        results: dict[str, Any] = {}
        for name, key in (("contentFilter", "category"), ("promptAttack", "category")):
            if given := params["checks"].get(name):
                entries = [{"category": each[key], "severityScore": score} for each in given["categories"]]
                results[name] = {"results": entries}
        if given := params["checks"].get("sensitiveInformation"):
            at = {"beginOffset": 0, "endOffset": 1, "messageIndex": 0, "contentIndex": 0}
            found = [word for word in self.masks if word in text]
            entries = [{"type": given["entities"][0]["type"], "confidenceScore": 0.8, **at} for _ in found]
            results["sensitiveInformation"] = {"results": entries}
        return {"results": results, "usage": {name: {"textUnits": 1} for name in results}}
