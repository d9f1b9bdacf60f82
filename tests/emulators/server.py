"""A small HTTP/1.1 server on raw sockets, for tests that must control every byte of an answer.

    def handler(connection: Connection, received: Received) -> None:
        connection.send(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")

    with Server(handler) as server:
        requests.get(server.url)
        server.wait_received(1).headers["User-Agent"]

Each connection is a thread, kept alive between requests as HTTP/1.1 says. It listens on 127.0.0.1 alone.
"""

import atexit
import datetime as dt
import ipaddress
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Self

import pytest

from tests.emulators.connection import BadRequest, Connection, Gone, Received

HOST = "127.0.0.1"
BACKLOG = 512
JOIN_SECONDS = 5.0

Handler = Callable[[Connection, Received], None]


class Server:
    """Answers with `handler(connection, received)`, one call per request; what it raises fails the test run.

    `received` holds every request in the order of arrival, `accepted` counts the connections so far. With `tls` it
    shows the certificate of `certificate()`.
    """

    def __init__(self, handler: Handler, *, tls: bool = False) -> None:
        self.received: list[Received] = []
        self.accepted = 0
        self._handler = handler
        self._tls = _context() if tls else None
        self._changed = threading.Condition()
        self._connections: set[Connection] = set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._reserved: socket.socket | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port, which stays ours from `start` to `stop`."""
        if self._reserved is None:
            raise RuntimeError("The server is not started.")
        port: int = self._reserved.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self.port}"

    def start(self) -> None:
        """Take a free port and listen."""
        self._reserved = _bound(0)
        self.listen()

    def stop(self) -> None:
        """Close everything, and wait for the threads. Raises RuntimeError when a handler does not end."""
        self.refuse()
        until = monotonic() + JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - monotonic()))
            if thread.is_alive():
                raise RuntimeError(f"{thread.name} does not end.")
        if self._reserved is not None:
            self._reserved.close()

    def listen(self) -> None:
        """Take connections (again, after `refuse`)."""
        if self._listener is not None:
            return
        self._listener = _bound(self.port)
        self._listener.listen(BACKLOG)
        self._acceptor = self._begin(self._accept, self._listener)

    def refuse(self) -> None:
        """As if nothing listened: the connections are dropped and new ones refused, until `listen`."""
        with self._changed:
            listener, self._listener = self._listener, None
            connections = list(self._connections)
        if listener is not None and self._acceptor is not None:
            try:
                socket.create_connection((HOST, self.port)).close()  # wakes the thread that accepts, so that it ends
            except OSError:
                pass  # another client woke it
            self._acceptor.join(JOIN_SECONDS)
        for connection in connections:
            connection.drop()

    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    def wait_open(self, count: int, timeout: float = 5.0) -> None:
        """Wait until exactly so many connections are open. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._connections) == count, timeout):
                raise TimeoutError(f"{len(self._connections)} connections are open instead of {count}.")

    def wait_received(self, count: int = 1, timeout: float = 5.0) -> Received:
        """Wait for so many requests in all; the last of them. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.received) >= count, timeout):
                raise TimeoutError(f"{len(self.received)} of {count} requests came.")
            return self.received[count - 1]

    def _begin(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, name=f"upstream-{self.port}", daemon=True)
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()
        return thread

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                sock, _ = listener.accept()
                with self._changed:
                    if listener is not self._listener:
                        sock.close()
                        return
                    self.accepted += 1
                    connection = Connection(sock, self.accepted)
                    self._connections.add(connection)
                    self._begin(self._serve, connection)
                    self._changed.notify_all()

    def _serve(self, connection: Connection) -> None:
        try:
            if self._tls is not None:
                connection.secure(self._tls)
            while not connection.closed:
                self._answer(connection)
        except (Gone, OSError):
            pass
        finally:
            connection.close()
            with self._changed:
                self._connections.discard(connection)
                self._changed.notify_all()

    def _answer(self, connection: Connection) -> None:
        try:
            received = connection.read()
        except BadRequest:
            connection.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            connection.close()
            return
        with self._changed:
            self.received.append(received)
            self._changed.notify_all()
        self._handler(connection, received)
        if received.headers.get("Connection", "").lower() == "close":
            connection.close()


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # so that one holds the port while another listens
    sock.bind((HOST, port))
    return sock


@cache
def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate())
    return context


@cache
def certificate() -> tuple[Path, Path]:
    """The files of a self-signed certificate for 127.0.0.1 and localhost, and of its key; made once per process.

    A client trusts it when it is given the first file (SSL_CERT_FILE, `verify=`). It is made by the `cryptography`
    package; where that is not installed, the test that asks for it is skipped.
    """
    x509 = pytest.importorskip("cryptography.x509")
    hashes = pytest.importorskip("cryptography.hazmat.primitives.hashes")
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tempfile.TemporaryDirectory(prefix="upstream-tls-")
    atexit.register(folder.cleanup)
    certificate_path, key_path = Path(folder.name, "certificate.pem"), Path(folder.name, "key.pem")
    certificate_path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_path, key_path
