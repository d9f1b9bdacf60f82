"""A conversation in Converse's form: system apart, and roles that alternate and begin with the user. Pure.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Message.html
"""

import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import orjson

from core.errors import InvalidRequest, Unsupported
from core.json_values import Json
from providers.common.conversation import OPENING, TEXTS, Message, ToolUse, instructions, merge_same_role
from providers.common.conversation import conversation as in_turns
from providers.common.translate import content_text, fit_id, image_url, parse_data_url

IMAGES: Mapping[str, str] = {
    f"image/{kind}": kind.replace("jpg", "jpeg") for kind in ("png", "jpeg", "jpg", "gif", "webp")
}
DOCUMENTS: Mapping[str, str] = {
    "application/pdf": "pdf",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
AUDIO = ("mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "m4a", "pcm", "webm")
IDS = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")


def conversation(given: list[Json], *, tools: bool, thoughts: bool = False) -> tuple[list[Json], list[Json]]:
    """`system` and `messages`. Without `tools`, which Converse wants declared beside them, calls and results become
    text; with `thoughts`, the model's own come back to it. Raises InvalidRequest and Unsupported with the field's name.
    """
    system: list[Json] = []
    for part in instructions(given):
        system += [{"text": content_text([part], "messages")}, *cache_point(part)]
    turns = merge_same_role(
        (("assistant" if turn.role == "assistant" else "user"), _content(turn, tools=tools, thoughts=thoughts))
        for turn in in_turns(given)
    )
    if not turns or turns[0][0] != "user":
        turns.insert(0, ("user", [{"text": OPENING}]))
    messages: list[Json] = [{"role": role, "content": content} for role, content in turns]
    for message in messages:  # results first: https://docs.aws.amazon.com/bedrock/latest/userguide/tool-use.html
        message["content"].sort(key=lambda block: "toolResult" not in block)
    _name_documents(messages)
    return system, messages


def cache_point(part: Mapping[str, Any]) -> list[Json]:
    """The cache point behind a part with Anthropic's `cache_control`; none without it."""
    control = part.get("cache_control")
    if not isinstance(control, dict):
        return []
    ttl = {"ttl": control["ttl"]} if control.get("ttl") else {}
    return [{"cachePoint": {"type": "default", **ttl}}]


def _content(turn: Message, *, tools: bool, thoughts: bool) -> list[Json]:
    """A turn's blocks, and the cache points behind those that are marked; there is none inside a result."""
    marked = [(_block(part, where), cache_point(part)) for where, part in turn.parts]
    if turn.role == "tool":
        content, points = [block for block, _ in marked], [point for _, after in marked for point in after]
        if tools:
            failed = {"status": "error"} if turn.failed else {}
            return [{"toolResult": {"toolUseId": fit_id(turn.answers, IDS), "content": content, **failed}}, *points]
        return [{"text": f"({turn.name} answered:)"}, *content, *points]
    content = [each for block, after in marked for each in (block, *after)]
    signed = [_thought(each) for each in turn.thoughts if thoughts and (each.get("signature") or each.get("data"))]
    return signed + content + [_call(use, tools=tools) for use in turn.calls]


def _thought(block: Mapping[str, Any]) -> Json:
    if block["type"] == "redacted_thinking":
        return {"reasoningContent": {"redactedContent": _decode_base64(block.get("data"), "thinking")}}
    text = {"text": str(block.get("thinking") or ""), "signature": str(block["signature"])}
    return {"reasoningContent": {"reasoningText": text}}


def _call(use: ToolUse, *, tools: bool) -> Json:
    if tools:
        return {"toolUse": {"toolUseId": fit_id(use.id, IDS), "name": use.name, "input": use.arguments}}
    return {"text": f"({use.name} was called with {orjson.dumps(use.arguments).decode()})"}


def _block(part: Json, where: str) -> Json:
    kind = part["type"]
    if kind in TEXTS:
        return {"text": content_text([part], where)}
    if kind in ("image_url", "input_image"):
        url, _ = image_url(part, where)
        media, raw = _data(url, where)
        if media not in IMAGES:
            raise Unsupported(f"Bedrock takes PNG, JPEG, GIF and WebP, and no {media}.", param=where)
        return {"image": {"format": IMAGES[media], "source": {"bytes": raw}}}
    if kind == "file":
        return {"document": _document(part.get("file"), where)}
    if kind == "input_audio":
        audio = part.get("input_audio")
        if not isinstance(audio, dict) or audio.get("format") not in AUDIO:
            raise InvalidRequest(f"Needs `data` and a `format` of {', '.join(AUDIO)}.", param=f"{where}.input_audio")
        return {"audio": {"format": audio["format"], "source": {"bytes": _decode_base64(audio.get("data"), where)}}}
    raise Unsupported(f"A part of type {kind!r} cannot be sent to Bedrock.", param=where)


def _document(file: Any, where: str) -> Json:
    if not isinstance(file, dict) or not isinstance(file.get("file_data"), str):
        raise Unsupported("Bedrock takes a file as `file_data`, a data: URL.", param=f"{where}.file")
    name = PurePath(str(file.get("filename") or "document"))
    known = parse_data_url(file["file_data"])
    kind = DOCUMENTS.get(known[0] if known else "") or name.suffix[1:].lower()
    if kind not in DOCUMENTS.values():
        raise Unsupported(
            f"Bedrock takes documents of the kinds {', '.join(DOCUMENTS.values())}.", param=f"{where}.file"
        )
    raw = _decode_base64(known[1] if known else file["file_data"], where)
    return {"format": kind, "name": _fit_for_a_name(name.stem), "source": {"bytes": raw}}


def _fit_for_a_name(stem: str) -> str:
    """A name that Converse accepts: letters, digits, hyphens, brackets and single spaces, 200 at most."""
    return " ".join(re.sub(r"[^A-Za-z0-9()\[\]\s-]", " ", stem).split())[:190] or "document"


def _name_documents(messages: list[Json]) -> None:
    """Give each document a unique name, and add a text: Converse requires both."""
    names: set[str] = set()
    for message in messages:
        blocks = message["content"]
        documents = [block["document"] for block in blocks if "document" in block]
        for document in documents:
            if document["name"] in names:
                document["name"] += f" {len(names) + 1}"
            names.add(document["name"])
        if documents and not any("text" in block for block in blocks):
            blocks.append({"text": documents[0]["name"]})


def _data(url: str, where: str) -> tuple[str, bytes]:
    """Media type and bytes of a data: URL. Neither Bedrock nor Thinkline fetches another URL."""
    known = parse_data_url(url)
    if known is None:
        raise Unsupported("Bedrock fetches nothing: send the picture itself, as a data: URL.", param=where)
    return known[0], _decode_base64(known[1], where)


def _decode_base64(data: Any, where: str) -> bytes:
    try:
        raw = b64decode(data, validate=True)
    except (NotBase64, TypeError, ValueError):
        raw = b""
    if not raw:
        raise InvalidRequest("That is not base64 of anything.", param=where)
    return raw
