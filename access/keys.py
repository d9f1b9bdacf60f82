"""Authenticates requests: by a known key or, if no key is configured, by coming from this machine (decision 6)."""

import hmac
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from core.api_keys import ANONYMOUS, PATH_KEY, ApiKey, digests_of
from core.errors import PermissionDenied, Unauthenticated

FORWARDED = re.compile(
    "^HTTP_(?:FORWARDED|VIA$|MAX_FORWARDS|CF_|CDN_|TRUE_CLIENT_IP|(?:WL_)?PROXY_|CLIENT_IP|FASTLY_|FLY_|NGROK|TAILSCALE_"
    "|AKAMAI_|ALI_|INCAP_|EAGLEID|DISGUISED_|X_(?:FORWARDED|ORIGINA|REAL_|CLIENT_|CLUSTER_|REMOTE_|REWRITE_|PROXY|ENVOY"
    "|AMZ|AMZN|AZURE|ARR_|MS_|CLOUD_TRACE_CONTEXT|GOOGLE_|GFE_|APPENGINE|AKAMAI|VARNISH|SUCURI|CDN|VERCEL_|NF_|RENDER_"
    "|RAILWAY_|NGINX_|SCHEME$|SSL|HTTPS|TUNNEL|DEVTUNNEL))",
    re.MULTILINE,
)
"""Prefixes of headers, by their names in the WSGI environ, that proxies, tunnels and content delivery networks add. A
request with such a header was forwarded for another machine.
"""

REVOKED = "The API key was revoked."
UNKNOWN = (bytes(32), ANONYMOUS)
"""Compared with the digest of an unknown key, so that the time is the same."""
HOW_TO_SET_A_KEY = (
    "Set API_KEY to a secret of your own where this server runs, and send it as `Authorization: Bearer ...`."
)


class Authenticator:
    """Checks a request's key against the keys of the settings, name -> key, and those of the models file, which can be
    replaced. Without any key, only requests of this machine are accepted, unless `anonymous`. Safe for all threads.

    `is_local` says whether a host name or address is this machine; `origins` are the web pages that may call.
    """

    def __init__(
        self,
        keys: Mapping[str, str],
        file_keys: Iterable[ApiKey] = (),
        *,
        anonymous: bool,
        is_local: Callable[[str], bool],
        origins: Iterable[str] = (),
    ) -> None:
        self._settings_keys = [ApiKey(name=name, digests=digests_of(key)) for name, key in keys.items()]
        self._anonymous = anonymous
        self._is_local = lru_cache(maxsize=1024)(is_local)
        self._origins = frozenset(origin.lower() for origin in origins)  # as browsers send them
        self.replace(file_keys)

    def replace(self, file_keys: Iterable[ApiKey]) -> None:
        """Replace the keys of the models file."""
        keys = [*file_keys, *self._settings_keys]
        self._by_digest = {digest: (digest, key) for key in keys for digest in key.digests}

    @property
    def keys(self) -> Sequence[ApiKey]:
        """All keys, in the order of their names."""
        return sorted({key.name: key for _, key in self._by_digest.values()}.values(), key=lambda key: key.name)

    @property
    def has_keys(self) -> bool:
        """Whether callers need a key."""
        return bool(self._by_digest)

    def knows(self, key: ApiKey) -> bool:
        """Whether a key that was accepted once still exists. ANONYMOUS always does."""
        return not key.digests or not key.digests.isdisjoint(self._by_digest)

    def find_by_name(self, name: str) -> ApiKey | None:
        """The key of that name, for a caller with another proof; None if there is none. Raises Unauthenticated if it
        has expired.
        """
        found = next((key for _, key in self._by_digest.values() if key.name == name), None)
        return self.renew(found) if found is not None else None

    def renew(self, key: ApiKey) -> ApiKey:
        """The current form of a key that was accepted once. Raises Unauthenticated if it was revoked or has expired."""
        if not key.digests:
            return key
        current = next((self._by_digest[each][1] for each in key.digests if each in self._by_digest), None)
        if current is None:
            raise Unauthenticated(REVOKED)
        if current.expired:
            raise Unauthenticated(_expiry_message(current))
        return current

    def refusal(self, key: ApiKey | None) -> str:
        """Why a key that was accepted once is refused now; "" if it is not refused, and for None."""
        try:
            self.renew(key or ANONYMOUS)
        except Unauthenticated as error:
            return error.message
        return ""

    def find(self, key: str) -> ApiKey:
        """Find the key that was sent as text in a message; ANONYMOUS if none is needed. Raises Unauthenticated."""
        return self._find(key.encode(errors="replace").decode("latin-1")) if self._by_digest else ANONYMOUS

    def accepts_origin(self, environ: Mapping[str, Any]) -> bool:
        """Whether a web page may open a WebSocket: its origin is this host or one of `origins`. True without an Origin,
        as the client is no web page then.
        """
        origin: str = environ.get("HTTP_ORIGIN", "").lower()
        if not origin or origin in self._origins or "*" in self._origins:
            return True
        host: str = environ.get("HTTP_HOST", "")
        return origin.partition("://")[2] == host.lower()

    def authenticate(self, environ: Mapping[str, Any]) -> ApiKey:
        """Find the key of a WSGI request; ANONYMOUS if none is needed. Raises Unauthenticated."""
        if self._by_digest:
            return self._find(_key(environ))
        if not self._anonymous:
            self._require_this_machine(environ)
        return ANONYMOUS

    def require_operator(self, environ: Mapping[str, Any], own_key: str = "") -> None:
        """Check that a request has `own_key` or an admin's key. Without any configured key, it must come from this
        machine, also if anonymous callers are served. Raises Unauthenticated and PermissionDenied.
        """
        if not own_key and not self._by_digest:
            self._require_this_machine(environ)
            return
        key = _key(environ)
        is_own = own_key and hmac.compare_digest(key.encode("latin-1", "ignore"), own_key.encode())
        if not is_own and not self._find(key).admin:
            raise PermissionDenied("This wants an admin's key, or one that is set for it alone.")

    def _find(self, key: str) -> ApiKey:
        if not key:
            raise Unauthenticated(
                "No API key provided: this server wants one, sent as `Authorization: Bearer ...`.",
                code="missing_api_key",
            )
        given = sha256(key.encode("latin-1", "ignore")).digest()  # WSGI's strings hold bytes, one a character
        # The time of the look-up depends on the digest alone, which says nothing about any key.
        known, found = self._by_digest.get(given, UNKNOWN)
        if not hmac.compare_digest(known, given):
            # These are OpenAI's own words: LiteLLM recognises a wrong key by them.
            raise Unauthenticated("Incorrect API key provided: it is not one of this server's.")
        if found.expired:
            raise Unauthenticated(_expiry_message(found))
        return found

    def _require_this_machine(self, environ: Mapping[str, Any]) -> None:
        host = _host_name(environ.get("HTTP_HOST", ""))
        # nginx speaks HTTP/1.0 to upstreams by default; today's clients do not.
        forwarded = environ.get("SERVER_PROTOCOL") == "HTTP/1.0" or FORWARDED.search("\n".join(environ))
        if forwarded or not self._is_local(environ.get("REMOTE_ADDR", "")) or not self._is_local(host):
            raise Unauthenticated(
                f"Without a key, only requests from this machine itself are served. {HOW_TO_SET_A_KEY}",
                code="missing_api_key",
            )
        origin = environ.get("HTTP_ORIGIN")
        if origin and origin not in self._origins and not self._is_local(_host_name(origin.partition("//")[2])):
            raise Unauthenticated(
                f"Without a key, web pages of other sites are not served. {HOW_TO_SET_A_KEY}", code="missing_api_key"
            )


def _expiry_message(key: ApiKey) -> str:
    return f"The API key {key.name!r} has expired."


@lru_cache(maxsize=64)
def _host_name(address: str) -> str:
    """The host name in `name:port`, "" if there is none."""
    try:
        return urlsplit(f"//{address}").hostname or ""
    except ValueError:
        return ""


def _key(environ: Mapping[str, Any]) -> str:
    """The key in a request: in the path, as a bearer token, x-api-key, api-key as at Azure, or Authorization without a
    scheme.
    """
    if path_key := environ.get(PATH_KEY):
        return str(path_key)
    authorization: str = environ.get("HTTP_AUTHORIZATION", "").strip(" \t")
    scheme, _, token = authorization.partition(" ")
    bearer, bare = (token, "") if scheme.lower() == "bearer" else ("", authorization)
    sent = (bearer, environ.get("HTTP_X_API_KEY", ""), environ.get("HTTP_API_KEY", ""), bare)
    return next((key for each in sent if (key := each.strip(" \t"))), "")
