"""How much a key may ask for, and the stores that count it for all workers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

WINDOW = 60.0
"""Seconds: all limits are per minute."""
LEASE_SECONDS = 15.0
"""Seconds that a place among the concurrent requests is kept without being renewed, as by a worker that has died."""

LimitKind = Literal["requests", "tokens", "concurrent"]


@dataclass(frozen=True, slots=True)
class Quota:
    """Requests and tokens per minute, and requests at the same time; None: as many as there may be."""

    requests: int | None = None
    tokens: int | None = None
    concurrent: int | None = None

    def __bool__(self) -> bool:
        return not (self.requests is None and self.tokens is None and self.concurrent is None)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a store has counted for a key. Times are in seconds before now.

    refused   the limit that does not allow what was asked for; None when it was granted, and counted
    requests  how many were granted within WINDOW; `oldest` and `newest` of them
    current   tokens of the running window, which began `elapsed` seconds ago; `previous` those of the one before
    """

    refused: LimitKind | None
    requests: int = 0
    oldest: float = 0.0
    newest: float = 0.0
    elapsed: float = 0.0
    current: float = 0.0
    previous: float = 0.0


class LimitStore(Protocol):
    """Counts exactly, however many threads, workers or machines ask at the same time: requests in a moving window,
    tokens in a sliding window counter, concurrent requests as leases. Each method is one atomic step.
    """

    failures: tuple[type[Exception], ...]
    """What its methods raise when it cannot be reached."""
    where: str
    """What it is, for the log."""

    def take(self, key: str, quota: Quota, lease: str) -> Standing:
        """Count a request and give it a lease, when no limit is reached; else count nothing."""

    def spend(self, key: str, quota: Quota, tokens: int) -> Standing:
        """Count tokens, when so many are left; else count nothing."""

    def settle(self, key: str, lease: str, tokens: int) -> None:
        """End a lease, and correct the count of tokens by as many, which may be negative."""

    def renew(self, leases: Iterable[tuple[str, str]]) -> None:
        """Keep these leases, as (key, lease), for LEASE_SECONDS from now on. Those that have ended stay so."""
