"""The HTTP transport of all providers: the only module that sends requests to an upstream.

    reply = send(account, "POST", "/chat/completions", {}, body, call)
    reply.read_head()                # waits for the head of the response
    reply.status, reply.headers      # known from here on
    for data in reply: ...           # the pieces of the body, as they arrive
    reply.close()                    # in a finally: keeps the connection if the response is complete, else shuts it

Pooling, time-outs and cancellation are the same for every provider, since they are here. Failures are raised as
exceptions of core/errors.py: no exception of sockets, TLS or HTTP leaves this module.
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
"""The most bytes that a response may have."""
STALE_SECONDS = 1.0
"""Seconds. A kept connection that the upstream had closed already shows it within a round trip. If it closes later than
this after the request was sent, the upstream may have begun the work.
"""
HELD_UP_SECONDS = 0.5
"""Seconds. If the consumer takes longer over a piece, it waits for a caller that does not read."""


def send(
    account: Endpoint,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    call: CallContext,
    timeouts: Timeouts | None = None,
) -> "Response":
    """Send a request over a kept connection or a new one. Raises UpstreamDown, UpstreamTimeout and Cancelled.

    Returns as soon as the request is sent; the response is awaited by `Response.read_head()`.
    """
    if call.gone:
        raise Cancelled
    if call.trace is not None:
        headers = {**headers, **call.trace_headers}
    reply = Response(account, account.request(method, path, headers, body), call, timeouts or Timeouts())
    reply.start()
    return reply


class Response:
    """A response as it arrives; the module's docstring shows its use. `resent`: the request was sent a second time."""

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
        """Send the request. If a pooled connection turns out to be closed, it is sent once more on a new one."""
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
        """Seconds: CONNECT_TIMEOUT, or the rest of the time to the first event if that is shorter."""
        return max(0.001, min(self._timeouts.connect, self._call.first_event_by - monotonic()))

    def _send(self, connection: Connection, *, answers_early: bool) -> None:
        try:
            connection.send(self._request, self._timeouts.idle)
        except ConnectionError:
            # The upstream may have answered with an error (a 413) and closed: its response is read all the same.
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
        self._request = b""  # it is not sent again, and may be a long conversation
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
        """The body's pieces as they arrive, until the call's `finish_by` at the latest."""
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
        """The socket that becomes readable when more arrives. Raises Cancelled after `close`."""
        return self._live().sock

    @property
    def has_more(self) -> bool:
        """Whether received bytes are buffered, which the socket does not show."""
        return self._connection is not None and self._connection.has_more

    @property
    def has_ended(self) -> bool:
        """Whether all of the body has arrived, or reading has failed: then nothing more makes the socket readable."""
        connection = self._connection
        return connection is None or connection.complete or connection.failure is not None

    @property
    def give_up_by(self) -> float:
        """When the upstream has been silent, or the response has lasted, for too long. While the caller does not read
        (`hold_up`), only the second counts.
        """
        return self._call.total_by if self._held_since else min(self._idle_by, self._call.total_by)

    def read_now(self) -> tuple[bytes, bool]:
        """The part of the body that has arrived, without waiting; and whether it was the last: then iteration ends, or
        raises the failure.
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
        """Suspend the idle time-out until `go_on`: the caller does not read, so the upstream is not read either."""
        self._held_since = monotonic()

    def go_on(self) -> None:
        """Continue after `hold_up`: the body is read again."""
        now = monotonic()
        held_since, self._held_since, self._waited_at = self._held_since or now, 0.0, now
        self._count_pause(now - held_since)

    def _count_pause(self, pause: float) -> None:
        """Do not count these seconds as the upstream's silence: they were spent on sending to the caller."""
        self._idle_by += pause
        self._call.first_event_by += pause
        self._held_up = self._held_up or pause > HELD_UP_SECONDS

    def _count(self, data: bytes) -> None:
        self._received += len(data)
        if self._wire is not None:
            self._wire.take(data)

    def settle(self) -> None:
        """Note that the content is complete: close() may wait a moment for the end of the response."""
        self._settled = True

    def close(self) -> None:
        """Return the connection to the pool if the response is complete, else shut it. May be called twice."""
        connection = self._connection
        if self._wire is not None:
            self._wire.end(self.status, self.headers)
        if connection is None:
            return
        if self._settled and not connection.complete and not self._call.gone:
            try:
                connection.receive(LINGER_SECONDS)
            except (PrematureClose, ProtocolError, OSError):
                pass  # the connection is not kept then
        self._connection = None
        self._call.detach(connection.sock)
        if connection.reusable() and not self._call.gone:
            self._account.pool.put(connection)
        else:
            connection.close()

    def broken(self, what: str) -> Exception:
        """The exception for a response with invalid content; `what` goes to the log."""
        return self._failure(ProtocolError(what))

    def _live(self) -> Connection:
        if self._connection is None:
            raise Cancelled
        return self._connection

    def _receive(self) -> bool:
        """Wait for bytes; False once none are expected. Raises a GatewayError or PrematureClose."""
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
        """The exception of core/errors.py for an exception of the socket or the parser."""
        if self._call.gone:
            return Cancelled()
        is_late = isinstance(error, TimeoutError)
        if is_late and self._held_up and monotonic() >= self._call.total_by:
            return RequestTimeout("The answer was not read in time (TOTAL_TIMEOUT).")
        failure = upstream_error(error, self._account.name, self.status or None, self._account.peer.proxy)
        # Many upstreams close a connection whose other side does not read.
        failure.trips_breaker = failure.trips_breaker and (is_late or not self._held_up)
        return failure
