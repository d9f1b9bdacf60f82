"""Recraft: images; its requests are much like OpenAI's. https://www.recraft.ai/docs/api-reference/endpoints"""

import re

import orjson

from core.json_values import Json
from core.requests import ImagesRequest
from providers.base import Target
from providers.images.base import SUPPORTED_PARAMETERS, HttpRequest, ImageProvider, dimensions, nearest
from providers.transport.exchange import log_dropped_parameters

PATH = "/images/generations"

# https://www.recraft.ai/docs/api-reference/appendix; the _pro models have twice the width and height
# fmt: off
SIZES = (
    "1024x1024", "1365x1024", "1024x1365", "1536x1024", "1024x1536", "1820x1024", "1024x1820", "1024x2048",
    "2048x1024", "1434x1024", "1024x1434", "1024x1280", "1280x1024", "1024x1707", "1707x1024")
V4_SIZES = (
    "1024x1024", "1536x768", "768x1536", "1280x832", "832x1280", "1216x896", "896x1216", "1152x896", "896x1152",
    "832x1344", "1280x896", "896x1280", "1344x768", "768x1344")
# fmt: on

EXTENSION_PARAMETERS = frozenset({"style_id", "substyle", "negative_prompt", "controls", "text_layout"})
"""Recraft's own parameters, which are passed on."""
OPENAI_STYLES = {"natural": "realistic_image"}
"""OpenAI's `vivid` is neither a photograph nor an illustration: Recraft chooses the style."""


class Recraft(ImageProvider):
    """Recraft returns bytes itself if they are requested. Up to six images a request."""

    most = 6

    def http_request(self, request: ImagesRequest, target: Target, count: int) -> HttpRequest:
        """OpenAI's path and Recraft's parameters."""
        log_dropped_parameters(self.name, request.body.keys() - {"model"}, SUPPORTED_PARAMETERS | EXTENSION_PARAMETERS)
        body = orjson.dumps(to_upstream(request, target, count))
        return HttpRequest(PATH if self.path is None else self.path, {}, body)


def to_upstream(request: ImagesRequest, target: Target, count: int) -> Json:
    """Recraft's body. It has no `quality` and no `user`; the caller's own style is passed on unchanged."""
    body: Json = {"prompt": request.prompt, "n": count}
    body["response_format"] = "b64_json" if request.as_base64 else "url"
    model = re.sub(r"^recraft[-_]v", "recraftv", target.model)
    if model and model != "recraft":
        body["model"] = model
    style = request.body.get("style")
    if style in ("vivid", "natural"):
        style = OPENAI_STYLES.get(style) if "v4" not in model else None
    if style and "style_id" not in request.body:
        body["style"] = style
    if request.size:
        body["size"] = size_for(request.size, model)
    return target.rules.apply(
        {**body, **{key: value for key, value in request.body.items() if key in EXTENSION_PARAMETERS}}
    )


def size_for(size: str, model: str) -> str:
    """The model's size with the nearest shape. A ratio is passed on unchanged, and so is a size for a model whose sizes
    are unknown. Raises InvalidRequest.
    """
    width, height = dimensions(size)
    offered = V4_SIZES if "v4" in model else SIZES if re.search(r"v[23]|20b", model) else None
    if offered is None or ":" in size:
        return size
    scale = 2 if "_pro" in model else 1
    wide, high = dimensions(nearest((width, height), offered))
    return f"{wide * scale}x{high * scale}"
