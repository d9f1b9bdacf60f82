"""How OCI knows us: credentials that are read or fetched when first needed, kept while they hold, and renewed in time.

    signature = yield from login.signature(call)      # Silence, while a first sign-in takes its time
    headers = signature.headers("POST", url, body)

Signing in happens on a thread of its own, once for all who wait for it: what a principal asks of the network cannot be
woken, but a request that waits can.
"""

import threading
from collections.abc import Callable, Generator, Mapping
from copy import copy
from logging import getLogger
from math import inf
from time import monotonic

from core.context import CallContext
from core.errors import Cancelled, GatewayError, UpstreamError, UpstreamTimeout
from core.events import SILENCE, Silence
from providers.oci.credentials import PRINCIPALS, Credential, Profile, by_principal, by_profile

log = getLogger("thinkline.providers")

SIGN_IN_SECONDS = 30.0
"""A request that has no time-out of its own waits no longer than this."""
LOOK_SECONDS = 0.05
"""How often a request that waits looks whether its caller is still there."""
AHEAD_SECONDS = 300.0
"""So long before a token expires, the next one is fetched, while the old one still signs."""
LAST_SECONDS = 30.0
"""A token that lives no longer than this signs nothing more: clocks differ."""


class Login:
    """One way to sign in, shared by all threads: once, and again before the token expires, when a file that it was
    read from changes, and after `refused`. `given` are a profile's values in the place of a file's; with `debug`, the
    package logs what it asks for a principal.
    """

    def __init__(
        self,
        name: str,
        auth_type: str,
        config_file: str,
        profile: str,
        given: Mapping[str, str] | None = None,
        *,
        debug: bool = False,
    ) -> None:
        self._name = name
        self._auth_type = auth_type
        self._debug = debug
        self._profile = Profile(name, config_file, profile, given or {})
        self._lock = threading.Lock()
        self._current: Credential | None = None
        self._under_way: _SignIn | None = None

    def signature(self, call: CallContext) -> Generator[Silence, None, Credential]:
        """A credential that holds. Raises UpstreamAuthFailed that names the setting, UpstreamTimeout and Cancelled."""
        current = self._current
        usable = current is not None and current.holds(LAST_SECONDS)
        changed = current is not None and current.changed
        if current is not None and usable and not changed and current.holds(AHEAD_SECONDS):
            return current
        sign_in = self._begin(current)
        if current is not None and usable and not changed:
            return current
        yield from sign_in.wait(call, self._name)
        if sign_in.signature is None and current is not None and usable:
            return current  # a file that is being written just now
        return sign_in.outcome()

    def refused(self, signature: Credential) -> bool:
        """OCI does not take this credential any more. Whether another try is worth it: not with a user's key."""
        if signature.expires == inf:
            return False
        with self._lock:
            if self._current is signature:
                self._current = None
        return True

    def _begin(self, seen: Credential | None) -> "_SignIn":
        """The sign-in that is under way, or has ended since the caller saw what there was; else a new one."""
        with self._lock:
            last = self._under_way
            if last is None or (last.done.is_set() and self._current in (None, seen)):
                last = self._under_way = _SignIn(self._sign_in)
            return last

    def _sign_in(self) -> Credential:
        if self._auth_type in PRINCIPALS:
            signature = by_principal(self._name, self._auth_type, debug=self._debug)
        else:
            signature = by_profile(self._profile, by_token=self._auth_type == "SESSION_TOKEN")
        with self._lock:
            self._current = signature
        return signature


class _SignIn:
    """A sign-in under way, on its own thread."""

    def __init__(self, sign_in: Callable[[], Credential]) -> None:
        self.done = threading.Event()
        self.signature: Credential | None = None
        self._error: GatewayError = UpstreamError("The sign-in to OCI broke off.")
        threading.Thread(target=self._run, args=(sign_in,), name="oci-sign-in", daemon=True).start()

    def _run(self, sign_in: Callable[[], Credential]) -> None:
        try:
            self.signature = sign_in()
        except GatewayError as error:
            self._error = error
            log.warning("not signed in", extra={"facts": {"error": error.message, "said": error.log}})
        finally:
            self.done.set()

    def wait(self, call: CallContext, name: str) -> Generator[Silence, None, None]:
        give_up_by = min(monotonic() + SIGN_IN_SECONDS, call.first_event_by, call.total_by)
        while not self.done.wait(LOOK_SECONDS):
            now = monotonic()
            if call.gone:
                raise Cancelled
            if now >= give_up_by:
                raise UpstreamTimeout(f"Signing in to {name} (AUTH_TYPE) took too long.", provider=name)
            if now >= call.beat_by:
                call.beat_by = now + call.heartbeat
                yield SILENCE

    def outcome(self) -> Credential:
        """The signature; raises why there is none."""
        if self.signature is not None:
            return self.signature
        raise copy(self._error)
