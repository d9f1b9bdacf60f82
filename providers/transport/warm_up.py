"""Connects before a request needs the connection."""

from core.context import CallContext, Timeouts
from providers.transport.connection import Connection
from providers.transport.dial import connect
from providers.transport.endpoint import Endpoint
from providers.transport.network_errors import upstream_error

WARM_SECONDS = 25.0
"""How long a kept connection must still last to count as warm."""


def warm(account: Endpoint, call: CallContext, timeouts: Timeouts) -> None:
    """Put a connection into the pool, if connecting takes a TLS handshake and no pooled connection will last.

    Raises UpstreamDown, UpstreamTimeout and Cancelled.
    """
    if not account.peer.secure or account.pool.lasts(WARM_SECONDS):
        return
    try:
        connection = Connection(connect(account.peer, call, timeouts.connect))
    except (OSError, UnicodeError) as error:
        raise upstream_error(error, account.name, proxy=account.peer.proxy) from error
    call.detach(connection.sock)
    account.pool.put(connection)
