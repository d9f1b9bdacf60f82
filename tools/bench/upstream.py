"""A very cheap upstream in OpenAI's shape, so that what is measured is the proxy: one thread, epoll, prebuilt bytes.

    python tools/bench/upstream.py --port 9000        (0: any free port; the first line on stdout names it)

The model's name says what is answered:

    whole              one small completion
    burst-2000         a stream of 2000 tokens as fast as they are taken, 16 frames to a write
    burst-2000by1      the same, so many frames to a write
    paced-50x100       a stream of 100 tokens, 50 a second

GET /connections tells how many connections were opened so far.
It serves loopback alone and ends by itself. Linux only.
"""

import argparse
import heapq
import re
import select
import socket
import sys
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from time import monotonic
from typing import Any

import orjson

LOOPBACK = "127.0.0.1"
FRAMES_PER_WRITE = 16
RECEIVE_BYTES = 65_536
MOST_TOKENS = 1_000_000

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
MODEL = re.compile(rb'"model": ?"(burst|paced)-(\d+)(?:x(\d+)|by(\d+))?"')

HEAD: dict[str, Any] = {
    "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
    "object": "chat.completion.chunk",
    "created": 1_750_000_000,
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "system_fingerprint": "fp_dd60daf5f5",
}
USAGE = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
WORDS = ("Hello", "!", " How", " can", " I", " help", " you", " today", "?", " Of", " course", ".")


def _response(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _whole() -> bytes:
    message = {"role": "assistant", "content": "Hello! How can I help you today?", "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return orjson.dumps({**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE})


def _chunk(data: bytes) -> bytes:
    """An SSE frame as one HTTP chunk, as servers that flush each frame write it."""
    frame = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(frame), frame)


def _frame(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return _chunk(orjson.dumps({**HEAD, "choices": [choice], "usage": None}))


WHOLE = _response("200 OK", _whole())
NOT_FOUND = _response("404 Not Found", b"{}")
OPENING = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
    + _frame({"role": "assistant", "content": ""})
)
TOKENS = [_frame({"content": word}) for word in WORDS]
CLOSING = (
    _frame({}, "stop")
    + _chunk(orjson.dumps({**HEAD, "choices": [], "usage": USAGE}))
    + _chunk(b"[DONE]")
    + b"0\r\n\r\n"
)


@lru_cache(maxsize=32)
def stream(tokens: int, group: int) -> tuple[bytes, ...]:
    """A whole stream as the writes it is made of; equal writes are one object."""
    block = b"".join(TOKENS[position % len(TOKENS)] for position in range(group))
    rest = b"".join(TOKENS[position % len(TOKENS)] for position in range(tokens % group))
    return OPENING, *[block] * (tokens // group), rest + CLOSING


class Client:
    """A connection, what came on it, and what is still to be written: `writes` from `position` on, `pace` apart."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.inbox = b""
        self.writes: Sequence[bytes] = ()
        self.position = 0
        self.pace = 0.0
        self.due = 0.0
        self.rest = b""

    def request(self) -> bytes | None:
        """The next whole request, None while there is none."""
        end = self.inbox.find(b"\r\n\r\n") + 4
        if end < 4:
            return None
        length = LENGTH.search(self.inbox, 0, end)
        end += int(length[1]) if length else 0
        if len(self.inbox) < end:
            return None
        request, self.inbox = self.inbox[:end], self.inbox[end:]
        return request

    def answer(self, request: bytes, opened: int) -> None:
        """Decide what will be written. `opened`: connections so far."""
        self.position, self.pace = 0, 0.0
        if request.startswith(b"GET /connections "):
            self.writes = (_response("200 OK", orjson.dumps(opened)),)
        elif not request.startswith(b"POST /v1/chat/completions "):
            self.writes = (NOT_FOUND,)
        elif asked := MODEL.search(request):
            kind, first, count, group = asked.groups()
            if kind == b"paced":
                self.pace = 1 / max(int(first), 1)
                self.due = monotonic()
                self.writes = stream(min(int(count or 1), MOST_TOKENS), 1)
            else:
                self.writes = stream(min(int(first), MOST_TOKENS), max(int(group or FRAMES_PER_WRITE), 1))
        else:
            self.writes = (WHOLE,)

    def write(self) -> bool:
        """Do one write; False when the socket takes no more for now."""
        data = self.rest or self.writes[self.position]
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            self.rest = data[sent:]
            return False
        self.rest = b""
        self.position += 1
        return True

    @property
    def done(self) -> bool:
        """Whether all is written."""
        return self.position >= len(self.writes)


class Upstream:
    """The server: one epoll, whoever has something to write in turn, and whoever waits by due time."""

    def __init__(self, port: int) -> None:
        self.listener = socket.create_server((LOOPBACK, port), backlog=1024)
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]
        self._epoll = select.epoll()
        self._epoll.register(self.listener, select.EPOLLIN)
        self._clients: dict[int, Client] = {}
        self._ready: deque[Client] = deque()
        self._waiting: list[tuple[float, int, Client]] = []
        self._opened = 0

    def serve(self, seconds: float) -> None:
        """Serve for so long."""
        end = monotonic() + seconds
        while (now := monotonic()) < end:
            for descriptor, event in self._epoll.poll(self._patience(now, end)):
                if descriptor == self.listener.fileno():
                    self._accept()
                elif client := self._clients.get(descriptor):
                    self._serve(client, event)
            self._take_turns()

    def _patience(self, now: float, end: float) -> float:
        if self._ready:
            return 0
        due = self._waiting[0][0] if self._waiting else end
        return max(min(due, end) - now, 0)

    def _accept(self) -> None:
        try:
            sock, _ = self.listener.accept()
        except BlockingIOError:
            return
        self._opened += 1
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients[sock.fileno()] = Client(sock)
        self._epoll.register(sock, select.EPOLLIN)

    def _serve(self, client: Client, event: int) -> None:
        if event & select.EPOLLOUT:
            self._epoll.modify(client.sock, select.EPOLLIN)
            self._ready.append(client)
        if event & ~select.EPOLLOUT:
            try:
                data = client.sock.recv(RECEIVE_BYTES)
            except OSError:
                data = b""
            if not data:
                self._close(client)
                return
            client.inbox += data
            if client.done:
                self._next(client)

    def _next(self, client: Client) -> None:
        request = client.request()
        if request is not None:
            client.answer(request, self._opened)
            self._turn(client)

    def _take_turns(self) -> None:
        now = monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            self._turn(heapq.heappop(self._waiting)[2])
        for _ in range(len(self._ready)):
            self._turn(self._ready.popleft())

    def _turn(self, client: Client) -> None:
        if client.sock.fileno() < 0:
            return
        try:
            written = client.write()
        except OSError:
            self._close(client)
            return
        if not written:
            self._epoll.modify(client.sock, select.EPOLLIN | select.EPOLLOUT)
        elif client.done:
            self._next(client)
        elif client.pace and client.position > 1:
            client.due += client.pace
            heapq.heappush(self._waiting, (client.due, id(client), client))
        else:
            self._ready.append(client)

    def _close(self, client: Client) -> None:
        self._clients.pop(client.sock.fileno(), None)
        client.sock.close()


def main() -> None:
    """Serve, and say where."""
    parser = argparse.ArgumentParser(description="A cheap upstream in OpenAI's shape, for measurements.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=900.0, help="how long it serves at most")
    options = parser.parse_args()
    upstream = Upstream(options.port)
    sys.stdout.write(f"{upstream.port}\n")
    sys.stdout.flush()
    upstream.serve(options.seconds)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
