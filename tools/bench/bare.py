"""A yardstick: the least that Flask can do under the same gunicorn, a canned answer without an upstream.

Machines differ, and one machine from hour to hour; how many times this a request costs differs far less.
"""

from flask import Flask, Response, request
from upstream import WHOLE

app = Flask("bare", static_folder=None)
BODY = WHOLE.partition(b"\r\n\r\n")[2]


@app.post("/v1/chat/completions")
def chat() -> Response:
    """Read the request, and answer."""
    request.get_data(cache=False)
    return Response(BODY, mimetype="application/json")
