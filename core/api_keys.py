"""The API keys of callers: what each key allows, and how a key is made."""

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256
from time import time
from typing import Any

from core.rate_limits import Quota

HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})")
SHORTEST = 16
"""The fewest characters of a key that cannot be guessed."""
UNLIMITED = Quota()
PATH_KEY = "thinkline.path_key"
"""The name, in the WSGI environ, of the API key that was part of the path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key by its name. No field holds the key itself.

    digests   SHA-256 of the key's bytes, in each encoding that clients may send it in
    models    globs of the models that it may call; without globs it may call all
    quota     its rate limits
    budget    money per period, "day" or "month"
    expires   Unix time from which it is refused, None for never
    admin     whether it may see the requests and usage of other keys
    """

    name: str
    digests: frozenset[bytes] = field(default=frozenset(), repr=False)
    models: tuple[str, ...] = ()
    quota: Quota = UNLIMITED
    budget: Mapping[str, float] = field(default_factory=dict)
    expires: float | None = None
    admin: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def allows(self, names: Iterable[str]) -> bool:
        """Whether it may call a model that has these names."""
        return not self.models or any(fnmatchcase(name, glob) for name in names for glob in self.models)

    def allows_provider(self, provider: str) -> bool:
        """Whether one of its globs can match a model of this provider, as `provider/model`."""
        globs = (glob.partition("/") for glob in self.models)
        return not self.models or any(
            fnmatchcase(provider, first) for first, slash, _ in globs if slash or first == "*"
        )

    @property
    def expired(self) -> bool:
        """Whether it has expired."""
        return self.expires is not None and time() >= self.expires


ANONYMOUS = ApiKey(name="")
"""The key of all callers if no key is needed."""


def digests_of(key: str) -> frozenset[bytes]:
    """The digests of a key, which may be given as `sha256:` and 64 hexadecimal digits. Clients send what is not ASCII
    in UTF-8 or in Latin-1.
    """
    if hashed := HASHED.fullmatch(key):
        return frozenset({bytes.fromhex(hashed[1])})
    forms = {key.encode()}
    try:
        forms.add(key.encode("latin-1"))
    except UnicodeEncodeError:
        pass  # it cannot be sent in Latin-1
    return frozenset(sha256(form).digest() for form in forms)


def new_key() -> tuple[str, str]:
    """Make a key of 256 random bits. Returns the key, and its hash in the form of models.yaml."""
    key = f"sk-tl-{secrets.token_urlsafe(32)}"
    return key, f"sha256:{sha256(key.encode()).hexdigest()}"
