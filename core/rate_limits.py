"""The limits of a key, and the interface of the stores that count its requests and tokens for all workers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

WINDOW = 60.0
"""Seconds: all limits are per minute."""
LEASE_SECONDS = 15.0
"""Seconds after which a concurrent request that is not renewed is no longer counted: its worker has died."""

LimitKind = Literal["requests", "tokens", "concurrent"]


@dataclass(frozen=True, slots=True)
class Quota:
    """Requests and tokens per minute, and requests at the same time; None: no limit."""

    requests: int | None = None
    tokens: int | None = None
    concurrent: int | None = None

    def __bool__(self) -> bool:
        return not (self.requests is None and self.tokens is None and self.concurrent is None)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a store has counted for a key. Times are in seconds before now.

    refused   the limit that is reached; None if the request was granted, and counted
    requests  requests granted within WINDOW; `oldest` and `newest` are when the first and the last of them were granted
    current   tokens of the running window, which began `elapsed` seconds ago; `previous`: those of the window before
    """

    refused: LimitKind | None
    requests: int = 0
    oldest: float = 0.0
    newest: float = 0.0
    elapsed: float = 0.0
    current: float = 0.0
    previous: float = 0.0


class LimitStore(Protocol):
    """Counts requests in a sliding window log, tokens in a sliding window counter, concurrent requests as leases. Each
    method is one atomic step, so the counts are exact with any number of threads, workers and machines.
    """

    failures: tuple[type[Exception], ...]
    """The exceptions of its methods while the store cannot be reached."""
    where: str
    """The store's name in the log."""

    def take(self, key: str, quota: Quota, lease: str) -> Standing:
        """Count a request and give it a lease if no limit is reached; else count nothing."""

    def spend(self, key: str, quota: Quota, tokens: int) -> Standing:
        """Count tokens if so many are left; else count nothing."""

    def settle(self, key: str, lease: str, tokens: int) -> None:
        """End a lease, and add `tokens`, which may be negative, to the count: a correction of the estimate."""

    def renew(self, leases: Iterable[tuple[str, str]]) -> None:
        """Extend these leases, as (key, lease), to LEASE_SECONDS from now. Ended leases are not revived."""
