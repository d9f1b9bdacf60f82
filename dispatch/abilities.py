"""What a model is said not to be able to do (R12), refused before anybody is asked. They raise Unsupported."""

from dispatch.entries import Row
from errors import Unsupported
from events import ChatRequest


def refuse_beyond(row: Row, request: ChatRequest) -> None:
    """Refuse a chat request for what the model cannot."""
    if row.only == "images":
        raise Unsupported(
            f"The model {row.name!r} makes pictures and does not chat: ask at /v1/images/generations.", param="model"
        )
    if request.tools and not (row.tools and (row.stream_tools or not request.stream)):
        how = "" if not row.tools else " in a stream"
        raise Unsupported(f"The model {row.name!r} calls no tools{how} (tool_call, stream_tool_call).", param="tools")
    if not row.images:
        for position, message in enumerate(request.messages):
            parts = message.get("content")
            if isinstance(parts, list) and any(part.get("type") == "image_url" for part in parts):
                raise Unsupported(
                    f"The model {row.name!r} takes no images (multimodal).", param=f"messages[{position}].content"
                )


def refuse_pictures(row: Row) -> None:
    """Refuse a request for pictures at a model that only chats."""
    if row.only == "chat":
        raise Unsupported(f"The model {row.name!r} chats and makes no pictures.", param="model")
