"""The answers of upstream.c: the emulators' own bytes, in the pieces that it sends."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.emulators.answers import USAGE, ScriptedAnswer
from tests.emulators.anthropic.server import Message
from tests.emulators.bedrock.agent import Agent, Session
from tests.emulators.bedrock.answers import Turn
from tests.emulators.bedrock.server import AGENT
from tests.emulators.oci import chat as oci
from tests.emulators.oci.keys import COMPARTMENT
from tests.emulators.openai import completion
from tests.emulators.reply import Reply

TOKEN_TEXT = "~0000000,0000000000000000~ "
"""The text of a token. upstream.c writes its place in the stream and the time over the zeros."""

OPENAI_MODEL, ANTHROPIC_MODEL, OCI_MODEL = (
    "gpt-4o-mini",
    "claude-haiku-4-5",
    "meta.llama-4-maverick-17b-128e-instruct-fp8",
)
ANSWER = ScriptedAnswer(texts=[TOKEN_TEXT], usage=USAGE)


def _openai(*, stream: bool) -> Reply:
    body = {"model": OPENAI_MODEL, "stream": stream, "stream_options": {"include_usage": True}}
    return completion.chat(ANSWER, body, b"")


def _anthropic(*, stream: bool) -> Reply:
    return Message(ANSWER, {"model": ANTHROPIC_MODEL, "stream": stream}).reply()


def _oci(*, stream: bool) -> Reply:
    request = {"apiFormat": "GENERIC", "isStream": stream, "streamOptions": {"isIncludeUsage": True}}
    mode = {"servingType": "ON_DEMAND", "modelId": OCI_MODEL}
    return oci.chat(ANSWER, {"compartmentId": COMPARTMENT, "servingMode": mode, "chatRequest": request}, b"")


def _agent(*, stream: bool) -> Reply:  # noqa: ARG001 - it streams always
    params = {"sessionId": "bench", "enableTrace": True, "streamingConfigurations": {"streamFinalResponse": True}}
    return Agent(*AGENT).answer(Turn(texts=[TOKEN_TEXT]), params, Session())


DIALECTS = {"openai": _openai, "anthropic": _anthropic, "oci": _oci, "agent": _agent}


def write_files(folder: Path) -> None:
    """Write NAME.whole, NAME.opening, NAME.token and NAME.closing of each dialect: the bytes of HTTP responses."""
    for name, answer in DIALECTS.items():
        for part, data in _parts(answer(stream=True), answer(stream=False)).items():
            (folder / f"{name}.{part}").write_bytes(data)


def _parts(reply: Reply, whole: Reply) -> Mapping[str, bytes]:
    """The stream in three parts, of which the second is its only token, and the whole answer. An agent's whole answer
    is a stream too.
    """
    (at,) = (index for index, piece in enumerate(reply.pieces) if piece.kind == "content" and _has_token(piece.data))
    chunks = [b"%x\r\n%b\r\n" % (len(piece.data), piece.data) for piece in reply.pieces]
    opening, closing = b"".join([reply.head(), *chunks[:at]]), b"".join([*chunks[at + 1 :], b"0\r\n\r\n"])
    sized = whole.head(("Content-Length", str(len(whole.body)))) + whole.body
    return {"opening": opening, "token": chunks[at], "closing": closing, "whole": sized}


def _has_token(data: bytes) -> bool:
    return TOKEN_TEXT.encode() in data or b"fjAwMDAwMDAs" in data


def http_request(path: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> bytes:
    """A POST request as bytes."""
    data = json.dumps(body).encode()
    fields = {
        "Host": "localhost",
        "User-Agent": "OpenAI/Python 2.8.0",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "Content-Length": str(len(data)),
        **headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + data
