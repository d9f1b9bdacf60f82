"""A connection that fails while the keeper's thread reads it."""

import socket
import struct
from weakref import ref

import pytest

from providers.transport.connection import Connection, PrematureClose, ProtocolError
from tests.conftest import until

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n"
FAULTS = {"closed": b"", "malformed": b"zz\r\nno chunk", "reset": None}


def failed(fault: str) -> Connection:
    """A connection that has failed so after the first piece of its response."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = Connection(socket.create_connection(listener.getsockname()))
        theirs, _ = listener.accept()
    theirs.sendall(HEAD)
    assert connection.receive(5)
    if (sent := FAULTS[fault]) is None:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    else:
        theirs.sendall(sent)
    theirs.close()
    until(lambda: connection.receive_now() or connection.failure, "the failure")
    return connection


@pytest.mark.parametrize("raised", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_connection_is_raised_once_and_freed(fault: str, raised: bool, collector_off: None) -> None:
    """Without `raised` the caller has left, and nobody asks for the failure."""
    connection = failed(fault)
    if raised:
        with pytest.raises((PrematureClose, ProtocolError)):
            connection.receive(5)
    connection.close()
    freed = ref(connection)
    del connection
    assert freed() is None
