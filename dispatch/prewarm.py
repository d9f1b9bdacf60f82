"""Connections that are opened before the first request, TLS included, and kept open (WARM)."""

import threading
from logging import getLogger

from core.context import CallContext, Timeouts
from core.errors import Cancelled, GatewayError
from dispatch.routing.catalogue import Catalogue
from dispatch.routing.config import ProviderConfig

log = getLogger("thinkline.warm")

EVERY_SECONDS = 20.0
"""Seconds between two rounds; shorter than a kept connection lives."""


class Prewarmer:
    """Makes every available provider keep a connection open, from a thread of its own."""

    def __init__(self, catalogue: Catalogue, timeouts: Timeouts) -> None:
        self._catalogue = catalogue
        self._timeouts = timeouts

    def start(self) -> None:
        """Start, and continue until the process ends."""
        threading.Thread(target=self._run, name="warm", daemon=True).start()

    def poll_once(self) -> None:
        """One round, all providers at once: an unreachable one delays neither the others nor the end of the process."""
        entries = self._catalogue.snapshot.available()
        threads = [
            threading.Thread(target=self._warm, args=(entry,), name=f"warm_{entry.name}", daemon=True)
            for entry in entries
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run(self) -> None:
        while True:
            self.poll_once()
            threading.Event().wait(EVERY_SECONDS)

    def _warm(self, entry: ProviderConfig) -> None:
        call = CallContext()
        call.begin(self._timeouts)
        try:
            self._catalogue.provider(entry).warm(call, self._timeouts)
        except (GatewayError, Cancelled, OSError, ValueError) as error:
            # No request is affected; the next one raises the error.
            log.debug("not warm", extra={"facts": {"provider": entry.name, "error": str(error)}})
