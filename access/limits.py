"""Limits each key's requests and tokens per minute, and its concurrent requests. Excess is refused at once."""

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
PAUSE_SECONDS = 2.0
"""How long a store is not used after a failure, so that not every request waits for it."""
LOG_AGAIN_SECONDS = 60.0
"""The time between two log lines that the store is out of reach."""
RETRY_AFTER_SECONDS = 1.0
"""The Retry-After if it is not known when a retry can succeed."""
RENEWALS = 3
"""How often a lease is renewed before it would end."""


class PromptTooLong(TokensLimited):
    """The prompt alone has more tokens than the key may use in a minute: a retry cannot succeed."""

    client_may_retry = False


class RateLimiter:
    """An AdmissionCheck that counts in `store`. While the store is out of reach, requests pass if `fails_open`, else
    get a 503; `failures` counts them.
    """

    def __init__(self, store: LimitStore, *, fails_open: bool = True) -> None:
        self.failures = 0
        self.leases: set[tuple[str, str]] = set()
        self._store = store
        self._fails_open = fails_open
        self._again = 0.0
        self._log_again = 0.0
        self._failed = False
        self._lock = threading.Lock()
        self._renewer: threading.Thread | None = None

    def permit(self, key: ApiKey) -> "RateLimitPermit | None":
        """None for a key without limits."""
        return RateLimitPermit(self, key) if key.quota else None

    def run(self, work: Callable[[LimitStore], T]) -> T | None:
        """Return the result of `work`; None without the store. Raises Overloaded then, unless it fails open."""
        result = self.try_run(work)
        if result is None:
            self.failures += 1
            if not self._fails_open:
                raise Overloaded("What the key may ask for cannot be looked up now.", retry_after=RETRY_AFTER_SECONDS)
        return result

    def try_run(self, work: Callable[[LimitStore], T]) -> T | None:
        """Do as `run`, but never raise."""
        with self._lock:
            now = monotonic()
            if now < self._again:
                return None
            if self._failed:
                self._again = now + PAUSE_SECONDS  # only this request tries whether the store is back
        try:
            result = work(self._store)
        except self._store.failures as error:
            self._again = monotonic() + PAUSE_SECONDS
            self._log_failure(error)
            return None
        if self._failed:
            self._failed, self._again = False, 0.0
            log.info("the store for limits is back", extra={"facts": {"store": self._store.where}})
        return result

    def keep_renewing(self, key: str, lease: str) -> None:
        """Renew a lease until `stop_renewing`."""
        self.leases.add((key, lease))
        with self._lock:
            if self._renewer is None:  # in the worker, as a thread does not survive a fork
                self._renewer = threading.Thread(target=self._renew, name="leases", daemon=True)
                self._renewer.start()

    def stop_renewing(self, key: str, lease: str) -> None:
        """Renew a lease no longer."""
        self.leases.discard((key, lease))

    def _renew(self) -> None:
        while True:
            sleep(LEASE_SECONDS / RENEWALS)
            if held := list(self.leases):
                self.try_run(lambda store: store.renew(held))

    def _log_failure(self, error: Exception) -> None:
        now = monotonic()
        with self._lock:
            self._failed = True
            if now < self._log_again:
                return
            self._log_again = now + LOG_AGAIN_SECONDS
        what = "keys are not limited" if self._fails_open else "keys with limits are refused"
        facts = {"store": self._store.where, "said": f"{type(error).__name__}: {error}", "so_far": self.failures}
        log.warning("the store for limits is out of reach; %s", what, extra={"facts": facts})


class RateLimitPermit:
    """The check of one request."""

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
            self._standing = self._limiter.run(lambda store: store.spend(key.name, quota, 0))
            return
        lease = f"{getrandbits(64):016x}"
        self._standing = self._limiter.run(lambda store: store.take(key.name, quota, lease))
        if self._standing is None:
            return
        self._raise_if_refused(self._standing, 1)
        self._lease = lease
        if quota.concurrent is not None:
            self._limiter.keep_renewing(key.name, lease)

    def spend(self, tokens: int) -> None:
        """Count the estimate. Raises RateLimited."""
        key, quota = self._key, self._key.quota
        if quota.tokens is None or not self._lease:
            return
        if tokens > quota.tokens:
            raise PromptTooLong(
                f"The request has about {tokens} tokens, and the key {key.name!r} may ask for {quota.tokens} a minute."
            )
        standing = self._limiter.run(lambda store: store.spend(key.name, quota, tokens))
        if standing is not None:
            self._standing = standing
            self._raise_if_refused(standing, tokens)
            self._spent = tokens

    def release(self, tokens: int | None) -> None:
        """Correct the estimate of tokens, and end the lease."""
        name, quota = self._key.name, self._key.quota
        lease, more = self._lease, 0 if tokens is None else tokens - self._spent
        if not lease or (quota.tokens is None and quota.concurrent is None):
            return
        self._lease = ""
        self._limiter.stop_renewing(name, lease)
        self._limiter.try_run(lambda store: store.settle(name, lease, more if quota.tokens is not None else 0))

    def headers(self) -> Iterator[tuple[str, str]]:
        """OpenAI's x-ratelimit-*; only the limits while the store is out of reach."""
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
                retry_after=RETRY_AFTER_SECONDS,
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
    if standing.current <= most:  # the last window's tokens count less and less in this one
        return max(0.0, left - WINDOW * (most - standing.current) / max(1.0, standing.previous))
    return left + WINDOW * (1 - max(0.0, most) / standing.current)


def _until_no_tokens_count(standing: Standing) -> float:
    left = WINDOW - standing.elapsed
    return left + WINDOW if standing.current > 0 else left if standing.previous > 0 else 0.0


def _duration(seconds: float) -> str:
    """A duration as OpenAI writes it: 850ms, 12.5s, 1m30s."""
    if 0 < seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(max(0.0, round(seconds, 3)), 60)
    return f"{minutes:.0f}m{rest:.5g}s" if minutes else f"{rest:.5g}s"
