"""gunicorn's threaded worker, as Thinkline wants it: errors in JSON, no thread for those who send a byte at a time, no
more threads in use than needed, and an end that lets calls end.
"""

import threading
from functools import partial
from selectors import EVENT_READ
from time import monotonic
from typing import Any

import orjson
from gunicorn.workers.gthread import ThreadWorker

from views.hangup import HEAD_SECONDS
from views.house import House
from views.memory import keep_trimmed
from views.threads import Threads

LAST_WORDS_SECONDS = 1.0
"""How long before the end of GRACEFUL_TIMEOUT the calls that still run are told."""


class Worker(ThreadWorker):  # type: ignore[misc]
    """gthread, with what this file's head says."""

    _house: House | None = None
    """None while the app is not loaded, and where it could not be (RELOAD after a mistake)."""

    def load_wsgi(self) -> None:
        """Load the app, whose house this is."""
        super().load_wsgi()
        self._house = getattr(self.wsgi, "extensions", {}).get("thinkline")

    def enqueue_req(self, conn: Any) -> None:
        """Have a thread serve a connection: once it says something, also when it is new. gunicorn's own way is to have
        a thread wait for that, for five seconds.
        """
        if conn.initialized or conn.data_ready:
            self.tpool.do(partial(self._serve, conn))
            return
        conn.sock.setblocking(False)
        conn.timeout = monotonic() + (HEAD_SECONDS if self.alive else LAST_WORDS_SECONDS)
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def get_thread_pool(self) -> Threads:
        """Threads that are used as few as possible, in the place of an executor."""
        return Threads(self.cfg.threads)

    def _serve(self, conn: Any) -> None:
        """Have a connection's next request served, and gunicorn's own thread told whether another may follow on it."""
        keep = False
        try:
            keep = self.handle(conn)
        finally:
            self.method_queue.defer(self.finish_request, conn, _Served(keep))

    def handle(self, conn: Any) -> Any:
        """Serve a connection's next request; its head is due."""
        house = self._house
        if house is None:
            return super().handle(conn)
        with house.watcher.due(conn.sock, HEAD_SECONDS) as conn.due:
            return super().handle(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """The head has come."""
        if self._house is not None:
            conn.due.came()
        return super().handle_request(req, conn)

    def run(self) -> None:
        """Serve until the worker is to end; whoever is still answered then is told so."""
        keep_trimmed()
        super().run()
        if self._house is not None:
            self._house.admission.drain(0, LAST_WORDS_SECONDS / 2)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: take no new calls, let those that run end, then stop.

        Meanwhile health is answered, and readiness denied. gunicorn's own way is to stop listening at once.
        """
        house = self._house
        if house is None:
            super().handle_exit(sig, frame)
        elif not house.admission.draining:
            threading.Thread(target=self._drain, args=(house, sig, frame), name="drain", daemon=True).start()

    def _drain(self, house: House, sig: int, frame: Any) -> None:
        graceful = self.cfg.graceful_timeout
        last_words = min(LAST_WORDS_SECONDS, graceful / 2)
        house.admission.drain(graceful - last_words, last_words / 2)
        super().handle_exit(sig, frame)
        self.method_queue.defer(self._hurry_the_silent)

    def _hurry_the_silent(self) -> None:
        """Nobody waits any longer for those who have connected and say nothing: gunicorn would, to the end."""
        by = monotonic() + LAST_WORDS_SECONDS
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, by)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Let gunicorn find the status and log it, and put it in our words."""
        page = _Page()
        super().handle_error(req, page, addr, exc)
        if not page.written:
            return
        status_line = page.written.partition(b"\r\n")[0]
        fault = "server_error" if status_line.split()[1:2] == [b"500"] else "invalid_request_error"
        what = status_line.split(maxsplit=2)[-1].decode("latin-1")
        error = {
            "message": f"This is no request that can be served: {what}.",
            "type": fault,
            "param": None,
            "code": None,
        }
        body = orjson.dumps({"error": error})
        head = f"Connection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            client.sendall(status_line + b"\r\n" + head.encode() + body)
        except OSError:
            pass  # who sent it has gone


class _Served:
    """A future as far as gunicorn needs one: a served request, and whether its connection is kept."""

    def __init__(self, keep: bool) -> None:
        self._keep = keep

    def cancelled(self) -> bool:
        return False

    def result(self) -> bool:
        return self._keep


class _Page:
    """A socket as far as gunicorn's error page needs one."""

    def __init__(self) -> None:
        self.written = b""

    def gettimeout(self) -> None:
        return None

    def setblocking(self, flag: bool) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        self.written += data
