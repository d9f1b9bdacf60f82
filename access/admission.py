"""The interface of the checks that a request passes once its key is known: limits and budgets."""

import re
from collections.abc import Iterable
from typing import Protocol

from core.api_keys import ApiKey

BYTES_PER_TOKEN = 4
"""Bytes of text for one token: about right for most languages and models."""
IMAGE_TOKENS = 1000
DATA_URL = re.compile(rb"data:[\w/+.-]+;base64,[A-Za-z0-9+/=\\]+")


class Permit(Protocol):
    """One check of one request. `enter` is called first and `release` last, once each."""

    def enter(self, *, counts: bool) -> None:
        """Admit the request, and count it if it `counts`. Raises RateLimited."""

    def spend(self, tokens: int) -> None:
        """Count the prompt's estimated tokens, before a target is asked. Raises RateLimited."""

    def release(self, tokens: int | None) -> None:
        """End the check. `tokens` is what the request has used in all; None if that is not known."""

    def headers(self) -> Iterable[tuple[str, str]]:
        """The headers of the response that describe the check."""


class AdmissionCheck(Protocol):
    """A check by key. Safe for all threads."""

    def permit(self, key: ApiKey) -> Permit | None:
        """Return the check of a request with this key; None if the key needs none. Must be fast."""


def estimated_tokens(body: bytes) -> int:
    """The tokens of a prompt by the size of the request's body. Pictures count as IMAGE_TOKENS each."""
    text, images = DATA_URL.subn(b"", body) if b";base64," in body else (body, 0)
    return len(text) // BYTES_PER_TOKEN + images * IMAGE_TOKENS
