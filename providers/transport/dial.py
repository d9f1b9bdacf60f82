"""Opens connections for client.py: to the upstream or through its proxy, then TLS.

Each socket is registered with the call at once, so cancelling the call ends any of these phases. One deadline covers
all of them. The result is a plain or a TLS socket; a tunnel through a proxy does not show.
"""

import socket
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from core.context import CallContext
from core.errors import Cancelled
from providers.transport.proxy import Proxy, seconds_left
from providers.transport.tls import tls_context


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections lead: to `host` and `port`, with TLS if `secure`, through `proxy` if there is one."""

    host: str
    port: int
    secure: bool
    proxy: Proxy | None = None


def connect(peer: Origin, call: CallContext, seconds: float) -> socket.socket:
    """A connected socket, registered with the call as soon as it exists. Raises OSError and Cancelled."""
    deadline = monotonic() + seconds
    failure: OSError | None = None
    first = peer.proxy or peer
    addresses = _resolve(first.host, first.port, call, deadline)
    for left, (family, kind, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
        now = monotonic()
        if now >= deadline:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            # Each address gets its share of the time: an unreachable one must not use up that of the next.
            return _open(sock, address, peer, call, now + (deadline - now) / left)
        except OSError as error:
            failure = error
            if call.gone:
                raise Cancelled from error
    try:
        raise failure or TimeoutError(f"no connection within {seconds} s")
    finally:
        del failure  # its traceback refers to this frame


_lookups: "dict[tuple[str, int], Future[list[Any]]]" = {}
_looking = threading.Lock()


def _resolve(host: str, port: int, call: CallContext, deadline: float) -> list[Any]:
    """The result of getaddrinfo, if it comes in time. The function cannot be interrupted, and may take half a minute,
    so it runs in a thread, one for all calls that resolve the same name. Raises OSError, UnicodeError and Cancelled.
    """
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass  # a name
    with _looking:
        lookup = _lookups.get((host, port))
        if lookup is None:
            lookup = _lookups[host, port] = Future()
            threading.Thread(target=_look_up, args=(host, port, lookup), name="resolve", daemon=True).start()
    return call.wait_for(lookup, deadline)


def _look_up(host: str, port: int, lookup: "Future[list[Any]]") -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        done = partial(lookup.set_exception, error.with_traceback(None))
    else:
        done = partial(lookup.set_result, found)
    del _lookups[host, port]
    done()


def _open(sock: socket.socket, address: Any, peer: Origin, call: CallContext, deadline: float) -> socket.socket:
    try:
        call.attach(sock)
        sock.settimeout(seconds_left(deadline))
        sock.connect(address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if peer.proxy is not None:
            peer.proxy.tunnel(sock, peer.host, peer.port, deadline)
        if peer.secure:
            plain = sock
            sock = tls_context().wrap_socket(plain, server_hostname=peer.host, do_handshake_on_connect=False)
            call.detach(plain)
            call.attach(sock)
            sock.settimeout(seconds_left(deadline))
            sock.do_handshake()
    except (OSError, Cancelled):
        call.detach(sock)
        sock.close()
        raise
    return sock
