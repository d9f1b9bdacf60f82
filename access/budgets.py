"""Budgets: the amounts that a key may spend in a day and in a month, in UTC. A key without money left is refused."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from logging import getLogger
from typing import Protocol

from core.api_keys import ApiKey
from core.errors import BudgetExceeded

log = getLogger("thinkline.limits")

FIRST_LOOK_SECONDS = 0.25
"""How long a key's first request waits until the key's amounts are read."""


def warn_of_unchecked_budgets(keys: Iterable[ApiKey]) -> None:
    """Log the keys that have a budget, since without the table of usage nothing counts what they spend."""
    if names := [key.name for key in keys if key.budget]:
        log.warning(
            "USAGE_DAYS is 0, so no usage is kept, and these keys' budgets are not checked: %s", ", ".join(names)
        )


class Accounts(Protocol):
    """The amounts that keys have spent."""

    def watch_spending(self, key: str, seconds: float) -> None:
        """Have a key's amounts kept current. The first call waits up to `seconds` for them."""

    def spent(self, key: str, today: date) -> Mapping[str, float]:
        """A key's amounts by period: "day" and "month"."""


class BudgetCheck:
    """An AdmissionCheck of keys that have a budget."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts

    def permit(self, key: ApiKey) -> "BudgetPermit | None":
        """None for a key without a budget."""
        return BudgetPermit(self, key) if key.budget else None


class BudgetPermit:
    """The check of one request. Its cost is counted when it has ended."""

    def __init__(self, check: BudgetCheck, key: ApiKey) -> None:
        self._accounts = check.accounts
        self._key = key

    def enter(self, *, counts: bool) -> None:
        """Raises BudgetExceeded."""
        if not counts:
            return
        key, today = self._key, datetime.now(UTC).date()
        self._accounts.watch_spending(key.name, FIRST_LOOK_SECONDS)
        spent = self._accounts.spent(key.name, today)
        # The period that renews last decides the Retry-After.
        for period in ("month", "day"):
            most = key.budget.get(period)
            if most is not None and spent[period] >= most:
                renews = _renewal(period, today)
                raise BudgetExceeded(
                    f"The key {key.name!r} has spent its budget of {most:g} for this {period}; "
                    f"it renews at {renews:%Y-%m-%dT%H:%M:%SZ}.",
                    retry_after=max(0.0, (renews - datetime.now(UTC)).total_seconds()),
                )

    def spend(self, tokens: int) -> None:
        """Do nothing: another check counts tokens."""

    def release(self, tokens: int | None) -> None:
        """Do nothing: the request's record has its cost."""

    def headers(self) -> Iterator[tuple[str, str]]:
        """Yield nothing: there is no usual header for money."""
        yield from ()


def _renewal(period: str, today: date) -> datetime:
    day = today + timedelta(1) if period == "day" else (today.replace(day=1) + timedelta(32)).replace(day=1)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
