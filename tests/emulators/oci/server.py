"""An emulated OCI Generative AI: inference, management, Data Science and /openai/v1, as strict as the real one.

    with OCIUpstream() as upstream:
        upstream.enqueue(Answer(texts=["Hi", " there"]))              the next chat request
        upstream.always(Answer(status=429), path="/actions/embedText")  all others, until told otherwise
        app_with(**upstream.settings(tmp_path))

One server plays all of OCI's hosts (OCI_SERVICE_ENDPOINT). Of an Answer it uses what is said and when, failures and
faults, `calls_together`, `call_ids` and `usage_on_finish`; what speaks OpenAI's dialect (`/predict`, and
`/chat/completions` of /openai/v1) uses all of it.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from tests.emulators import oddities
from tests.emulators.answers import ScriptedAnswer
from tests.emulators.connection import Connection, Received
from tests.emulators.oci import chat as oci_chat
from tests.emulators.oci.keys import API_KEY, COMPARTMENT, REGION, Unsigned, config_file, verify
from tests.emulators.oci.lists import COMPARTMENTS, OFFERED, Denied, listed
from tests.emulators.oci.rules import (
    check_chat,
    check_embed,
    check_guardrails,
    check_place,
    check_rerank,
    check_shape,
    wrong,
)
from tests.emulators.openai import completion
from tests.emulators.openai.server import _json, embedding
from tests.emulators.reply import Reply
from tests.emulators.rules import Refused, parse
from tests.emulators.rules import check_chat as check_openai
from tests.emulators.scripted import Scripted

DEPLOYMENT = "ocid1.datasciencemodeldeployment.oc1.us-chicago-1.aaaadeployment"
BASE = "/20231130"
OPENAI = "/openai/v1"
ACTIONS = {
    "/actions/chat": ("ChatDetails", check_chat),
    "/actions/embedText": ("EmbedTextDetails", check_embed),
    "/actions/rerankText": ("RerankTextDetails", check_rerank),
    "/actions/applyGuardrails": ("ApplyGuardrailsDetails", check_guardrails),
}
PREDICT = (f"/{DEPLOYMENT}/predict", f"/{DEPLOYMENT}/predictWithResponseStream")
OPENAI_FAMILIES = ("openai.", "xai.", "meta.", "google.")


class OCIUpstream(Scripted):
    """Answers to who signs with the keys of oci_keys.py.

    Script it by the path below /20231130 (`/actions/chat`, `/models`, `/endpoints` ...), by `/predict` and
    `/predictWithResponseStream`, and by `/chat/completions` for /openai/v1. `complaints` says why it refused: the real
    one does not. `objections` are words that its guardrails find. Cohere's streams stay open after their last event.
    """

    chat = "/actions/chat"

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__(key=API_KEY, tls=tls)
        self.complaints: list[str] = []
        self.objections: set[str] = set()
        self._folder = TemporaryDirectory(prefix="upstream-oci-")

    @property
    def openai_url(self) -> str:
        """What a client of OpenAI's calls its base URL."""
        return self.url + OPENAI

    def settings(self, folder: Path | None = None, **changes: Any) -> dict[str, Any]:
        """The environment of somebody who has all that is needed, after `oci setup config` (in a folder of ours)."""
        given = {
            "OCI_CONFIG_FILE": config_file(folder or Path(self._folder.name)),
            "OCI_REGION": REGION,
            "OCI_COMPARTMENT": COMPARTMENT,
            "OCI_SERVICE_ENDPOINT": self.url,
        }
        return {**given, **changes}

    @property
    def deployment(self) -> str:
        """The endpoint of a Data Science deployment, as the console shows it."""
        return f"{self.url}/{DEPLOYMENT}/predict"

    def request_json(self, number: int = 0) -> Any:
        """The JSON of one of the requests that came; the last one by -1."""
        return self.received[number].json

    def answer_to(self, received: Received) -> tuple[ScriptedAnswer, Reply]:
        """Refuse it as the real one would, or answer it as scripted."""
        answer = ScriptedAnswer()
        try:
            self._admit(received)
            answer, reply = self._reply(received)
        except Refused as error:
            reply = _json(error.status, {"error": error.error})
        except Denied as error:
            self.complaints.append(str(error))
            reply = _json(error.status, {"code": error.code, "message": error.message})
        if reply.stream and answer.fault is None and not any(piece.kind == "done" for piece in reply.pieces):
            answer = replace(answer, fault=oddities.held_after_done)
        identifier = f"{received.headers.get('opc-request-id', '')}/{len(self.received):032d}"
        return answer, replace(reply, headers={**reply.headers, "opc-request-id": identifier})

    def identity(self, _: Connection) -> Mapping[str, str]:
        """None: its ids begin with the request's."""
        return {}

    def _admit(self, received: Received) -> None:
        """By signature, or by an API key at /openai/v1."""
        openai = received.path.startswith(OPENAI)
        try:
            if not (openai and received.headers.get("Authorization") == f"Bearer {API_KEY}"):
                verify(received)
        except Unsigned as error:
            message = oci_chat.ERRORS[401][2]
            raise Denied(401, "NotAuthenticated", message, str(error)) from error
        if openai and received.headers.get("opc-compartment-id") not in COMPARTMENTS:
            raise Denied(404, "NotAuthorizedOrNotFound", "Authorization failed or requested resource not found.")

    def _reply(self, received: Received) -> tuple[ScriptedAnswer, Reply]:
        parts = urlsplit(received.path)
        path = parts.path.removeprefix(BASE)
        if parts.path in PREDICT and received.method == "POST":
            return self._predicted(received, parts.path)
        if parts.path == f"{OPENAI}/chat/completions" and received.method == "POST":
            body = parse(received.body)
            check_openai(body)
            if not str(body["model"]).startswith(OPENAI_FAMILIES) or body["model"] not in OFFERED:
                raise Denied(404, "404", f"Entity with key {body['model']} not found")
            return self._openai("/chat/completions", body)
        if parts.path == path:
            raise Denied(404, "NotAuthorizedOrNotFound", f"There is nothing at {parts.path}")
        if path in ("/models", "/endpoints") and received.method == "GET":
            items, headers = listed(path[1:], parts.query)
            return self._unless_failed(path, replace(_json(200, items), headers=_typed(headers)))
        if path not in ACTIONS or received.method != "POST":
            raise Denied(404, "NotAuthorizedOrNotFound", f"There is nothing at {path}")
        return self._action(path, received)

    def _action(self, path: str, received: Received) -> tuple[ScriptedAnswer, Reply]:
        try:
            details = parse(received.body)
        except Refused as error:
            raise wrong(detail=str(error)) from error
        kind, check = ACTIONS[path]
        check_shape(details, kind)
        check(details)
        if path == "/actions/applyGuardrails":
            return self._unless_failed(path, _json(200, _verdict(details, self.objections)))
        if path != "/actions/chat":
            made = _embeddings(details) if path == "/actions/embedText" else _ranks(details)
            return self._unless_failed(path, _json(200, made))
        answer = self.next(path)
        reply = oci_chat.chat(answer, details, _failed(replace(answer, status=500)).body)
        return answer, reply if _succeeds(answer) else _failed(answer)

    def _unless_failed(self, path: str, reply: Reply) -> tuple[ScriptedAnswer, Reply]:
        answer = self.next(path)
        timed = replace(reply, pieces=(replace(reply.pieces[0], after=answer.first_delay),))
        return answer, replace(timed, error=_failed(answer).body) if _succeeds(answer) else _failed(answer)

    def _predicted(self, received: Received, path: str) -> tuple[ScriptedAnswer, Reply]:
        """vLLM in its container: whole at /predict unless a header asks otherwise, streamed at the other path."""
        body = parse(received.body)
        name = path.removeprefix(f"/{DEPLOYMENT}")
        asked = name == "/predictWithResponseStream" or received.headers.get("enable-streaming") == "true"
        if asked != bool(body.get("stream")):
            raise Denied(409, "ExternalServerIncorrectState", oci_chat.ERRORS[409][2])
        return self._openai(name, body)

    def _openai(self, path: str, body: Mapping[str, Any]) -> tuple[ScriptedAnswer, Reply]:
        answer = self.next(path)
        failed = _failed(answer if not _succeeds(answer) else replace(answer, status=500))
        return answer, completion.chat(answer, body, failed.body) if _succeeds(answer) else failed


def _succeeds(answer: ScriptedAnswer) -> bool:
    return answer.status == 200 and answer.error is None


def _failed(answer: ScriptedAnswer) -> Reply:
    reply = _json(answer.status, oci_chat.error(answer.status) if answer.error is None else answer.error)
    return replace(reply, error=reply.body)


def _typed(headers: Mapping[str, str]) -> dict[str, str]:
    return {"Content-Type": "application/json", **headers}


def _embeddings(details: Mapping[str, Any]) -> dict[str, Any]:
    size = details.get("outputDimensions", 8)
    inputs = details.get("inputs") or [str(each) for each in details["embedContents"]]
    tokens = sum(len(each.split()) for each in inputs)
    usage = {"promptTokens": tokens, "completionTokens": 0, "totalTokens": tokens}
    model = check_place(details)
    return {
        "id": "1d9b7a3e",
        "embeddings": [embedding(each, size) for each in inputs],
        "modelId": model,
        "modelVersion": "1.0",
        **({"usage": usage} if "v4" in model else {}),
    }


def _verdict(details: Mapping[str, Any], words: set[str]) -> dict[str, Any]:
    """What each guardrail that is asked for says of the text."""
    text, configs = details["input"]["content"], details["guardrailConfigs"]
    found = [word for word in words if word in text]
    results: dict[str, Any] = {}
    if moderation := configs.get("contentModerationConfig"):
        results["contentModeration"] = {
            "categories": [{"name": each, "score": float(bool(found))} for each in moderation["categories"]]
        }
    if "promptInjectionConfig" in configs:
        results["promptInjection"] = {"score": float(bool(found))}
    if personal := configs.get("personallyIdentifiableInformationConfig"):
        results["personallyIdentifiableInformation"] = [
            {"offset": text.index(word), "length": len(word), "text": word, "label": personal["types"][0], "score": 0.9}
            for word in found
        ]
    return {"results": results}


def _ranks(details: Mapping[str, Any]) -> dict[str, Any]:
    """The more words a document shares with the query, the more relevant."""
    words = set(details["input"].lower().split())
    scores = [len(words & set(text.lower().split())) / max(1, len(words)) for text in details["documents"]]
    order = sorted(range(len(scores)), key=lambda place: -scores[place])[: details.get("topN")]
    ranks: list[dict[str, Any]] = [{"index": place, "relevanceScore": scores[place]} for place in order]
    if details.get("isEcho"):
        for rank in ranks:
            rank["document"] = {"text": details["documents"][rank["index"]]}
    return {"id": "7c2f", "modelId": check_place(details), "modelVersion": "1.0", "documentRanks": ranks}
