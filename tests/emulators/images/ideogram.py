"""An emulated api.ideogram.ai: the legacy endpoint in JSON, version 3 as a form; fields and values as documented.

https://developer.ideogram.ai/api-reference
"""

import json
from collections.abc import Mapping
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

from tests.emulators.connection import Received
from tests.emulators.images.pictures import Denied, PicturesUpstream, check_fields

COUNT = {str(number) for number in range(1, 9)}
STYLES = ("AUTO", "GENERAL", "REALISTIC", "DESIGN")
LEGACY_RATIOS = "10_16 16_10 9_16 16_9 3_2 2_3 4_3 3_4 1_1 1_3 3_1".split()  # noqa: SIM905
V3_RATIOS = "1x3 3x1 1x2 2x1 9x16 16x9 10x16 16x10 2x3 3x2 3x4 4x3 4x5 5x4 1x1".split()  # noqa: SIM905
SOME_RESOLUTIONS = ("512x1536", "1024x1024", "1344x768", "768x1344", "832x1248", "1536x640")
"""Of the seventy that there are."""

LEGACY: Mapping[str, Any] = {
    "prompt": str,
    "model": ("V_1", "V_1_TURBO", "V_2", "V_2_TURBO", "V_2A", "V_2A_TURBO"),
    "aspect_ratio": [f"ASPECT_{ratio}" for ratio in LEGACY_RATIOS],
    "resolution": [f"RESOLUTION_{size.replace('x', '_')}" for size in (*SOME_RESOLUTIONS, "1280x720")],
    "magic_prompt_option": ("AUTO", "ON", "OFF"),
    "seed": int,
    "style_type": (*STYLES, "RENDER_3D", "ANIME"),
    "negative_prompt": str,
    "num_images": range(1, 9),
    "color_palette": dict,
}
V3: Mapping[str, Any] = {
    "prompt": str,
    "seed": str,
    "resolution": SOME_RESOLUTIONS,
    "aspect_ratio": V3_RATIOS,
    "rendering_speed": ("FLASH", "TURBO", "DEFAULT", "QUALITY"),
    "magic_prompt": ("AUTO", "ON", "OFF"),
    "negative_prompt": str,
    "num_images": COUNT,
    "color_palette": str,
    "style_codes": list,
    "style_type": (*STYLES, "FICTION"),
    "style_preset": str,
}


class IdeogramUpstream(PicturesUpstream):
    """Answers at /generate and /v1/ideogram-v3/generate. `unsafe` many pictures of an answer are withheld."""

    key_header = "Api-Key"
    key_scheme = ""
    legacy_path = "/generate"
    v3_path = "/v1/ideogram-v3/generate"
    unsafe = 0

    def images_body(self, received: Received) -> Any:
        """One object a picture."""
        if received.method != "POST" or received.path not in (self.legacy_path, self.v3_path):
            raise Denied(404, "Not Found")
        v3 = received.path == self.v3_path
        body = form(received) if v3 else self._legacy(received)
        check_fields(body, V3 if v3 else LEGACY)
        if {"aspect_ratio", "resolution"} <= set(body):
            raise Denied(400, "Only one of aspect_ratio and resolution may be given.")
        rows = [self._row(number, body) for number in range(int(body.get("num_images", 1)))]
        return {"created": "2026-11-20T10:30:00.123456+00:00", "data": rows}

    def words(self, status: int, message: str) -> Any:
        """It answers with one sentence."""
        return {"error": message}

    def _legacy(self, received: Received) -> Any:
        if received.headers.get("Content-Type") != "application/json":
            raise Denied(415, "Unsupported media type")
        body = json.loads(received.body)
        if set(body) != {"image_request"}:
            raise Denied(400, "image_request is required.")
        return body["image_request"]

    def _row(self, number: int, body: Mapping[str, Any]) -> dict[str, Any]:
        safe = number >= self.unsafe
        return {
            "url": self.picture_url(number) if safe else None,
            "prompt": f"{body['prompt']}, in detail",
            "resolution": "1024x1024",
            "is_image_safe": safe,
            "seed": 7 + number,
            "style_type": "GENERAL",
        }


def form(received: Received) -> dict[str, Any]:
    """The fields of a form, as the standard library's parser of mail finds them."""
    kind = received.headers.get("Content-Type", "")
    if not kind.startswith("multipart/form-data; boundary="):
        raise Denied(415, "Unsupported media type")
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + received.body)
    if message.defects or not message.is_multipart():
        raise Denied(400, f"No form: {message.defects}")
    fields: dict[str, Any] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if part.get_content_disposition() != "form-data" or not isinstance(name, str):
            raise Denied(400, "A part without a name.")
        value = (part.get_payload(decode=True) or b"").decode()
        if name == "style_codes":
            fields.setdefault(name, []).append(value)
        elif name in fields:
            raise Denied(400, f"{name} stands there twice.")
        else:
            fields[name] = value
    return fields
