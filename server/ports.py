"""Checks whether the server can listen on an address, before gunicorn tries: gunicorn's error names no setting."""

import errno
import socket
from time import monotonic, sleep

PORT_SECONDS = 1.0
"""How long an address may be in use at the start."""


def check_port(host: str, port: int) -> None:
    """Raises ValueError, with the setting to change, for an address that the server cannot listen on.

    If the address is in use, it waits up to PORT_SECONDS: the server there may be about to end.
    """
    until = monotonic() + PORT_SECONDS
    while not _is_free(host, port):
        if monotonic() > until:
            raise ValueError(f"PORT is {port}, where another program listens already; stop it, or choose another.")
        sleep(PORT_SECONDS / 10)


def _is_free(host: str, port: int) -> bool:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        name, value = ("PORT", port) if error.errno == errno.EACCES else ("HOST", repr(host))
        raise ValueError(f"{name} is {value}, where this program cannot listen: {error.strerror}.") from None
    return True
