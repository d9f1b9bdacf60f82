"""An emulated Bedrock AgentCore: a harness whose sessions remember, and a runtime with an app of one's own.

with HarnessUpstream() as upstream:
    upstream.enqueue(ScriptedAnswer(texts=["Hi"]))     the next InvokeHarness
    app_with(MODELS_FILE=..., **upstream.settings)     with `providers: {NAME: {kind: agentcore-harness, arn: ...}}`
    upstream.sessions[...]                             what each session has heard and said

Strict from botocore's model of the service, and by the rule that a turn which ended in calls of inline functions is not
remembered: their calls come back with the results.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.emulators.answers import TEXTS, ScriptedAnswer
from tests.emulators.bedrock.answers import STATUSES, failed
from tests.emulators.bedrock.event_stream import CONTENT_TYPE, dumps, event, exception
from tests.emulators.bedrock.rules import Asked, Refused, check_signature, parse_request
from tests.emulators.connection import Received
from tests.emulators.reply import Kind, Piece, Reply
from tests.emulators.reply import dumps as json_text
from tests.emulators.scripted import Scripted

REGION = "eu-central-1"
HARNESS = f"arn:aws:bedrock-agentcore:{REGION}:123456789012:harness/concierge-AbCdEfGhIj"
RUNTIME = f"arn:aws:bedrock-agentcore:{REGION}:123456789012:runtime/concierge-AbCdEfGhIj"
ACCESS_KEY, SECRET = "AKIATESTTESTTEST", "test/upstream+secret"
MESSAGE = "Something is wrong at arn:aws:bedrock-agentcore:x"
REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "content_filtered", "tool_calls": "tool_use"}
NAMES = {status: name for name, status in STATUSES.items()} | {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
}


class AgentCoreUpstream(Scripted):
    """What both have: one account, whose signature is computed anew."""

    chat = "/"

    @property
    def settings(self) -> dict[str, str]:
        """The environment of somebody who uses it."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE": self.url,
        }

    def answer_to(self, received: Received) -> tuple[ScriptedAnswer, Reply]:
        """Refuse it as Amazon would, or answer it as scripted."""
        answer = ScriptedAnswer()
        try:
            check_signature(received, ACCESS_KEY, SECRET, REGION, signs="bedrock-agentcore")
            asked = parse_request(received)
            self.check(asked)
            answer = self.next()
            if answer.status != 200 or answer.error is not None:
                if answer.status not in NAMES:  # a gateway's
                    return answer, Reply((Piece(b"{}"),), answer.status, {"Content-Type": "application/json"})
                return answer, failed(NAMES[answer.status], MESSAGE, answer.status)
            return answer, self.reply(asked, answer)
        except Refused as refused:
            return answer, failed(refused.exception, refused.message, refused.status)

    def check(self, asked: Asked) -> None:
        """Raises Refused for what is not taken although it has the right shape."""
        raise NotImplementedError

    def reply(self, asked: Asked, answer: ScriptedAnswer) -> Reply:
        """The answer to it."""
        raise NotImplementedError


class HarnessUpstream(AgentCoreUpstream):
    """A harness. `asked` are the parameters that came, `sessions` what each has been told and has said: (role, blocks);
    `hooks` puts a tool of its own, and its result, before each answer.
    """

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__(tls=tls)
        self.asked: list[dict[str, Any]] = []
        self.sessions: dict[str, list[tuple[str, list[Any]]]] = {}
        self.hooks = False

    def check(self, asked: Asked) -> None:
        params = asked.params
        if asked.operation != "InvokeHarness":
            raise Refused("UnknownOperationException", "", 404)
        if params["harnessArn"] != HARNESS:
            raise Refused("ResourceNotFoundException", "There is no such harness.", 404)
        blocks = [(message["role"], block) for message in params["messages"] for block in message["content"]]
        called = [block["toolUse"]["toolUseId"] for role, block in blocks if "toolUse" in block and role == "assistant"]
        results = [
            block["toolResult"]["toolUseId"] for role, block in blocks if "toolResult" in block and role == "user"
        ]
        if called != results or len(set(called)) < len(called):
            raise Refused("ValidationException", f"toolUse {called} and toolResult {results} do not match.")
        if params["messages"][-1]["role"] != "user" or not all(each["content"] for each in params["messages"]):
            raise Refused("ValidationException", "A conversation must end with a user message, and none may be empty.")
        if params["runtimeSessionId"] not in self.sessions and params["messages"][0]["role"] != "user":
            raise Refused("ValidationException", "A conversation must start with a user message.")
        names = [tool.get("name") for tool in params.get("tools", [])]
        if len(set(names)) < len(names):
            raise Refused("ValidationException", "Tool names must be unique.")
        self.asked.append(params)

    def reply(self, asked: Asked, answer: ScriptedAnswer) -> Reply:
        history = self.sessions.setdefault(asked.params["runtimeSessionId"], [])
        history += [(each["role"], each["content"]) for each in asked.params["messages"]]
        texts = answer.texts if answer.texts is not None else () if answer.calls else TEXTS
        if texts:
            history.append(("assistant", [{"text": "".join(texts)}]))
        pieces = [
            Piece(event(name, members), kind, answer.frame_delay if at else answer.first_delay)
            for at, (kind, name, members) in enumerate(self._events(answer, list(texts)))
        ]
        return Reply(
            tuple(pieces),
            headers={"Content-Type": CONTENT_TYPE},
            stream=True,
            error=dumps({"message": MESSAGE}),
            error_frame=exception("internalServerException", MESSAGE),
        )

    def _events(self, answer: ScriptedAnswer, texts: list[str]) -> Iterator[tuple[Kind, str, Mapping[str, Any]]]:
        if self.hooks:
            yield from _own_tool()
        yield "open", "messageStart", {"role": "assistant"}
        index = 0
        for kind, pieces in (("reasoning", answer.reasoning), ("text", texts)):
            if pieces:
                for piece in filter(None, pieces):
                    delta = {"text": piece} if kind == "text" else {"reasoningContent": {"text": piece}}
                    yield "content", "contentBlockDelta", {"contentBlockIndex": index, "delta": delta}
                yield "content", "contentBlockStop", {"contentBlockIndex": index}
                index += 1
        for identifier, name, arguments in answer.calls:
            at = {"contentBlockIndex": index}  # the same for all, as streams have been seen to have it
            start = {"toolUse": {"toolUseId": identifier, "name": name, "type": "tool_use"}}
            yield "content", "contentBlockStart", {**at, "start": start}
            for piece in filter(None, arguments):
                yield "content", "contentBlockDelta", {**at, "delta": {"toolUse": {"input": piece}}}
            yield "content", "contentBlockStop", at
        reason = answer.finish_reason or ("tool_calls" if answer.calls else "stop")
        yield "finish", "messageStop", {"stopReason": REASONS.get(reason, reason)}
        if answer.usage is not None:
            yield "usage", "metadata", {"usage": _usage(answer.usage), "metrics": {"latencyMs": 551}}


def _own_tool() -> Iterator[tuple[Kind, str, Mapping[str, Any]]]:
    """A tool that the harness calls by itself."""
    hook = {"hookEventId": "0" * 8 + "-0000-0000-0000-" + "0" * 12, "name": "audit", "type": "before_tool_call"}
    yield "open", "messageStart", {"role": "assistant"}
    yield "content", "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Let me look."}}
    start = {"toolUse": {"toolUseId": "own_1", "name": "shell", "type": "tool_use"}}
    yield "content", "contentBlockStart", {"contentBlockIndex": 1, "start": start}
    yield "content", "contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"command": "ls"}'}}}
    yield "open", "messageStop", {"stopReason": "tool_use"}
    yield "open", "hookEvent", hook
    yield "open", "messageStart", {"role": "user"}
    result = {"toolResult": {"toolUseId": "own_1", "status": "success"}}
    yield "content", "contentBlockStart", {"contentBlockIndex": 0, "start": result}
    yield "content", "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolResult": [{"text": "secret.txt"}]}}
    yield "open", "messageStop", {"stopReason": "tool_result"}


def _usage(given: Mapping[str, Any]) -> dict[str, Any]:
    cached = given.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    return {
        "inputTokens": given["prompt_tokens"] - cached,
        "outputTokens": given["completion_tokens"],
        "totalTokens": given["total_tokens"],
        "cacheReadInputTokens": cached,
    }


class RuntimeUpstream(AgentCoreUpstream):
    """A runtime whose app takes `{"prompt": ...}` and streams pieces of text as JSON strings, as bedrock-agentcore's
    server sends what an entrypoint yields; `whole` answers are `{"result": ...}`. `asked` are (session, payload);
    `sessions` the prompts of each session.
    """

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__(tls=tls)
        self.asked: list[tuple[str, Any]] = []
        self.sessions: dict[str, list[str]] = {}
        self.whole = False

    def check(self, asked: Asked) -> None:
        params = asked.params
        if asked.operation == "StopRuntimeSession":
            raise Refused("ResourceNotFoundException", "There is no such session.", 404)
        if asked.operation != "InvokeAgentRuntime" or params["agentRuntimeArn"] != RUNTIME:
            raise Refused("ResourceNotFoundException", "There is no such runtime.", 404)
        payload = json.loads(params["payload"])
        if not isinstance(payload.get("prompt"), str):
            raise Refused("RuntimeClientError", "Received error (500) from runtime.", 424)
        self.asked.append((params["runtimeSessionId"], payload))
        self.sessions.setdefault(params["runtimeSessionId"], []).append(payload["prompt"])

    def reply(self, asked: Asked, answer: ScriptedAnswer) -> Reply:
        texts = TEXTS if answer.texts is None else answer.texts
        error = json_text({"error": "boom", "error_type": "ValueError", "message": MESSAGE}).encode()
        body = json_text({"result": "".join(texts)}).encode()
        if self.whole:
            headers = {"Content-Type": "application/json"}
            return Reply((Piece(body, after=answer.first_delay),), headers=headers, whole=body, error=error)
        frames = [f"data: {json_text(text)}\n\n".encode() for text in texts]
        pieces = [
            Piece(data, "content", answer.frame_delay if at else answer.first_delay) for at, data in enumerate(frames)
        ]
        return Reply(
            tuple(pieces),
            headers={"Content-Type": "text/event-stream; charset=utf-8"},
            stream=True,
            whole=body,
            error=error,
            error_frame=b"data: " + error + b"\n\n",
        )
