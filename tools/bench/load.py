"""Callers for measurements: kept connections on one thread and one epoll, so cheap that the server is what is measured.

    python tools/bench/load.py requests --port 8000 --connections 64 --count 5000
    python tools/bench/load.py burst    --port 8000 --streams 4 --tokens 10000
    python tools/bench/load.py paced    --port 8000 --streams 100 --tokens 250

Each ends by itself after `--seconds`. Linux only.
"""

import argparse
import re
import select
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import orjson

LOOPBACK = "127.0.0.1"
RECEIVE_BYTES = 262_144
OK = b"HTTP/1.1 200 "
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
TOKEN = b'"delta":{"content":'
END = b"data: [DONE]\n\n\r\n0\r\n\r\n"
TOKENS_PER_SECOND = 50
WARM_UP_SECONDS = 1.0
"""Over how long paced streams are started, as calls come one by one."""

MESSAGES = [
    {"role": "system", "content": "You are a friendly voice agent of a pizzeria. Answer in one or two sentences."},
    {"role": "user", "content": "Hi, is my order on its way?"},
]


@dataclass
class Result:
    """What was seen. Times in seconds, one entry an answer; `failed` also counts the answers that did not come."""

    seconds: float = 0.0
    tokens: int = 0
    failed: int = 0
    latencies: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """The figures: rates a second, times in ms."""
        percentiles = quantiles(self.latencies, n=100) if len(self.latencies) > 1 else [0.0] * 99
        return {
            "answers": len(self.latencies),
            "failed": self.failed,
            "seconds": round(self.seconds, 3),
            "requests_per_second": round(len(self.latencies) / self.seconds, 1),
            "latency_p50_ms": round(percentiles[49] * 1000, 3),
            "latency_p99_ms": round(percentiles[98] * 1000, 3),
            "tokens_per_second": round(self.tokens / self.seconds, 1),
            "ttft_p50_ms": round(median(self.first_tokens or [0.0]) * 1000, 3),
        }


def request(model: str, *, stream: bool) -> bytes:
    """A chat completion request as it goes over the wire."""
    body: dict[str, Any] = {"model": model, "messages": MESSAGES, "temperature": 0.7}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    data = orjson.dumps(body)
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\n"
        "Host: localhost\r\n"
        "User-Agent: OpenAI/Python 2.8.0\r\n"
        "Authorization: Bearer none\r\n"
        "Accept: application/json\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


class Caller:
    """One kept connection that asks the same thing again and again."""

    def __init__(self, port: int, asks: bytes) -> None:
        self.sock = socket.create_connection((LOOPBACK, port), 10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tokens = 0
        self.first = 0.0
        self.begun = 0.0
        self.good = False
        self._asks = asks
        self._seen = b""
        self._needed: int | None = None
        self._streams = False

    def ask(self) -> None:
        """Send the request."""
        self.tokens, self.first, self.good = 0, 0.0, False
        self._seen, self._needed = b"", None
        self.begun = perf_counter()
        self.sock.sendall(self._asks)

    def hear(self) -> bool:
        """Take in what has arrived; True when the answer is whole. Raises OSError."""
        data = self.sock.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError("closed early")
        if self._needed is None:
            data = self._seen + data
            self._seen = b""
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                self._seen = data
                return False
            length = LENGTH.search(data, 0, end)
            self._streams = length is None
            self._needed = end + int(length[1]) if length else 0
            self.good = data.startswith(OK)
        return self._count(data) if self._streams else self._collect(data)

    def _collect(self, data: bytes) -> bool:
        assert self._needed is not None
        self._needed -= len(data)
        return self._needed <= 0

    def _count(self, data: bytes) -> bool:
        data = self._seen + data
        tokens = data.count(TOKEN)
        if tokens:
            if not self.first:
                self.first = perf_counter()
            self.tokens += tokens
        # What was counted is not kept: a token's mark is shorter than what is held back for the next piece.
        self._seen = data[max(data.rfind(TOKEN) + 1, len(data) - len(END)) :]
        return data.endswith(END)


def run(port: int, asks: bytes, *, callers: int, count: int, seconds: float, spread: float = 0.0) -> Result:
    """Have so many callers ask `count` times in all. `spread`: seconds over which they start."""
    lines = [Caller(port, asks) for _ in range(min(callers, count))]
    result = Result()
    try:
        _converse(lines, count, seconds, spread, result)
    finally:
        for caller in lines:
            caller.sock.close()
    result.failed += count - len(result.latencies) - result.failed
    return result


def _converse(lines: Sequence[Caller], count: int, seconds: float, spread: float, result: Result) -> None:
    epoll = select.epoll()
    by_descriptor = {caller.sock.fileno(): caller for caller in lines}
    for descriptor in by_descriptor:
        epoll.register(descriptor, select.EPOLLIN)
    begun = perf_counter()
    starts = [begun + spread * position / len(lines) for position in range(len(lines))]
    asked = over = 0
    while over < count and (now := perf_counter()) < begun + seconds:
        while asked < len(lines) and starts[asked] <= now:
            lines[asked].ask()
            asked += 1
        for descriptor, _ in epoll.poll(0.001 if asked < len(lines) else 1.0):
            caller = by_descriptor[descriptor]
            try:
                if not caller.hear():
                    continue
            except OSError:
                epoll.unregister(descriptor)
                over += 1
                continue
            over += 1
            _note(caller, result)
            if asked < count:
                asked += 1
                caller.ask()
    result.seconds = perf_counter() - begun
    epoll.close()


def _note(caller: Caller, result: Result) -> None:
    if caller.good:
        result.latencies.append(perf_counter() - caller.begun)
        result.tokens += caller.tokens
        if caller.first:
            result.first_tokens.append(caller.first - caller.begun)
    else:
        result.failed += 1


def requests(port: int, *, connections: int, count: int, seconds: float = 60.0) -> Result:
    """Answers that are not streamed."""
    return run(port, request("whole", stream=False), callers=connections, count=count, seconds=seconds)


def burst(port: int, *, streams: int, tokens: int, group: int = 16, count: int = 0, seconds: float = 60.0) -> Result:
    """Streams as fast as they come, `count` in all (0: one each), `group` frames to each of the upstream's writes."""
    asks = request(f"burst-{tokens}by{group}", stream=True)
    return run(port, asks, callers=streams, count=count or streams, seconds=seconds)


def paced(port: int, *, streams: int, tokens: int, seconds: float = 60.0) -> Result:
    """Streams at the pace of speech."""
    asks = request(f"paced-{TOKENS_PER_SECOND}x{tokens}", stream=True)
    return run(port, asks, callers=streams, count=streams, seconds=seconds, spread=WARM_UP_SECONDS)


def main() -> None:
    """Run one mode and print its figures as JSON."""
    parser = argparse.ArgumentParser(description="Callers for measurements, over loopback.")
    parser.add_argument("mode", choices=("requests", "burst", "paced"))
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--count", type=int, default=5000, help="requests in all")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=1000, help="tokens a stream")
    parser.add_argument("--group", type=int, default=16, help="frames to a write of the upstream, in a burst")
    parser.add_argument("--seconds", type=float, default=60.0, help="the end, done or not")
    options = parser.parse_args()
    port, seconds = options.port, options.seconds
    if options.mode == "requests":
        result = requests(port, connections=options.connections, count=options.count, seconds=seconds)
    elif options.mode == "burst":
        shape = {"streams": options.streams, "tokens": options.tokens, "group": options.group}
        result = burst(port, **shape, seconds=seconds)
    else:
        result = paced(port, streams=options.streams, tokens=options.tokens, seconds=seconds)
    sys.stdout.write(orjson.dumps(result.report(), option=orjson.OPT_INDENT_2).decode() + "\n")


if __name__ == "__main__":
    main()
