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
    """This worker's own are in memory; of each batch, the last `shares` are written to `store` for the other workers.
    Safe for all threads.
    """

    def __init__(self, store: UsageStore, shares: int) -> None:
        self._store = store
        self._shares = shares
        self._own: deque[tuple[int, RequestRecord]] = deque(maxlen=KEPT_RECENT)
        self._numbers = count(1)
        self._unshared: deque[RequestRecord] = deque(maxlen=shares)

    def add(self, record: RequestRecord) -> None:
        """One has ended."""
        self._own.append((next(self._numbers), record))

    def share(self, records: Iterable[RequestRecord]) -> None:
        """These are to be written, as far as they are among the last."""
        self._unshared.extend(records)

    @property
    def has_unshared(self) -> bool:
        """Whether some are to be written."""
        return bool(self._unshared)

    def take_unshared(self) -> list[RequestRecord]:
        """Those to be written."""
        taken, self._unshared = list(self._unshared), deque(maxlen=self._shares)
        return taken

    def find(self, request_id: str, key: str | None) -> Json | None:
        """The time line of one of them, of this key or of any."""
        for _, record in reversed(list(self._own)):
            if record.request_id == request_id and key in (None, record.caller):
                return timeline(record)
        try:
            shared = self._store.recent(request_id, key) if self._shares else None
        except self._store.failures:
            return None
        return None if shared is None else timeline(shared)

    def after(self, last: int) -> tuple[int, list[Json]]:
        """The time lines of those that came after number `last`, oldest first; and the newest number. Raises the
        database's `failures`.
        """
        if self._shares:
            newest, records = self._store.recent_after(last)
            return newest, [timeline(record) for record in records]
        new = [each for each in list(self._own) if each[0] > last]
        return (new[-1][0] if new else last), [timeline(record) for _, record in new]
