"""The one transport: the only place that talks to an upstream.

    reply = send(account, "POST", "/chat/completions", {}, body, call)
    reply.read_head()                # waits until the upstream answers
    reply.status, reply.headers      # from here on
    for data in reply: ...           # what has arrived, as it arrives
    reply.close()                    # in a finally: keeps the connection if the response is whole, else shuts it

Pooling, time-outs and hang-ups are thus the same for every provider. What fails is raised as one of
core/errors.py's exceptions: nothing of sockets, TLS or HTTP leaves this file.
"""

import socket
from collections.abc import Iterator, Mapping
from math import inf
from time import monotonic

from core.context import CallContext, Timeouts
from core.errors import Cancelled, RequestTimeout, UpstreamError
from providers.transport.connection import Connection, PrematureClose, ProtocolError
from providers.transport.dial import connect
from providers.transport.endpoint import Endpoint
from providers.transport.network_errors import upstream_error
from providers.transport.wire_log import WireLog, is_wanted

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

    Returns as soon as the request is out; the response is awaited by `Response.read_head()`.
    """
    if call.gone:
        raise Cancelled
    if call.trace is not None:
        headers = {**headers, **call.trace_headers}
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
        self._wire = WireLog(account.name, request) if is_wanted(call) else None
        self._account = account
        self._request = request
        self._call = call
        self._timeouts = timeouts
        self._connection: Connection | None = None
        self._idle_by = inf
        self._sent_at = self._waited_at = 0.0
        self._held_up = False
        self._held_since = 0.0
        self._received = 0
        self._settled = False

    def start(self, *, fresh: bool = False) -> None:
        """Write the request. A kept connection that turns out to be closed is replaced once, silently."""
        self._call.flush()
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

    def read_head(self) -> None:
        """Wait for status and headers."""
        while not self._live().headed:
            try:
                self._receive()
            except PrematureClose as error:
                reused = self._live().reused
                self._drop()
                stale = error.before_first_byte and reused and monotonic() - self._sent_at < STALE_SECONDS
                if not stale or self._call.gone:
                    raise self._failure(error) from error
                self.resent = True
                self.start(fresh=True)
        self._call.mark_headers()
        self.status = self._live().status
        self.headers = self._live().headers
        if self.headers.get("content-encoding", "identity") != "identity":
            raise UpstreamError(
                f"{self._account.name} compressed its answer although that was not offered.",
                provider=self._account.name,
                upstream_status=self.status,
            )

    def __iter__(self) -> Iterator[bytes]:
        """The body: what has arrived, as it arrives; no longer than the call's `finish_by`."""
        while True:
            connection = self._live()
            data = connection.take()
            if data:
                self._count(data)
                if self._received > BODY_BYTES:
                    raise self._failure(ProtocolError(f"more than {BODY_BYTES} bytes"))
                yield data
            elif connection.complete:
                return
            else:
                try:
                    if not self._receive():
                        return
                except PrematureClose as error:
                    raise self._failure(error) from error

    @property
    def socket(self) -> socket.socket:
        """What becomes readable when more of it comes. Raises Cancelled after `close`."""
        return self._live().sock

    @property
    def has_more(self) -> bool:
        """Whether bytes wait that the socket does not show."""
        return self._connection is not None and self._connection.has_more

    @property
    def give_up_by(self) -> float:
        """When a silence has been too long, or the whole answer has; while it is `held_up`, only the latter."""
        return self._call.total_by if self._held_since else min(self._idle_by, self._call.total_by)

    def read_now(self) -> tuple[bytes, bool]:
        """What of the body has arrived, without waiting; and whether that was all: then iteration ends, or raises what
        went wrong.
        """
        connection = self._connection
        if connection is None or self._call.gone:
            return b"", True
        connection.receive_now()
        if data := connection.take():
            self._idle_by = monotonic() + self._timeouts.idle
            self._count(data)
            if self._received > BODY_BYTES:
                connection.failure = ProtocolError(f"more than {BODY_BYTES} bytes")
        return data, connection.complete or connection.failure is not None

    def hold_up(self) -> None:
        """The caller does not take what has come: until `go_on` there is no silence of the upstream's."""
        self._held_since = monotonic()

    def go_on(self) -> None:
        """It has been read without waiting, and is read on."""
        now = monotonic()
        held_since, self._held_since, self._waited_at = self._held_since or now, 0.0, now
        self._count_pause(now - held_since)

    def _count_pause(self, pause: float) -> None:
        """So many seconds went into sending to the caller: that was no silence of the upstream's."""
        self._idle_by += pause
        self._call.first_event_by += pause
        self._held_up = self._held_up or pause > HELD_UP_SECONDS

    def _count(self, data: bytes) -> None:
        self._received += len(data)
        if self._wire is not None:
            self._wire.take(data)

    def settle(self) -> None:
        """The content is known to be whole: close() may wait a moment for the end of the response."""
        self._settled = True

    def close(self) -> None:
        """Give the connection back if the response is whole, shut it otherwise. May be called twice."""
        connection = self._connection
        if self._wire is not None:
            self._wire.end(self.status, self.headers)
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
        """Wait for bytes; False when none are waited for any more. Raises what the caller is told, and
        PrematureClose.
        """
        call = self._call
        call.flush()
        now = monotonic()
        pause, self._waited_at = now - self._waited_at, now
        self._count_pause(pause)
        give_up_by = min(self._idle_by, call.first_event_by, call.total_by, call.finish_by)
        arrived = False
        while not arrived:
            now = monotonic()
            if now >= call.finish_by:
                return False
            if now >= give_up_by:
                raise self._failure(TimeoutError())
            try:
                arrived = self._live().receive(give_up_by - now)
            except (OSError, ProtocolError) as error:
                raise self._failure(error) from error
            if call.gone:
                raise Cancelled
            self._waited_at = monotonic()
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
