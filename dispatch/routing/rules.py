"""Rules that follow from a model's row: its fallbacks, what it lacks, and the order of its deployments. Pure."""

from collections.abc import Mapping, Sequence
from math import gcd

from core.errors import Unsupported
from core.requests import ChatRequest
from dispatch.routing.config import Deployment, ModelConfig


def with_fallbacks(row: ModelConfig, names: Mapping[str, ModelConfig]) -> list[ModelConfig]:
    """The row, its fallbacks, and theirs: each once, in the order in which they are tried."""
    rows: dict[str, ModelConfig] = {}
    ahead = [row]
    while ahead:
        each = ahead.pop(0)
        if each.name not in rows:
            rows[each.name] = each
            ahead = [names[name] for name in each.fallbacks if name in names] + ahead
    return list(rows.values())


def unsupported_reason(row: ModelConfig, request: ChatRequest) -> Unsupported | None:
    """The error for a request that needs what the row lacks; None if the row lacks nothing."""
    if row.task == "images":
        where = "ask at /v1/images/generations"
        return Unsupported(f"The model {row.name!r} makes pictures and does not chat: {where}.", param="model")
    if request.tools and not (row.tools and (row.stream_tools or not request.stream)):
        how = "" if not row.tools else " in a stream"
        return Unsupported(f"The model {row.name!r} calls no tools{how} (tool_call, stream_tool_call).", param="tools")
    if not row.images:
        for position, message in enumerate(request.messages):
            parts = message.get("content")
            if isinstance(parts, list) and any(part.get("type") == "image_url" for part in parts):
                where = f"messages[{position}].content"
                return Unsupported(f"The model {row.name!r} takes no images (multimodal).", param=where)
    return None


def unsupported_images_reason(row: ModelConfig) -> Unsupported | None:
    """The error for a model that only chats; None if the model may make images."""
    if row.task != "chat":
        return None
    return Unsupported(f"The model {row.name!r} chats and makes no pictures.", param="model")


def weighted_rotation(upstreams: Sequence[Deployment]) -> tuple[int, ...]:
    """One round of requests, by index: each deployment as often as its weight says, spread evenly over the round."""
    common = gcd(*(upstream.weight for upstream in upstreams))
    weights = [upstream.weight // common for upstream in upstreams]
    due = [((turn + 0.5) / weight, at) for at, weight in enumerate(weights) for turn in range(weight)]
    return tuple(at for _, at in sorted(due))
