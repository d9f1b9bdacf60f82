"""The last requests of all workers, with their attempts."""

from collections import deque
from collections.abc import Iterable
from itertools import count
from typing import Any

from telemetry.records import RequestRecord
from usage.store import KEPT_RECENT, UsageStore
from usage.timeline import timeline

Json = dict[str, Any]


class RecentRequests:
    """The last requests. This worker's own are in memory; the last `shares` of each batch are written to `store` for
    other workers. Safe for all threads.
    """

    def __init__(self, store: UsageStore, shares: int) -> None:
        self._store = store
        self._shares = shares
        self._own: deque[tuple[int, RequestRecord]] = deque(maxlen=KEPT_RECENT)
        self._numbers = count(1)
        self._unshared: deque[RequestRecord] = deque(maxlen=shares)

    def add(self, record: RequestRecord) -> None:
        """Add a request that has ended."""
        self._own.append((next(self._numbers), record))

    def share(self, records: Iterable[RequestRecord]) -> None:
        """Queue records to be written; only the last `shares` are kept."""
        self._unshared.extend(records)

    @property
    def has_unshared(self) -> bool:
        """Whether records are to be written."""
        return bool(self._unshared)

    def take_unshared(self) -> list[RequestRecord]:
        """Remove and return the records to be written."""
        taken, self._unshared = list(self._unshared), deque(maxlen=self._shares)
        return taken

    def find(self, request_id: str, key: str | None) -> Json | None:
        """The timeline of a request of this key, or of any; None if it is not among the last."""
        for _, record in reversed(list(self._own)):
            if record.request_id == request_id and key in (None, record.caller):
                return timeline(record)
        try:
            shared = self._store.recent(request_id, key) if self._shares else None
        except self._store.failures:
            return None
        return None if shared is None else timeline(shared)

    def after(self, last: int) -> tuple[int, list[Json]]:
        """The newest number, and the timelines of the requests after number `last`, oldest first. Raises the database's
        `failures`.
        """
        if self._shares:
            newest, records = self._store.recent_after(last)
            return newest, [timeline(record) for record in records]
        new = [each for each in list(self._own) if each[0] > last]
        return (new[-1][0] if new else last), [timeline(record) for _, record in new]
