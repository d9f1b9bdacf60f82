"""The one transport: the only place that talks to an upstream.

    reply = send(account, "POST", "/chat/completions", {}, body, call)
    yield from reply.head()          # Silence, for each heartbeat in which the upstream has not answered
    reply.status, reply.headers      # from here on
    for data in reply: ...           # what has arrived; b"" for each heartbeat of silence
    reply.close()                    # in a finally: keeps the connection if the response is whole, else shuts it

Pooling, time-outs, heartbeats and hang-ups are thus the same for every provider. What fails is raised as one of
core/errors.py's exceptions: nothing of sockets, TLS or HTTP leaves this file.
"""

import re
from collections.abc import Iterator, Mapping
from math import inf
from time import monotonic
from urllib.parse import urlsplit

from core.context import CallContext, Timeouts
from core.errors import Cancelled, RequestTimeout, UpstreamError
from core.events import SILENCE, Silence
from providers.base import USER_AGENT
from providers.transport.connection import Connection, PrematureClose, ProtocolError
from providers.transport.dial import Origin, connect
from providers.transport.network_errors import upstream_error
from providers.transport.pool import Pool
from providers.transport.proxy import Proxy

LINGER_SECONDS = 0.05
"""How long close() waits for the end of a response whose content has all been read, to keep the connection."""
BODY_BYTES = 256 * 1024 * 1024
"""More than this from an upstream is not an answer."""
STALE_SECONDS = 1.0
"""A kept connection that had been closed meanwhile shows it within a round trip. One that closes later than this after
the request went out has cut off its answer.
"""
HELD_UP_SECONDS = 0.5
"""Who takes longer over what has arrived is waiting for a caller who does not read."""
WARM_SECONDS = 25.0
"""How long a kept connection must still last to count as warm."""
UNSAFE = re.compile(r"[\x00-\x1f\x7f]")


class Endpoint:
    """An upstream's address, our credential there and the connections to it. Built once, shared by all threads.

    `base_url` is what stands before `/chat/completions`; a query in it (Azure's api-version) goes with each request.
    `headers` carry the credential. `proxy` is a URL (connect.FORMS) through which every connection goes, those to
    localhost too. Raises ValueError for an address that is not http(s), and for a proxy that is none of the forms.
    """

    def __init__(self, name: str, base_url: str, headers: Mapping[str, str], proxy: str = "") -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or UNSAFE.search(base_url):
            raise ValueError(f"{base_url!r} is not an http:// or https:// address.")
        self.name = name
        self.base_url = base_url
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        self.peer = Origin(parts.hostname, port, secure, Proxy.parse(proxy) if proxy else None)
        self.pool = Pool()
        self._path = parts.path.rstrip("/")
        self._query = f"?{parts.query}" if parts.query else ""
        self._headers = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": USER_AGENT, **headers}
        self._head = _lines(self._headers)

    def request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
        """The whole request as it goes over the wire; `headers` go before the account's own of the same name. A body is
        JSON, unless they have another Content-Type.
        """
        query = self._query.replace("?", "&", 1) if "?" in path else self._query
        line = f"{method} {self._path}{path}{query} HTTP/1.1\r\n"
        typed = {"Content-Type": "application/json", **headers} if body else headers
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        own = self._head if self._headers.keys().isdisjoint(headers) else _lines(_without(self._headers, headers))
        head = f"{line}{own}{_lines(typed)}{length}Accept: */*\r\n\r\n"
        return head.encode("latin-1") + body


def _without(headers: Mapping[str, str], others: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in others}


def _lines(headers: Mapping[str, str]) -> str:
    for name, value in headers.items():
        if UNSAFE.search(value) or not value.isascii():
            raise ValueError(f"The header {name} may not hold control characters or anything but ASCII.")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def send(
    account: Endpoint,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    call: CallContext,
    timeouts: Timeouts | None = None,
) -> "Response":
    """Send a request over a kept connection or a new one. Raises UpstreamDown, UpstreamTimeout and HungUp.

    Returns as soon as the request is out; the response is awaited by `Reply.head()`.
    """
    if call.gone:
        raise Cancelled
    reply = Response(account, account.request(method, path, headers, body), call, timeouts or Timeouts())
    reply.start()
    return reply


def warm(account: Endpoint, call: CallContext, timeouts: Timeouts) -> None:
    """Have a connection wait in the pool, if making one costs a TLS handshake and none is there that will last.

    Raises UpstreamDown, UpstreamTimeout and HungUp.
    """
    if not account.peer.secure or account.pool.lasts(WARM_SECONDS):
        return
    try:
        connection = Connection(connect(account.peer, call, timeouts.connect))
    except (OSError, UnicodeError) as error:
        raise upstream_error(error, account.name, proxy=account.peer.proxy) from error
    call.detach(connection.sock)
    account.pool.put(connection)


class Response:
    """A response as it arrives. See this file's head for its use. `resent`: the upstream may have had it twice."""

    def __init__(self, account: Endpoint, request: bytes, call: CallContext, timeouts: Timeouts) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.resent = False
        self._account = account
        self._request = request
        self._call = call
        self._timeouts = timeouts
        self._connection: Connection | None = None
        self._idle_by = inf
        self._sent_at = self._waited_at = 0.0
        self._held_up = False
        self._received = 0
        self._settled = False

    def start(self, *, fresh: bool = False) -> None:
        """Write the request. A kept connection that turns out to be closed is replaced once, silently."""
        kept = None if fresh else self._account.pool.take()
        try:
            if kept is not None:
                self._call.attach(kept.sock)
                self._connection = kept
            else:
                self._connection = Connection(connect(self._account.peer, self._call, self._time_to_connect()))
            self._connection.expect()
            self._send(self._connection, answers_early=kept is None)
            self._sent_at = self._waited_at = monotonic()
        except (OSError, UnicodeError) as error:
            self._drop()
            if kept is None or self._call.gone or isinstance(error, TimeoutError):
                raise self._failure(error) from error
            self.start(fresh=True)
        except Cancelled:
            self._drop(kept)
            raise

    def _time_to_connect(self) -> float:
        """CONNECT_TIMEOUT, or what is left of the time to the first event if that is less."""
        return max(0.001, min(self._timeouts.connect, self._call.first_event_by - monotonic()))

    def _send(self, connection: Connection, *, answers_early: bool) -> None:
        try:
            connection.send(self._request, self._timeouts.idle)
        except ConnectionError:
            # It may have closed because it has said already what is wrong (a 413): the answer is read all the same.
            if not answers_early:
                raise

    def head(self) -> Iterator[Silence]:
        """Wait for status and headers; yields Silence for each heartbeat without them."""
        while not self._live().headed:
            try:
                arrived = self._receive()
            except PrematureClose as error:
                reused = self._live().reused
                self._drop()
                stale = error.before_first_byte and reused and monotonic() - self._sent_at < STALE_SECONDS
                if not stale or self._call.gone:
                    raise self._failure(error) from error
                self.resent = True
                self.start(fresh=True)
                continue
            if not arrived:
                yield SILENCE
        self.status = self._live().status
        self.headers = self._live().headers
        if self.headers.get("content-encoding", "identity") != "identity":
            raise UpstreamError(
                f"{self._account.name} compressed its answer although that was not offered.",
                provider=self._account.name,
                upstream_status=self.status,
            )

    def __iter__(self) -> Iterator[bytes]:
        """The body: what has arrived, as it arrives, and b"" for each heartbeat of silence."""
        while True:
            connection = self._live()
            data = connection.take()
            if data:
                self._received += len(data)
                if self._received > BODY_BYTES:
                    raise self._failure(ProtocolError(f"more than {BODY_BYTES} bytes"))
                yield data
            elif connection.complete:
                return
            else:
                try:
                    arrived = self._receive()
                except PrematureClose as error:
                    raise self._failure(error) from error
                if not arrived:
                    yield b""

    def settle(self) -> None:
        """The content is known to be whole: close() may wait a moment for the end of the response."""
        self._settled = True

    def close(self) -> None:
        """Give the connection back if the response is whole, shut it otherwise. May be called twice."""
        connection = self._connection
        if connection is None:
            return
        if self._settled and not connection.complete and not self._call.gone:
            try:
                connection.receive(LINGER_SECONDS)
            except (PrematureClose, ProtocolError, OSError):
                pass  # then it is not kept
        self._connection = None
        self._call.detach(connection.sock)
        if connection.reusable() and not self._call.gone:
            self._account.pool.put(connection)
        else:
            connection.close()

    def broken(self, what: str) -> Exception:
        """The exception for a response whose content makes no sense; `what` goes to the log."""
        return self._failure(ProtocolError(what))

    def _live(self) -> Connection:
        if self._connection is None:
            raise Cancelled
        return self._connection

    def _receive(self) -> bool:
        """Wait for bytes; False when the next heartbeat is due. Raises what the caller is told, and Cut."""
        call, now = self._call, monotonic()
        pause, self._waited_at = now - self._waited_at, now  # for sending to the caller: no silence of the upstream's
        self._idle_by += pause
        call.first_event_by += pause
        self._held_up = self._held_up or pause > HELD_UP_SECONDS
        give_up_by = min(self._idle_by, call.first_event_by, call.total_by)
        while True:
            now = monotonic()
            if now >= give_up_by:
                raise self._failure(TimeoutError())
            if now >= call.beat_by:
                call.beat_by = now + call.heartbeat
                return False
            try:
                arrived = self._live().receive(min(give_up_by, call.beat_by) - now)
            except (OSError, ProtocolError) as error:
                raise self._failure(error) from error
            if call.gone:
                raise Cancelled
            self._waited_at = monotonic()
            if arrived:
                self._idle_by = self._waited_at + self._timeouts.idle
                return True

    def _drop(self, connection: Connection | None = None) -> None:
        connection = connection or self._connection
        self._connection = None
        if connection is not None:
            self._call.detach(connection.sock)
            connection.close()

    def _failure(self, error: Exception) -> Exception:
        """The one translation of what sockets and the parser raise into what the caller is told."""
        if self._call.gone:
            return Cancelled()
        is_late = isinstance(error, TimeoutError)
        if is_late and self._held_up and monotonic() >= self._call.total_by:
            return RequestTimeout("The answer was not read in time (TOTAL_TIMEOUT).")
        failure = upstream_error(error, self._account.name, self.status or None, self._account.peer.proxy)
        # Many an upstream closes a connection on which nothing is taken from it.
        failure.trips_breaker = failure.trips_breaker and (is_late or not self._held_up)
        return failure
