"""What a request must pass once its key is known: limits, and whatever else is counted for a key."""

import re
from collections.abc import Iterable
from typing import Protocol

from core.api_keys import ApiKey

BYTES_PER_TOKEN = 4
"""Of text in most languages, as most models count."""
IMAGE_TOKENS = 1000
DATA_URL = re.compile(rb"data:[\w/+.-]+;base64,[A-Za-z0-9+/=\\]+")


class Permit(Protocol):
    """One check of one request. `enter` comes first and `release` last, once each."""

    def enter(self, *, counts: bool) -> None:
        """Admit the request, and count it if it `counts`. Raises RateLimited."""

    def spend(self, tokens: int) -> None:
        """Count what its prompt is estimated at, before it is asked. Raises RateLimited."""

    def release(self, tokens: int | None) -> None:
        """It has ended, and took so many tokens in all; None where nobody counted them."""

    def headers(self) -> Iterable[tuple[str, str]]:
        """What its answer tells of the check, as known by then."""


class AdmissionCheck(Protocol):
    """A check by key. Safe for all threads."""

    def permit(self, key: ApiKey) -> Permit | None:
        """The check of a request with this key; None where the key need not be checked. Must cost next to nothing."""


def estimated_tokens(body: bytes) -> int:
    """The tokens of a prompt by the size of the request's body. Pictures count as IMAGE_TOKENS each."""
    text, images = DATA_URL.subn(b"", body) if b";base64," in body else (body, 0)
    return len(text) // BYTES_PER_TOKEN + images * IMAGE_TOKENS
