"""A yardstick: the simplest proxy, Flask and OpenAI's client under gunicorn's own threaded worker."""

from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request
from openai import OpenAI


def create_app(base_url: str) -> Flask:
    """The proxy in front of that address."""
    app = Flask("naive", static_folder=None)
    client = OpenAI(base_url=base_url, api_key="unused", max_retries=0)

    @app.post("/v1/chat/completions")
    def chat() -> Response:
        body: dict[str, Any] = request.get_json()
        answer = client.chat.completions.create(**body)
        if not body.get("stream"):
            return Response(answer.model_dump_json(), mimetype="application/json")

        def frames() -> Iterator[str]:
            for chunk in answer:
                yield f"data: {chunk.model_dump_json()}\n\n"
            yield "data: [DONE]\n\n"

        return Response(frames(), mimetype="text/event-stream")

    return app
