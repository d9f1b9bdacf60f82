"""gunicorn's threaded worker, which tells callers in JSON what is wrong with bytes that are no request at all."""

from typing import Any

import orjson
from gunicorn.workers.gthread import ThreadWorker


class Worker(ThreadWorker):  # type: ignore[misc]
    """gthread, with OpenAI's error object where gunicorn would send a page of HTML."""

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
