"""Requests and tokens per minute, and concurrent requests, of each key. One too many is refused at once."""

import math
import threading
from collections.abc import Callable, Iterator
from logging import getLogger
from random import getrandbits
from time import monotonic, sleep
from typing import TypeVar

from core.api_keys import ApiKey
from core.errors import Overloaded, RateLimited, TokensLimited
from core.rate_limits import LEASE_SECONDS, WINDOW, LimitStore, Standing

log = getLogger("thinkline.limits")

T = TypeVar("T")
PAUSE = 2.0
"""Seconds that a store which failed is left alone, so that not every request waits for it."""
SAY_AGAIN = 60.0
"""Seconds between two log lines that the store is out of reach."""
COME_AGAIN = 1.0
"""Seconds, for Retry-After, where nobody knows when a place is free."""
RENEWALS = 3
"""How often a lease is renewed within its time."""


class PromptTooLong(TokensLimited):
    """The prompt alone is more than the key may ask for in a minute: coming again is of no use."""

    client_may_retry = False


class RateLimiter:
    """An AdmissionCheck that has `store` count. While that is out of reach, requests pass if `fails_open`, and are
    refused with a 503 if not; `failures` counts them.
    """

    def __init__(self, store: LimitStore, *, fails_open: bool = True) -> None:
        self.failures = 0
        self.leases: set[tuple[str, str]] = set()
        self._store = store
        self._fails_open = fails_open
        self._again = 0.0
        self._say_again = 0.0
        self._failed = False
        self._lock = threading.Lock()
        self._renewer: threading.Thread | None = None

    def permit(self, key: ApiKey) -> "RateLimitPermit | None":
        """None for a key without limits."""
        return RateLimitPermit(self, key) if key.quota else None

    def ask(self, work: Callable[[LimitStore], T]) -> T | None:
        """What the store answers; None where it is out of reach. Raises Overloaded then, unless it fails open."""
        result = self.try_to(work)
        if result is None:
            self.failures += 1
            if not self._fails_open:
                raise Overloaded("What the key may ask for cannot be looked up now.", retry_after=COME_AGAIN)
        return result

    def try_to(self, work: Callable[[LimitStore], T]) -> T | None:
        """As `ask`, but it never raises."""
        with self._lock:
            now = monotonic()
            if now < self._again:
                return None
            if self._failed:
                self._again = now + PAUSE  # one looks whether it is back, and the others do not wait for that
        try:
            result = work(self._store)
        except self._store.failures as error:
            self._again = monotonic() + PAUSE
            self._say(error)
            return None
        if self._failed:
            self._failed, self._again = False, 0.0
            log.info("the store for limits is back", extra={"facts": {"store": self._store.where}})
        return result

    def hold(self, key: str, lease: str) -> None:
        """Renew a lease until `let_go`."""
        self.leases.add((key, lease))
        with self._lock:
            if self._renewer is None:  # in the worker, as a thread does not survive a fork
                self._renewer = threading.Thread(target=self._renew, name="leases", daemon=True)
                self._renewer.start()

    def let_go(self, key: str, lease: str) -> None:
        """The lease is to end."""
        self.leases.discard((key, lease))

    def _renew(self) -> None:
        while True:
            sleep(LEASE_SECONDS / RENEWALS)
            if held := list(self.leases):
                self.try_to(lambda store: store.renew(held))

    def _say(self, error: Exception) -> None:
        now = monotonic()
        with self._lock:
            self._failed = True
            if now < self._say_again:
                return
            self._say_again = now + SAY_AGAIN
        what = "keys are not limited" if self._fails_open else "keys with limits are refused"
        facts = {"store": self._store.where, "said": f"{type(error).__name__}: {error}", "so_far": self.failures}
        log.warning("the store for limits is out of reach; %s", what, extra={"facts": facts})


class RateLimitPermit:
    """A Permit of one request."""

    def __init__(self, limiter: RateLimiter, key: ApiKey) -> None:
        self._limiter = limiter
        self._key = key
        self._lease = ""
        self._spent = 0
        self._standing: Standing | None = None

    def enter(self, *, counts: bool) -> None:
        """Count the request. Raises RateLimited, or Overloaded without a store that fails open."""
        key, quota = self._key, self._key.quota
        if not counts:
            self._standing = self._limiter.ask(lambda store: store.spend(key.name, quota, 0))
            return
        lease = f"{getrandbits(64):016x}"
        self._standing = self._limiter.ask(lambda store: store.take(key.name, quota, lease))
        if self._standing is None:
            return
        self._raise_if_refused(self._standing, 1)
        self._lease = lease
        if quota.concurrent is not None:
            self._limiter.hold(key.name, lease)

    def spend(self, tokens: int) -> None:
        """Count the estimate. Raises RateLimited."""
        key, quota = self._key, self._key.quota
        if quota.tokens is None or not self._lease:
            return
        if tokens > quota.tokens:
            raise PromptTooLong(
                f"The request has about {tokens} tokens, and the key {key.name!r} may ask for {quota.tokens} a minute."
            )
        standing = self._limiter.ask(lambda store: store.spend(key.name, quota, tokens))
        if standing is not None:
            self._standing = standing
            self._raise_if_refused(standing, tokens)
            self._spent = tokens

    def release(self, tokens: int | None) -> None:
        """Correct the estimate, and give the place free."""
        name, quota = self._key.name, self._key.quota
        lease, more = self._lease, 0 if tokens is None else tokens - self._spent
        if not lease or (quota.tokens is None and quota.concurrent is None):
            return
        self._lease = ""
        self._limiter.let_go(name, lease)
        self._limiter.try_to(lambda store: store.settle(name, lease, more if quota.tokens is not None else 0))

    def headers(self) -> Iterator[tuple[str, str]]:
        """OpenAI's x-ratelimit-*; limits alone while the store is out of reach."""
        quota, standing = self._key.quota, self._standing
        if quota.requests is not None:
            yield "x-ratelimit-limit-requests", str(quota.requests)
        if quota.tokens is not None:
            yield "x-ratelimit-limit-tokens", str(quota.tokens)
        if standing is None:
            return
        if quota.requests is not None:
            yield "x-ratelimit-remaining-requests", str(max(0, quota.requests - standing.requests))
            yield "x-ratelimit-reset-requests", _duration(WINDOW - standing.newest if standing.requests else 0)
        if quota.tokens is not None:
            yield "x-ratelimit-remaining-tokens", str(max(0, round(quota.tokens - _used(standing))))
            yield "x-ratelimit-reset-tokens", _duration(_until_no_tokens_count(standing))

    def _raise_if_refused(self, standing: Standing, tokens: int) -> None:
        name, quota = self._key.name, self._key.quota
        if standing.refused == "requests":
            raise RateLimited(
                f"The key {name!r} may make {quota.requests} requests a minute.",
                retry_after=max(0.0, WINDOW - standing.oldest),
            )
        if standing.refused == "concurrent":
            raise RateLimited(
                f"The key {name!r} may have {quota.concurrent} requests at the same time.",
                limit="concurrent",
                retry_after=COME_AGAIN,
            )
        if standing.refused == "tokens":
            raise TokensLimited(
                f"The key {name!r} may use {quota.tokens} tokens a minute.",
                retry_after=_until_room(standing, (quota.tokens or 0) - tokens),
            )


def _used(standing: Standing) -> float:
    return standing.previous * (1 - standing.elapsed / WINDOW) + standing.current


def _until_room(standing: Standing, most: float) -> float:
    """Seconds until no more than `most` tokens count, if no others are used meanwhile."""
    left = WINDOW - standing.elapsed
    if standing.current <= most:  # the last window's fade away in this one
        return max(0.0, left - WINDOW * (most - standing.current) / max(1.0, standing.previous))
    return left + WINDOW * (1 - max(0.0, most) / standing.current)


def _until_no_tokens_count(standing: Standing) -> float:
    left = WINDOW - standing.elapsed
    return left + WINDOW if standing.current > 0 else left if standing.previous > 0 else 0.0


def _duration(seconds: float) -> str:
    """As OpenAI writes it: 850ms, 12.5s, 1m30s."""
    if 0 < seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(max(0.0, round(seconds, 3)), 60)
    return f"{minutes:.0f}m{rest:.5g}s" if minutes else f"{rest:.5g}s"
