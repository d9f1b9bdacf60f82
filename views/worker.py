"""gunicorn's threaded worker, as Thinkline wants it: errors in JSON, heads and first words in one packet, no thread
for those who send a byte at a time, no more threads in use than needed, an end that lets calls end.
"""

import sys
import threading
from functools import lru_cache, partial
from logging import getLogger
from selectors import EVENT_READ
from time import monotonic, sleep, time
from typing import Any

import orjson
from gunicorn.http import wsgi
from gunicorn.util import http_date
from gunicorn.workers.gthread import ThreadWorker

from views.hangup import HEAD_SECONDS
from views.house import House
from views.memory import keep_trimmed
from views.succession import Succession
from views.threads import Threads

log = getLogger("thinkline.errors")

BOOT_AGAIN_SECONDS = 1.0
LAST_WORDS_SECONDS = 1.0
"""How long before the end of GRACEFUL_TIMEOUT the calls that still run are told."""
SMALL = 65_536
"""Bytes of a body's first piece, up to which it goes out together with the head."""


class Worker(ThreadWorker):  # type: ignore[misc]
    """gthread, with what this file's head says."""

    _house: House | None = None
    """None while the app is not loaded, and where it could not be (RELOAD after a mistake)."""
    succession: Succession | None = None
    """gunicorn.conf.py sets it before the fork."""
    _ending = False

    def init_process(self) -> None:
        """Boot, and serve to the end. A worker that replaces another, and cannot boot, is tried again: gunicorn would
        end the whole server. So is one that is denied its threads, as there may be enough of them soon.
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
        """Load the app, whose house this is."""
        super().load_wsgi()
        # gunicorn looks two dozen settings up for each request: from here on they are plain attributes.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
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
        keep = super().handle_request(req, conn)
        if keep and _is_read(req.body):
            conn.parser.mesg = None  # gunicorn would look for what is left of it, twice
        return keep

    def run(self) -> None:
        """Serve until the worker is to end; whoever is still answered then is told so."""
        keep_trimmed()
        super().run()
        if self._house is not None:
            self._house.admission.drain(0, LAST_WORDS_SECONDS / 2)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: let those calls end that run, then stop.

        Where the server stops, new calls are refused meanwhile, health is answered, and readiness denied; where other
        workers take over, this one serves until they do, and leaves the listener to them. gunicorn's own way is to stop
        listening at once.
        """
        house = self._house
        if house is None:
            super().handle_exit(sig, frame)
        elif not self._ending:
            self._ending = True
            threading.Thread(target=self._end, args=(house, sig, frame), name="end", daemon=True).start()

    def _end(self, house: House, sig: int, frame: Any) -> None:
        graceful = self.cfg.graceful_timeout
        last_words = min(LAST_WORDS_SECONDS, graceful / 2)
        if self.succession is None or self.succession.stops(graceful / 2):
            house.admission.drain(graceful - last_words, last_words / 2)
            self._leave(sig, frame)
        else:
            self._leave(sig, frame)
            house.admission.drain(graceful - last_words, last_words / 2, refuse=False)

    def _leave(self, sig: int, frame: Any) -> None:
        super().handle_exit(sig, frame)
        self.method_queue.defer(self._hurry_the_silent)

    def _hurry_the_silent(self) -> None:
        """Nobody waits any longer for those who have connected and say nothing: gunicorn would, to the end."""
        by = monotonic() + LAST_WORDS_SECONDS
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, by)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Let gunicorn find the status and log it, and put it in our words."""
        page = _Buffer()
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


class _Buffer:
    """A socket that keeps what gunicorn writes to it."""

    def __init__(self) -> None:
        self.written = b""

    def gettimeout(self) -> None:
        return None

    def setblocking(self, flag: bool) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        self.written += data


class _OnePacket(wsgi.Response):  # type: ignore[misc]
    """gunicorn's response, whose head goes out together with the first of its body."""

    def default_headers(self) -> list[str]:
        """What each head begins with. gunicorn asks the calendar each time, and names itself."""
        major, minor = self.req.version
        lines = [
            f"HTTP/{major}.{minor} {self.status}\r\n",
            f"Date: {_date(int(time()))}\r\n",
            f"Connection: {'close' if self.should_close() else 'keep-alive'}\r\n",
        ]
        return [*lines, "Transfer-Encoding: chunked\r\n"] if self.chunked else lines

    def write(self, arg: bytes) -> None:
        """Send a piece of the body. One that fills packets of its own is not copied to save one."""
        if self.headers_sent or len(arg) > SMALL:
            super().write(arg)
            return
        self.sock, sock = _Buffer(), self.sock
        try:
            super().write(arg)
        finally:
            self.sock, buffer = sock, self.sock
            sock.sendall(buffer.written)


wsgi.Response = _OnePacket  # gunicorn has no setting for it


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    date: str = http_date(second)
    return date


def _is_read(body: Any) -> bool:
    """Whether nothing is left of a request's body; False also where only more reading would tell."""
    return getattr(body.reader, "length", None) == 0 and not body.buf.tell()
