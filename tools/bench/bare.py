"""A yardstick: the least that Flask can do under gunicorn's own threaded worker, a canned answer without an upstream.

Machines differ, and one machine from hour to hour; how many times this a request costs differs far less.
"""

import json

from flask import Flask, Response, request

app = Flask("bare", static_folder=None)
MESSAGE = {"role": "assistant", "content": "~0000000,0000000000000000~ ", "refusal": None, "annotations": []}
BODY = json.dumps(
    {
        "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
        "object": "chat.completion",
        "created": 1_750_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": MESSAGE, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29},
    }
)


@app.post("/v1/chat/completions")
def chat() -> Response:
    """Read the request, and answer."""
    request.get_data(cache=False)
    return Response(BODY, mimetype="application/json")
