"""Ideogram: images by version 3 (multipart) or by the legacy endpoint (JSON); the model's name decides.

https://developer.ideogram.ai/api-reference/api-reference/generate-v3
https://developer.ideogram.ai/api-reference/legacy-endpoints/generate
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson
from urllib3.filepost import encode_multipart_formdata

from core.errors import GatewayError, UpstreamRejected
from core.json_values import Json
from core.requests import ImagesRequest
from providers.base import Target
from providers.common.image_fetch import Picture
from providers.images.base import SUPPORTED_PARAMETERS, HttpRequest, ImageProvider, dimensions, nearest
from providers.transport.exchange import log_dropped_parameters

LEGACY_PATH, V3_PATH = "/generate", "/v1/ideogram-v3/generate"
V3 = re.compile(r"(?:ideogram)?[-_/ ]?v[-_]?3(?!\d)", re.IGNORECASE)
LEGACY_MODEL = re.compile(r"(?:ideogram[-_/ ]?)?v[-_]?([12]a?)(?:[-_](turbo))?", re.IGNORECASE)


# fmt: off
def _both_ways(portraits: Mapping[int, tuple[int, ...]]) -> frozenset[tuple[int, int]]:
    """Portrait sizes as width and heights, and the same as landscape."""
    upright = {(width, height) for width, heights in portraits.items() for height in heights}
    return frozenset(upright | {(height, width) for width, height in upright})


V3_RESOLUTIONS = _both_ways({
    512: (1536,), 576: (1408, 1472, 1536), 640: (1344, 1408, 1472, 1536), 704: (1152, 1216, 1280, 1344, 1408, 1472),
    736: (1312,), 768: (1088, 1216, 1280, 1344), 800: (1280,), 832: (960, 1024, 1088, 1152, 1216, 1248), 864: (1152,),
    896: (960, 1024, 1088, 1120, 1152), 960: (1024, 1088), 1024: (1024,)})
LEGACY_RESOLUTIONS = V3_RESOLUTIONS | _both_ways({640: (1024,), 720: (1280,), 768: (1024, 1152, 1232)})
LEGACY_RATIOS = ("1x1", "10x16", "16x10", "9x16", "16x9", "2x3", "3x2", "3x4", "4x3", "1x3", "3x1")
V3_RATIOS = (*LEGACY_RATIOS, "1x2", "2x1", "4x5", "5x4")

EXTENSION_PARAMETERS = frozenset(
    {"aspect_ratio", "color_palette", "negative_prompt", "resolution", "seed", "style_type"}
)
V3_OWN = EXTENSION_PARAMETERS | {"magic_prompt", "rendering_speed", "style_codes", "style_preset"}
LEGACY_OWN = EXTENSION_PARAMETERS | {"magic_prompt_option"}
# fmt: on
"""Ideogram's own parameters, which go before those derived from OpenAI's."""

SPEEDS = {
    "low": "TURBO",
    "medium": "DEFAULT",
    "standard": "DEFAULT",
    **dict.fromkeys(("high", "hd", "xhigh", "max"), "QUALITY"),
}
"""OpenAI's quality -> rendering_speed."""
STYLES = {"vivid": "GENERAL", "natural": "REALISTIC"}


class Ideogram(ImageProvider):
    """Ideogram returns URLs; bytes are downloaded from there. Up to eight images a request."""

    most = 8

    def http_request(self, request: ImagesRequest, target: Target, count: int) -> HttpRequest:
        """Version 3 has its own path; all other models use the legacy one."""
        v3 = "-v3" in self.path.lower() if self.path else bool(V3.match(target.model))
        log_dropped_parameters(
            self.name,
            request.body.keys() - {"model"},
            SUPPORTED_PARAMETERS | (V3_OWN | {"quality"} if v3 else LEGACY_OWN),
        )
        path = (V3_PATH if v3 else LEGACY_PATH) if self.path is None else self.path
        if not v3:
            return HttpRequest(path, {}, orjson.dumps(legacy_to_upstream(request, target, count)))
        body, content_type = multipart(v3_to_upstream(request, target, count))
        return HttpRequest(path, {"Content-Type": content_type}, body)

    def parse_images(self, answer: Any) -> list[Picture]:
        """An unsafe image has no URL (`is_image_safe`); if no other image came, the request is refused."""
        rows = answer["data"]
        safe = [row for row in rows if row.get("url") and row.get("is_image_safe") is not False]
        if not safe and any(row.get("is_image_safe") is False for row in rows):
            raise self._unsafe("is_image_safe is false")
        found = [{"url": str(row["url"]), "revised_prompt": str(row.get("prompt") or "")} for row in safe]
        if not found:
            raise ValueError("no picture")
        return [{key: text for key, text in picture.items() if text} for picture in found]

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
        """422 is documented as a prompt that fails the safety check."""
        if status == 422:  # noqa: PLR2004
            return self._unsafe(body[:2000].decode("utf-8", "replace"), status)
        return super()._failure(status, headers, body)

    def _unsafe(self, message: str, status: int = 400) -> UpstreamRejected:
        return UpstreamRejected(
            f"{self.name} does not show what this prompt asks for: it fails its safety check.",
            upstream_status=status,
            provider=self.name,
            param="prompt",
            code="content_policy_violation",
            log=message,
        )


def v3_to_upstream(request: ImagesRequest, target: Target, count: int) -> Json:
    """The fields of version 3's form; its path names the model."""
    own = {key: value for key, value in request.body.items() if key in V3_OWN}
    body: Json = {"prompt": request.prompt, "num_images": count, **_style(request)}
    if speed := SPEEDS.get(str(request.body.get("quality"))):
        body["rendering_speed"] = speed
    if request.size and not own.keys() & {"aspect_ratio", "resolution"}:
        size = dimensions(request.size)
        if size in V3_RESOLUTIONS:
            body["resolution"] = f"{size[0]}x{size[1]}"
        else:
            body["aspect_ratio"] = nearest(size, V3_RATIOS)
    return target.rules.apply({**body, **own})


def legacy_to_upstream(request: ImagesRequest, target: Target, count: int) -> Json:
    """The legacy body; the rules apply to its `image_request`. Resolutions and styles are for models from V_2 on."""
    own = {key: value for key, value in request.body.items() if key in LEGACY_OWN}
    model = legacy_model(target.model)
    newer = not model.startswith("V_1")
    body: Json = {"prompt": request.prompt, "num_images": count}
    if model:
        body["model"] = model
    if newer:
        body |= _style(request)
    if request.size and not own.keys() & {"aspect_ratio", "resolution"}:
        size = dimensions(request.size)
        if newer and size in LEGACY_RESOLUTIONS:
            body["resolution"] = f"RESOLUTION_{size[0]}_{size[1]}"
        else:
            body["aspect_ratio"] = f"ASPECT_{nearest(size, LEGACY_RATIOS).replace('x', '_')}"
    return {"image_request": target.rules.apply({**body, **own})}


def legacy_model(name: str) -> str:
    """A model as Ideogram spells it: V_2A_TURBO for ideogram-v2a-turbo; "" for Ideogram's choice."""
    if name.lower() == "ideogram":
        return ""
    found = LEGACY_MODEL.fullmatch(name)
    return "_".join(["V", found[1].upper(), *(["TURBO"] if found[2] else [])]) if found else name


def _style(request: ImagesRequest) -> Json:
    style = str(request.body.get("style") or "")
    return {"style_type": STYLES.get(style, style.upper())} if style else {}


def multipart(fields: Mapping[str, Any]) -> tuple[bytes, str]:
    """A form and its content type: a part for each field, and for each item of a list; objects as JSON."""
    return encode_multipart_formdata(
        [
            (name, item if isinstance(item, str) else orjson.dumps(item))
            for name, value in fields.items()
            for item in (value if isinstance(value, list) else [value])
        ]
    )
