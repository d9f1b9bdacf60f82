"""Logs the bytes of an exchange with an upstream: at level TRACE, or for one request of an administrator."""

import re
from collections.abc import Mapping
from logging import CRITICAL, getLogger
from time import monotonic
from typing import Any

from core.context import CallContext

log = getLogger("thinkline.wire")

TRACE = 5
KEPT_BYTES = 262_144
"""Of a body. The log shows less, once pictures are cut out of it."""
SECRET_NAME = re.compile(r"auth|key|token|secret|cookie|signature|credential", re.IGNORECASE)
SECRET_QUERY = re.compile(r"([?&][^=&]*(?:auth|key|token|secret|signature|credential)[^=&]*=)[^&]*", re.IGNORECASE)


class WireLog:
    """One exchange: one line for the request, and one for the response once the exchange is over."""

    def __init__(self, provider: str, request: bytes) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        line, *rest = head.decode("latin-1").split("\r\n")
        method, path, _ = line.split(" ", 2)
        headers = dict(each.split(": ", 1) for each in rest)
        self._provider = provider
        self._began = monotonic()
        self._kept = bytearray()
        self._bytes = 0
        self._ended = False
        url = SECRET_QUERY.sub(r"\1***", f"{headers.get('Host', '')}{path}")
        _write(
            "sent to the provider",
            body[:KEPT_BYTES],
            method=method,
            url=url,
            headers=_mask(headers),
            **self._facts(len(body)),
        )

    def take(self, data: bytes) -> None:
        """Add a piece of the body."""
        self._bytes += len(data)
        self._kept += data[: max(0, KEPT_BYTES - len(self._kept))]

    def end(self, status: int, headers: Mapping[str, str]) -> None:
        """Write the response. Only the first call counts."""
        if not self._ended:
            self._ended = True
            seconds = round(monotonic() - self._began, 3)
            facts = self._facts(self._bytes)
            _write("came back", bytes(self._kept), status=status, headers=_mask(headers), seconds=seconds, **facts)

    def _facts(self, count: int) -> dict[str, Any]:
        return {"provider": self._provider, "bytes": count}


def is_wanted(call: CallContext) -> bool:
    """Whether a call's exchanges are logged."""
    return log.isEnabledFor(TRACE) or (call.traced and log.isEnabledFor(CRITICAL))


def _mask(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: "***" if SECRET_NAME.search(name) else value for name, value in headers.items()}


def _write(message: str, payload: bytes, **facts: Any) -> None:
    # is_wanted has decided already: the logger's own level does not count.
    extra = {"facts": facts, "payload": payload}
    log.handle(log.makeRecord(log.name, TRACE, "", 0, message, (), None, extra=extra))
