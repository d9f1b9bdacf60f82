"""An endpoint, asked and judged."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from tools.streamcheck import client
from tools.streamcheck.capture import Capture, End, exchange
from tools.streamcheck.check import OK, Result, merge, run
from tools.streamcheck.checks import CHECKS
from tools.streamcheck.stream import Asked, Stream, error_message
from tools.streamcheck.timing import Timing, timing

USUAL_MODEL = "gpt-4o-mini"
CHAT = "/chat/completions"
REFUSED = {401: "the key is refused", 403: "the key may not do this", 404: "no such address or model"}
TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}


class Refused(Exception):
    """The endpoint will not be judged: the key, the address or the model is wrong."""


@dataclass(frozen=True)
class Endpoint:
    """The server to ask. `url` is what stands before /chat/completions."""

    url: str
    key: str = ""
    model: str = ""

    @property
    def name(self) -> str:
        """Short, for tables."""
        return "OpenAI" if self.is_openai else urlsplit(self.url).netloc

    @property
    def is_openai(self) -> bool:
        """Whether this is OpenAI's own."""
        parts = urlsplit(self.url)
        return (parts.scheme, parts.hostname) == ("https", "api.openai.com")

    @property
    def headers(self) -> dict[str, str]:
        """Of each request."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


@dataclass(frozen=True)
class Plan:
    """What to ask, and how often. `timeout`, seconds: until the first, and until each next event."""

    prompt: str
    asked: Asked
    runs: int
    timeout: float
    client: bool

    def body(self, model: str) -> dict[str, Any]:
        """The request."""
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": self.prompt}],
            "stream": True,
        }
        if self.asked.usage:
            body["stream_options"] = {"include_usage": True}
        if self.asked.tools:
            body |= {"tools": [TOOL], "tool_choice": "required"}
        return body


@dataclass(frozen=True)
class Judged:
    """What came of it: a stream for each run, and the results of all together."""

    endpoint: Endpoint
    streams: Sequence[Stream]
    results: Sequence[Result]

    @property
    def stream(self) -> Stream:
        """The first run's, which the figures are of."""
        return self.streams[0]

    @property
    def timing(self) -> Timing:
        """The first run's."""
        return timing(self.stream)

    @property
    def first_tokens(self) -> list[float]:
        """TTFT of each run that had one."""
        times = (timing(stream).first_token for stream in self.streams)
        return [time for time in times if time is not None]

    @property
    def first_token(self) -> float | None:
        """TTFT: the median of the runs."""
        return median(self.first_tokens) if self.first_tokens else None

    @property
    def failed(self) -> bool:
        """Whether some check failed."""
        return any(result.status == "fail" for result in self.results)


def judge(endpoint: Endpoint, plan: Plan) -> Judged:
    """Ask as planned, and check each answer. Raises Unreachable, Refused and ValueError."""
    body = plan.body(endpoint.model)
    streams = [Stream(_capture(endpoint, body, plan.timeout), plan.asked) for _ in range(plan.runs)]
    results = merge([run(CHECKS, stream) for stream in streams])
    first = streams[0].capture
    if not plan.client:
        return Judged(endpoint, streams, results)
    if first.status == OK and first.end in (End.WHOLE, End.CLOSED):
        live = client.live(endpoint.url, endpoint.key, body, plan.timeout, streams[0])
    else:
        live = Result(client.LIVE, client.ABOUT_LIVE, note="the recorded answer was not whole")
    return Judged(endpoint, streams, [*results, live])


def _capture(endpoint: Endpoint, body: Mapping[str, Any], timeout: float) -> Capture:
    data = json.dumps(body, ensure_ascii=False).encode()
    headers = {**endpoint.headers, "Content-Type": "application/json", "Accept": "text/event-stream"}
    capture = exchange("POST", endpoint.url + CHAT, headers, data, timeout)
    if capture.status in REFUSED:
        raise Refused(f"{endpoint.url}: {REFUSED[capture.status]} ({capture.status}: {error_message(capture.body)})")
    return capture


def usual_model(endpoint: Endpoint, timeout: float) -> str:
    """A model to ask when none is named: the usual one, or else the first for chat that the endpoint lists."""
    if endpoint.is_openai:
        return USUAL_MODEL
    capture = exchange("GET", f"{endpoint.url}/models", endpoint.headers, b"", timeout)
    try:
        listed = json.loads(capture.body)
        rows: Any = listed["data"] if isinstance(listed, Mapping) else listed
        names = [str(row["id"]) for row in rows if "embed" not in str(row["id"])]
    except (ValueError, TypeError, KeyError):
        names = []
    return USUAL_MODEL if USUAL_MODEL in names or not names else names[0]
