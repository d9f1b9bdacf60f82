"""The last requests of this process, which the database does not have yet, or never gets where there is no other."""

import threading
from collections import deque

from telemetry.records import RequestRecord
from usage.store import KEPT_RECENT, Json
from usage.timeline import timeline


class RecentRequests:
    """The last KEPT_RECENT. Safe for all threads."""

    def __init__(self) -> None:
        self._records: deque[RequestRecord] = deque(maxlen=KEPT_RECENT)
        self._count = 0
        self._lock = threading.Lock()

    def append(self, record: RequestRecord) -> None:
        """One more."""
        with self._lock:
            self._records.append(record)
            self._count += 1

    def find(self, request_id: str, key: str | None) -> Json | None:
        """One of them, of this key or of any, as `GET /v1/requests` shows it."""
        with self._lock:
            records = list(self._records)
        found = (each for each in reversed(records) if each.request_id == request_id and key in (None, each.caller))
        record = next(found, None)
        return None if record is None else timeline(record)

    def after(self, last: int) -> tuple[int, list[Json]]:
        """Those that came after number `last`, oldest first; and the newest number."""
        with self._lock:
            count, records = self._count, list(self._records)
        fresh = min(count - last, len(records))
        return count, [timeline(each) for each in records[len(records) - fresh :]]
