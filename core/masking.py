"""Masks known secrets in texts: in log lines, and in messages of upstreams."""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote, urlsplit

SHORTEST = 4
"""Characters. A shorter text is not masked: it occurs in too many other texts."""
ENCODED_SHORTEST = 8


class SecretMasker:
    """The texts that no log and no answer may contain. More can be added while the process runs."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._texts: frozenset[str] = frozenset()
        self._without_slash: tuple[str, ...] = ()
        self._with_slash: re.Pattern[str] | None = None
        self._any: re.Pattern[str] | None = None
        self._in_any_form: re.Pattern[str] | None = None
        self.add(texts)

    def add(self, texts: Iterable[str]) -> None:
        """Mask these texts too, and the passwords of those that are addresses."""
        found = (each for text in texts for each in ((text, _password(text)) if "://" in text else (text,)))
        known = self._texts.union(text for text in found if len(text) >= SHORTEST)
        if known != self._texts:
            self._texts = known
            without_slash = tuple(text for text in known if "/" not in text)
            self._any = _any_of(known)  # before what decides whether it is used
            self._with_slash = _any_of(known.difference(without_slash))
            self._without_slash = without_slash
            self._in_any_form = _any_of({form for text in known for form in _forms(text)})

    def hide(self, text: str) -> str:
        """The text without the known secrets. `in` finds a text without a slash in a tenth of a pattern's time."""
        if self._any is None:
            return text
        if any(map(text.__contains__, self._without_slash)) or (self._with_slash and self._with_slash.search(text)):
            return self._any.sub("***", text)
        return text

    def mask(self, text: str, most: int) -> str:
        """The text with the known secrets masked in each of their forms, cut to `most` characters."""
        # Cut after masking, so that no half of a secret is left; and before, since masking a huge text is slow.
        text = text[: 4 * most]
        text = self._in_any_form.sub("***", text) if self._in_any_form else text
        return text if len(text) <= most else f"{text[:most]}..."


KNOWN_SECRETS = SecretMasker()
"""The secrets of the settings, of models.yaml and of lists of models."""


def _any_of(texts: Iterable[str]) -> re.Pattern[str] | None:
    # JSON may have backslashes before slashes, and twice as many once it is quoted.
    forms = [re.escape(text).replace("/", r"\\*/") for text in sorted(texts, key=len, reverse=True)]
    return re.compile("|".join(forms)) if forms else None


def _password(address: str) -> str:
    """The password in an address, "" if there is none."""
    try:
        return unquote(urlsplit(address).password or "")
    except ValueError:
        return ""


def _forms(text: str) -> Iterator[str]:
    """The forms of a secret: as it is, in a URL, and in base64, of which there are three within other text."""
    yield text
    yield quote(text, safe="")
    yield quote(text)
    if len(text) >= ENCODED_SHORTEST:
        raw = text.encode()
        for before in range(3):
            # Without the characters that also encode bits of the neighbouring text.
            first, last = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
            yield b64encode(b"\0" * before + raw).decode()[first:last]
