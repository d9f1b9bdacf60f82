"""Connections that wait for the first caller: opened when the server starts, TLS and all, and kept open (WARM)."""

import threading
from logging import getLogger

from core.context import CallContext, Timeouts
from core.errors import Cancelled, GatewayError
from dispatch.routing.catalogue import Catalogue
from dispatch.routing.config import ProviderConfig

log = getLogger("thinkline.warm")

EVERY_SECONDS = 20.0
"""Between two looks; shorter than a kept connection lives."""


class Prewarmer:
    """Has every provider that can be used keep a connection at hand, from a thread of its own."""

    def __init__(self, catalogue: Catalogue, timeouts: Timeouts) -> None:
        self._catalogue = catalogue
        self._timeouts = timeouts

    def start(self) -> None:
        """Begin, and go on until the process ends."""
        threading.Thread(target=self._run, name="warm", daemon=True).start()

    def poll_once(self) -> None:
        """One look at all of them at once: one that is out of reach holds up nobody, nor the end of the process."""
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
            # Nobody has asked yet: whoever asks first will be told.
            log.debug("not warm", extra={"facts": {"provider": entry.name, "error": str(error)}})
