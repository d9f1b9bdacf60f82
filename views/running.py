"""Answers under way, which callers can cancel by id: from another connection and, by the state store, through another
worker.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic, sleep

import orjson

from core.context import CallContext
from core.errors import RequestCancelled
from core.json_values import Json
from core.store import KeyValueStore

LOOK_SECONDS = 0.25
"""Between two checks for cancellations through other workers."""
ANSWER_SECONDS = 2.0
"""How long the worker that has the answer may take to cancel it."""


@dataclass(frozen=True, slots=True)
class _Running:
    call: CallContext
    response: Callable[[], Json]

    def cancel(self) -> Json:
        self.call.cancel(RequestCancelled())
        return {**self.response(), "status": "cancelled"}


class RunningResponses:
    """The running answers of this worker. By the store `shared` other workers ask to cancel one; None for a single
    worker. Safe for all threads.
    """

    def __init__(self, shared: KeyValueStore | None) -> None:
        self._shared = shared
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._is_watching = False

    def add(self, caller: str, identifier: str, call: CallContext, response: Callable[[], Json]) -> None:
        """Add an answer, which can be cancelled from now on."""
        with self._lock:
            self._running[_key(caller, identifier)] = _Running(call, response)
            if self._shared is not None and not self._is_watching:
                self._is_watching = True
                threading.Thread(target=self._watch_store, args=(self._shared,), daemon=True).start()

    def remove(self, caller: str, *identifiers: str) -> None:
        """Remove answers that have ended."""
        with self._lock:
            for identifier in identifiers:
                self._running.pop(_key(caller, identifier), None)

    def cancel(self, caller: str, identifier: str) -> Json | None:
        """Cancel the caller's answer; returns the response as it is then, None if none is under way."""
        key = _key(caller, identifier)
        with self._lock:
            running = self._running.pop(key, None)
        if running is not None:
            return running.cancel()
        return self._cancel_elsewhere(self._shared, key) if self._shared is not None else None

    def _cancel_elsewhere(self, shared: KeyValueStore, key: str) -> Json | None:
        shared.put(f"cancel:{key}", "", ANSWER_SECONDS)
        by = monotonic() + ANSWER_SECONDS
        while monotonic() < by:
            if (cancelled := shared.pop(f"cancelled:{key}")) is not None:
                response: Json = orjson.loads(cancelled)
                return response
            sleep(LOOK_SECONDS / 5)
        return None

    def _watch_store(self, shared: KeyValueStore) -> None:
        """While answers are under way, check the store for cancellations."""
        while True:
            sleep(LOOK_SECONDS)
            with self._lock:
                keys = list(self._running)
                if not keys:
                    self._is_watching = False
                    return
            for key in keys:
                if shared.pop(f"cancel:{key}") is not None:
                    with self._lock:
                        running = self._running.pop(key, None)
                    if running is not None:
                        shared.put(f"cancelled:{key}", orjson.dumps(running.cancel()).decode(), ANSWER_SECONDS)


def _key(caller: str, identifier: str) -> str:
    return sha256(orjson.dumps([caller, identifier])).hexdigest()
