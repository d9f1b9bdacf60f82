"""Answers under way that their callers may cancel by id, from another connection and, over the state store, from
another worker.
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
"""Between two looks for answers that were cancelled elsewhere."""
ANSWER_SECONDS = 2.0
"""How long the worker that has an answer may take to say so."""


@dataclass(frozen=True, slots=True)
class _Running:
    call: CallContext
    response: Callable[[], Json]

    def cancel(self) -> Json:
        self.call.cancel(RequestCancelled())
        return {**self.response(), "status": "cancelled"}


class RunningResponses:
    """Those of this worker; `shared` is the store where other workers leave word, None where there are none. Safe for
    all threads.
    """

    def __init__(self, shared: KeyValueStore | None) -> None:
        self._shared = shared
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._looks = False

    def add(self, caller: str, identifier: str, call: CallContext, response: Callable[[], Json]) -> None:
        """One begins, which can be cancelled from now on."""
        with self._lock:
            self._running[_key(caller, identifier)] = _Running(call, response)
            if self._shared is not None and not self._looks:
                self._looks = True
                threading.Thread(target=self._look, args=(self._shared,), daemon=True).start()

    def remove(self, caller: str, *identifiers: str) -> None:
        """These are over."""
        with self._lock:
            for identifier in identifiers:
                self._running.pop(_key(caller, identifier), None)

    def cancel(self, caller: str, identifier: str) -> Json | None:
        """End one of the caller's: the response as it is then; None where none is under way."""
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
            if (said := shared.pop(f"cancelled:{key}")) is not None:
                response: Json = orjson.loads(said)
                return response
            sleep(LOOK_SECONDS / 5)
        return None

    def _look(self, shared: KeyValueStore) -> None:
        """As long as any are under way, look for those that are to be cancelled."""
        while True:
            sleep(LOOK_SECONDS)
            with self._lock:
                keys = list(self._running)
                if not keys:
                    self._looks = False
                    return
            for key in keys:
                if shared.pop(f"cancel:{key}") is not None:
                    with self._lock:
                        running = self._running.pop(key, None)
                    if running is not None:
                        shared.put(f"cancelled:{key}", orjson.dumps(running.cancel()).decode(), ANSWER_SECONDS)


def _key(caller: str, identifier: str) -> str:
    return sha256(orjson.dumps([caller, identifier])).hexdigest()
