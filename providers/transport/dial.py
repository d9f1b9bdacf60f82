"""How the transport gets its sockets: to the upstream or through its proxy, then TLS. Only http.py looks inside.

The call knows a socket from its first moment, so that a hang-up ends any of these phases, and one deadline holds over
all of them. The socket that comes out is a plain one, or TLS over it; of the proxy nothing is left but the way.
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
    """A connected socket that the call knows of from the first moment. Raises OSError and HungUp."""
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
            # Each gets its share of the time: one that leads nowhere must not use up that of the next.
            return _open(sock, address, peer, call, now + (deadline - now) / left)
        except OSError as error:
            failure = error
            if call.gone:
                raise Cancelled from error
    raise failure or TimeoutError(f"no connection within {seconds} s")


_lookups: "dict[tuple[str, int], Future[list[Any]]]" = {}
_looking = threading.Lock()


def _resolve(host: str, port: int, call: CallContext, deadline: float) -> list[Any]:
    """What getaddrinfo says, if it says it in time. It cannot be interrupted, and may take half a minute: so a thread
    waits for it, one for all who ask for the same. Raises OSError, UnicodeError and HungUp.
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
