"""gunicorn's threaded worker with errors in JSON, no thread for a caller that is slow to read a whole answer, as few
threads in use as needed, WebSockets that hold no thread, and a shutdown that lets running requests end.
"""

import sys
import threading
from functools import partial
from logging import getLogger
from time import sleep
from typing import Any, Protocol

import orjson
from gunicorn.http.errors import LimitRequestHeaders
from gunicorn.workers.gthread import PollableMethodQueue

from core.errors import GatewayError, InvalidRequest
from schemas.errors import error_body
from server.admission import Admission
from server.connections import LARGEST_HEAD, ClientConnection, PollingWorker
from server.malloc_trim import keep_trimmed
from server.response import send_now
from server.sockets.keeper import SocketKeeper
from server.sockets.socket import Socket
from server.succession import Succession
from server.thread_pool import LifoThreadPool

log = getLogger("thinkline.errors")

BOOT_AGAIN_SECONDS = 1.0
FINAL_ERROR_SECONDS = 1.0
"""How long before the end of GRACEFUL_TIMEOUT the calls that still run are cancelled, with an error to their callers.
"""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ServerState(Protocol):
    """The services that the worker uses; app.extensions has them."""

    @property
    def admission(self) -> Admission:
        """The bound on requests under way."""

    @property
    def sockets(self) -> SocketKeeper:
        """The keeper of WebSockets."""

    def close(self) -> None:
        """Save and close, since the worker is about to end."""


class Worker(PollingWorker):
    """gunicorn's gthread with the changes that the module's docstring lists."""

    _state: ServerState | None = None
    """None until the app is loaded, and if it cannot be loaded (RELOAD after a mistake)."""
    succession: Succession | None = None
    """gunicorn.conf.py sets it before the fork."""
    _ending = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.method_queue = _MethodQueue()

    def init_process(self) -> None:
        """Boot and serve. If a worker that replaces another cannot boot, the boot is retried, where gunicorn would end
        the whole server. So is the boot of a worker that gets too few threads, as there may be enough of them soon.
        """
        try:
            super().init_process()
        except Exception as error:
            lacks_threads = isinstance(error, RuntimeError) and "start new thread" in str(error)
            is_first = self.succession is None or self.succession.is_first(self.age)
            if self.booted or (is_first and not lacks_threads):
                raise
            log.error("a worker cannot boot, and is tried again: %s", error, exc_info=not lacks_threads)  # noqa: TRY400
            sleep(BOOT_AGAIN_SECONDS)
            sys.exit(1)

    def load_wsgi(self) -> None:
        """Load the app, and hand its services this worker's threads."""
        super().load_wsgi()
        # gunicorn looks two dozen settings up for each request: from here on they are plain attributes.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        self._state = getattr(self.wsgi, "extensions", {}).get("thinkline")
        if self._state is not None:
            self._state.sockets.serve_with(self.tpool.do, self.worker_connections)

    def enqueue_req(self, conn: ClientConnection) -> None:
        """Have a thread serve a connection whose next request has arrived."""
        self.tpool.do(partial(self._serve, conn))

    def detach(self, conn: ClientConnection) -> None:
        """Leave a connection that has become a WebSocket to its keeper. It counts until it is closed."""
        self._pipelined_running.discard(conn)
        self._serve_pipelined()

    def forget(self) -> None:
        """Count off a WebSocket that is closed."""
        self.nr_conns -= 1

    def get_thread_pool(self) -> LifoThreadPool:
        """The pool that gunicorn uses instead of an executor."""
        return LifoThreadPool(self.cfg.threads)

    def _serve(self, conn: ClientConnection) -> None:
        keep = False
        head, conn.head = conn.head, bytearray()
        try:
            if len(head) > LARGEST_HEAD and b"\r\n\r\n" not in head:
                self.handle_error(None, conn.sock, conn.client, LimitRequestHeaders("The head has no end."))
            else:
                conn.init()
                conn.parser.unreader.unread(head)
                keep = self.handle(conn)
        finally:
            if conn.upgraded is not None and self._state is not None:
                self._hand_over(conn, conn.upgraded, self._state.sockets)
            else:
                self.method_queue.defer(self.finish_request, conn, keep)

    def _hand_over(self, conn: ClientConnection, connection: Socket, keeper: SocketKeeper) -> None:
        """Hand a new WebSocket to its keeper, and free this thread."""
        self.method_queue.defer(self.detach, conn)
        received = conn.parser.unreader.take_buffered()
        ended = partial(self.method_queue.defer, self.forget)
        try:
            keeper.take_over(connection, conn.sock, conn.unsent, received, ended)
        except OSError as error:
            log.error("a WebSocket cannot be kept: %s", error)  # noqa: TRY400 - the message says it all
            conn.sock.close()
            ended()

    def handle_request(self, req: Any, conn: ClientConnection) -> bool:
        """Answer a request without waiting for its caller to read; the connection keeps the rest of the answer."""
        if req._expected_100_continue:  # noqa: SLF001 - it has no other name
            req._expected_100_continue = False  # noqa: SLF001 - gunicorn would block on a caller that does not read
            send_now(conn.sock, CONTINUE)
        keep: bool = super().handle_request(req, conn)
        conn.unsent, conn.upgraded = memoryview(req.unsent), req.upgraded
        return keep

    def _keepalive_after(self, conn: ClientConnection, keepalive: bool) -> bool:
        """Whether the connection is kept, as the response has decided. gunicorn would read the body for up to 5 s."""
        conn.parser.mesg = None
        return keepalive

    def run(self) -> None:
        """Serve until the worker is to end; then cancel the calls that still run."""
        keep_trimmed()
        super().run()
        if self._state is not None:
            self._state.admission.drain(0, FINAL_ERROR_SECONDS / 2)
            self._state.close()

    def _cap_keepalive(self, deadline: float) -> None:
        """Close WebSockets too: the worker listens no more, so that clients reconnect to another worker."""
        super()._cap_keepalive(deadline)
        if self._state is not None:
            self._state.sockets.retire()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """On SIGTERM, let the running calls end, then stop.

        If the server stops, new calls are refused meanwhile, /health answers and /ready fails. If other workers take
        over, this one serves until they do, and then stops listening. gunicorn would stop listening at once.
        """
        state = self._state
        if state is None:
            super().handle_exit(sig, frame)
        elif not self._ending:
            self._ending = True
            threading.Thread(target=self._end, args=(state, sig, frame), name="end", daemon=True).start()

    def _end(self, state: ServerState, sig: int, frame: Any) -> None:
        graceful = self.cfg.graceful_timeout
        error_seconds = min(FINAL_ERROR_SECONDS, graceful / 2)
        if self.succession is None or self.succession.wait_for_stop(graceful / 2):
            state.sockets.retire()
            state.admission.drain(graceful - error_seconds, error_seconds / 2)
            self._stop_listening(sig, frame)
        else:
            self._stop_listening(sig, frame)
            state.admission.drain(graceful - error_seconds, error_seconds / 2, refuse=False)

    def _stop_listening(self, sig: int, frame: Any) -> None:
        super().handle_exit(sig, frame)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Answer a request that cannot be served: gunicorn finds the status and logs it, the body is our JSON."""
        page = _Buffer()
        super().handle_error(req, page, addr, exc)
        if not page.written:
            return
        status_line = page.written.partition(b"\r\n")[0]
        fault = GatewayError if status_line.split()[1:2] == [b"500"] else InvalidRequest
        what = status_line.split(maxsplit=2)[-1].decode("latin-1")
        body = orjson.dumps(error_body(fault(f"This is no request that can be served: {what}.")))
        head = f"Connection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            send_now(client, status_line + b"\r\n" + head.encode() + body)
        except OSError:
            pass  # the caller has hung up


class _MethodQueue(PollableMethodQueue):  # type: ignore[misc]
    """gunicorn's queue, whose pipe stays open until the process ends: threads may still write to it after the loop has
    ended, when its descriptor could belong to another file.
    """

    def close(self) -> None:
        """Keep the pipe open."""


class _Buffer:
    """Stands in for a socket, and keeps the bytes that gunicorn writes."""

    def __init__(self) -> None:
        self.written = b""

    def gettimeout(self) -> None:
        return None

    def setblocking(self, flag: bool) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        self.written += data
