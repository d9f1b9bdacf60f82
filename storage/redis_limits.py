"""Rate limits for several machines, counted by a Redis server: core.rate_limits.LimitStore."""

from collections.abc import Iterable
from typing import Any

from core.rate_limits import LEASE_SECONDS, WINDOW, LimitKind, Quota, Standing
from storage import bounded_redis
from storage.key_value import PREFIX

REDIS_SECONDS = 1.0
"""Seconds that a request waits for the server, at most."""
NO_QUOTA = Quota()
SCRIPT = f"""
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local requests, tokens, leases = KEYS[1], KEYS[2], KEYS[3]
local step, id, amount = ARGV[1], ARGV[2], tonumber(ARGV[3])
local most_requests, most_tokens, most_concurrent = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local window, lease = {WINDOW}, {LEASE_SECONDS}

-- Forget counts that are over, and those of the future, which are from before the clock was set back.
redis.call('ZREMRANGEBYSCORE', requests, '-inf', now - window)
-- Lua's own text of a number has 14 digits, too few for microseconds.
redis.call('ZREMRANGEBYSCORE', requests, string.format('(%.17g', now), '+inf')
redis.call('ZREMRANGEBYSCORE', leases, '-inf', now)
redis.call('ZREMRANGEBYSCORE', leases, string.format('(%.17g', now + lease), '+inf')
local number = math.floor(now / window)
local elapsed = now - number * window
local kept = redis.call('HMGET', tokens, 'window', 'current', 'previous')
local current, previous = tonumber(kept[2] or 0), tonumber(kept[3] or 0)
if tonumber(kept[1] or 0) ~= number then
    previous = tonumber(kept[1] or 0) == number - 1 and current or 0
    current = 0
end
local used = previous * (1 - elapsed / window) + current

local refused = ''
if step == 'take' then
    if most_requests >= 0 and redis.call('ZCARD', requests) >= most_requests then
        refused = 'requests'
    elseif most_tokens >= 0 and used >= most_tokens then
        refused = 'tokens'
    elseif most_concurrent >= 0 and redis.call('ZCARD', leases) >= most_concurrent then
        refused = 'concurrent'
    else
        if most_requests >= 0 then redis.call('ZADD', requests, now, id) end
        if most_concurrent >= 0 then redis.call('ZADD', leases, now + lease, id) end
    end
elseif step == 'spend' and most_tokens >= 0 and used + amount > most_tokens then
    refused = 'tokens'
elseif step == 'renew' then
    redis.call('ZADD', leases, 'XX', now + lease, id)
else
    current = current + amount
    if step == 'settle' then redis.call('ZREM', leases, id) end
end

redis.call('HSET', tokens, 'window', number, 'current', current, 'previous', previous)
redis.call('EXPIRE', requests, window)
redis.call('EXPIRE', tokens, 2 * window)
redis.call('EXPIRE', leases, lease)
local first = redis.call('ZRANGE', requests, 0, 0, 'WITHSCORES')
local last = redis.call('ZRANGE', requests, -1, -1, 'WITHSCORES')
return {{refused, redis.call('ZCARD', requests), tostring(now - (first[2] or now)), tostring(now - (last[2] or now)),
    tostring(elapsed), tostring(current), tostring(previous)}}
"""
"""One atomic step, by the server's own clock."""


class RedisLimits:
    """Limits in Redis, for several machines. Connects on first use. Raises ValueError for a URL that cannot be read."""

    failures: tuple[type[Exception], ...] = (Exception,)
    """The package raises many kinds of errors for replies that it cannot parse."""
    where = "redis"

    def __init__(self, url: str) -> None:
        self._step = bounded_redis.connect(url, REDIS_SECONDS).register_script(SCRIPT)

    def take(self, key: str, quota: Quota, lease: str) -> Standing:
        """Count a request."""
        return self._run("take", key, lease, quota=quota)

    def spend(self, key: str, quota: Quota, tokens: int) -> Standing:
        """Count tokens."""
        return self._run("spend", key, amount=tokens, quota=quota)

    def settle(self, key: str, lease: str, tokens: int) -> None:
        """Count a request that has ended."""
        self._run("settle", key, lease, tokens)

    def renew(self, leases: Iterable[tuple[str, str]]) -> None:
        """Renew the leases of requests under way."""
        for key, lease in leases:
            self._run("renew", key, lease)

    def _run(self, step: str, key: str, lease: str = "", amount: int = 0, quota: Quota = NO_QUOTA) -> Standing:
        # A cluster keeps keys with the same text in {} on one node.
        keys = [f"{PREFIX}limits:{{{key}}}:{what}" for what in ("requests", "tokens", "concurrent")]
        limits = [-1 if most is None else most for most in (quota.requests, quota.tokens, quota.concurrent)]
        with bounded_redis.deadline(REDIS_SECONDS):
            refused, requests, *times = self._step(keys, [step, lease, amount, *limits])
        return Standing(_kind(refused), int(requests), *map(float, times))


def _kind(refused: Any) -> LimitKind | None:
    return refused or None
