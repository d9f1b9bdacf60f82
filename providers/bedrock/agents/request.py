"""A file of a conversation as an agent's InputFile. Pure."""

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from core.errors import InvalidRequest, Unsupported
from core.json_values import Json
from providers.common import translate

FILES = 5
"""The number of files in one turn (service model bedrock-agent-runtime, ByteContentFile)."""


def input_file(part: Mapping[str, Any], where: str) -> Json:
    """An InputFile. https://docs.aws.amazon.com/bedrock/latest/APIReference/API_agent-runtime_InputFile.html"""
    file = part.get("file")
    given = file.get("file_data") if isinstance(file, dict) else None
    found = translate.parse_data_url(given) if isinstance(given, str) else None
    if not isinstance(file, dict) or found is None:
        raise Unsupported(
            "A file for an agent must come as `file_data`, a data: URL (data:TYPE;base64,...).", param=where
        )
    media_type, data = found
    try:
        content = b64decode(data, validate=True)
    except ValueError:
        raise InvalidRequest("The file's data is no base64.", param=where) from None
    source = {"sourceType": "BYTE_CONTENT", "byteContent": {"mediaType": media_type, "data": content}}
    return {"name": str(file.get("filename") or "file"), "source": source, "useCase": "CHAT"}
