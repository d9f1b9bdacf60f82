"""The `keys` of models.yaml: the keys of callers, with their models and limits."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from logging import getLogger
from pathlib import Path
from typing import Any

from core.api_keys import HASHED, SHORTEST, ApiKey, digests_of
from core.masking import KNOWN_SECRETS
from core.rate_limits import Quota
from dispatch.sources.consistency import Inconsistent

log = getLogger("thinkline.models_file")

DATE_CHARACTERS = len("2027-01-31")


def api_keys(given: Sequence[Mapping[str, Any]]) -> tuple[ApiKey, ...]:
    """The keys. Those that are no hash are hidden in logs from now on. Raises Inconsistent for one given twice."""
    keys: list[ApiKey] = []
    owners: dict[bytes, str] = {}
    for at, each in enumerate(given):
        key = _api_key(each)
        if any(key.name == other.name for other in keys):
            raise Inconsistent(("keys", at, "name"), f"the name {key.name!r} is given for the second time")
        for digest in key.digests:
            if digest in owners:
                raise Inconsistent(("keys", at, "key"), f"{key.name!r} has the same key as {owners[digest]!r}")
            owners[digest] = key.name
        keys.append(key)
    return tuple(keys)


def check_apart(keys: Iterable[ApiKey], settings_keys: Mapping[str, str], path: Path) -> None:
    """Raises ValueError for a key of the file that API_KEY or API_KEYS has too, by its name or by itself."""
    owners = {digest: name for name, key in settings_keys.items() for digest in digests_of(key)}
    for key in keys:
        if key.name in settings_keys:
            raise ValueError(f"{path}: keys: API_KEYS has a key of the name {key.name!r} too.")
        if other := next((owners[digest] for digest in key.digests if digest in owners), ""):
            raise ValueError(f"{path}: keys: {key.name!r} has the same key as {other!r} of API_KEYS.")


def _api_key(given: Mapping[str, Any]) -> ApiKey:
    key = given["key"]
    if not HASHED.fullmatch(key):
        KNOWN_SECRETS.add([key])
        if len(key) < SHORTEST:
            log.warning("the key %r is short, and can be guessed: %s characters or more", given["name"], SHORTEST)
    return ApiKey(
        name=given["name"],
        digests=digests_of(key),
        models=tuple(given.get("models", ())),
        quota=Quota(given.get("requests_per_minute"), given.get("tokens_per_minute"), given.get("concurrent")),
        budget=given.get("budget", {}),
        expires=_expiry(given["expires"]) if "expires" in given else None,
        admin=given.get("admin", False),
        metadata=given.get("metadata", {}),
    )


def _expiry(text: str) -> float:
    """Unix time; for a date, the end of that day. A time without a zone is UTC."""
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment + timedelta(days=len(text) <= DATE_CHARACTERS)).timestamp()
