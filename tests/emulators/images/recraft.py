"""An emulated external.api.recraft.ai. Fields and sizes as it documents them.

https://www.recraft.ai/docs/api-reference/endpoints
"""

import json
from collections.abc import Mapping
from typing import Any

from tests.emulators.connection import Received
from tests.emulators.images.pictures import Denied, PicturesUpstream, check_fields
from tests.emulators.openai.server import PIXEL

SIZES: Mapping[str, tuple[str, ...]] = {
    "recraftv3": ("1024x1024", "1820x1024", "1024x1820", "1536x1024", "1024x1536", "16:9"),
    "recraftv4": ("1024x1024", "1344x768", "768x1344", "1280x832", "832x1280", "16:9"),
    "recraftv4_pro": ("2048x2048", "2688x1536", "1536x2688", "2560x1664", "1664x2560", "16:9"),
}
FIELDS: Mapping[str, Any] = {
    "prompt": str,
    "n": range(1, 7),
    "model": tuple(SIZES),
    "style": ("any", "realistic_image", "digital_illustration", "vector_illustration", "icon"),
    "style_id": str,
    "substyle": str,
    "size": str,
    "response_format": ("url", "b64_json"),
    "negative_prompt": str,
    "controls": dict,
    "text_layout": list,
}


class RecraftUpstream(PicturesUpstream):
    """Answers at /v1/images/generations."""

    path = "/v1/images/generations"

    @property
    def base_url(self) -> str:
        """What a client calls its base URL."""
        return f"{self.url}/v1"

    def images_body(self, received: Received) -> Any:
        """As OpenAI does, with an id for each picture, and what it cost."""
        if received.method != "POST" or received.path != self.path:
            raise Denied(404, "not found")
        if received.headers.get("Content-Type") != "application/json":
            raise Denied(415, "unsupported media type")
        body = json.loads(received.body)
        check_fields(body, FIELDS)
        model = body.get("model", "recraftv3")
        if "size" in body and body["size"] not in SIZES[model]:
            raise Denied(400, f"invalid size {body['size']}")
        if "style" in body and "style_id" in body:
            raise Denied(400, "style and style_id are exclusive")
        if "style" in body and "v4" in model:
            raise Denied(400, "styles are not supported by this model")
        packed = body.get("response_format") == "b64_json"
        rows = [
            {"image_id": f"00000000-{number}", **({"b64_json": PIXEL} if packed else {"url": self.picture_url(number)})}
            for number in range(body.get("n", 1))
        ]
        return {"created": 1795000000, "credits": 1000, "data": rows}

    def words(self, status: int, message: str) -> Any:
        """A code and a sentence."""
        return {"code": "invalid_request_parameter" if status == 400 else "error", "message": message}
