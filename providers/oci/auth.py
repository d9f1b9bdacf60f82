"""Credentials for OCI: read or fetched when first needed, kept while they are valid, and renewed in time.

    signature = login.signature(call)      # waits for the first sign-in
    headers = signature.headers("POST", url, body)

A sign-in runs in its own thread, once for all requests that wait for it. Its network calls cannot be interrupted, but
a waiting request can.
"""

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from copy import copy
from logging import getLogger
from math import inf
from time import monotonic

from core.context import CallContext
from core.errors import GatewayError, UpstreamTimeout
from providers.oci.credentials import PRINCIPALS, Credential, Profile, by_principal, by_profile

log = getLogger("thinkline.providers")

SIGN_IN_SECONDS = 30.0
"""The longest wait of a request without a time-out of its own."""
AHEAD_SECONDS = 300.0
"""The next token is fetched so long before the old one expires, which still signs meanwhile."""
LAST_SECONDS = 30.0
"""A token that expires within this time is not used, because clocks differ."""


class Login:
    """One way to sign in, shared by all threads. It signs in again before the token expires, when a file of the
    credential changes, and after `discard`. `given` are a profile's values instead of a file's. With `debug`, the
    package logs its requests for a principal.
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
        self._under_way: Future[Credential] | None = None

    def signature(self, call: CallContext) -> Credential:
        """A valid credential. Raises UpstreamAuthFailed that names the setting, UpstreamTimeout and Cancelled."""
        current = self._current
        usable = current is not None and current.holds(LAST_SECONDS)
        changed = current is not None and current.has_changed
        if current is not None and usable and not changed and current.holds(AHEAD_SECONDS):
            return current
        sign_in = self._begin(current)
        if current is not None and usable and not changed:
            return current
        try:
            return call.wait_for(sign_in, monotonic() + SIGN_IN_SECONDS)
        except TimeoutError:
            raise UpstreamTimeout(
                f"Signing in to {self._name} (AUTH_TYPE) took too long.", provider=self._name
            ) from None
        except GatewayError as error:
            if current is not None and usable:
                return current  # a file that is being written just now
            raise copy(error) from None  # others wait for the same

    def discard(self, signature: Credential) -> bool:
        """Forget a credential that OCI has refused. Returns whether a new one may work: not for a user's key."""
        if signature.expires == inf:
            return False
        with self._lock:
            if self._current is signature:
                self._current = None
        return True

    def _begin(self, seen: Credential | None) -> "Future[Credential]":
        """The sign-in that is under way, or that has replaced the credential `seen`; else a new one."""
        with self._lock:
            last = self._under_way
            if last is None or (last.done() and self._current in (None, seen)):
                last = self._under_way = Future()
                threading.Thread(target=self._run, args=(last,), name="oci-sign-in", daemon=True).start()
            return last

    def _run(self, sign_in: "Future[Credential]") -> None:
        try:
            signature = self._sign_in()
        except BaseException as error:  # noqa: BLE001 - raised again in the threads that wait
            if isinstance(error, GatewayError):
                log.warning("not signed in", extra={"facts": {"error": error.message, "said": error.log}})
            sign_in.set_exception(error)
        else:
            sign_in.set_result(signature)

    def _sign_in(self) -> Credential:
        if self._auth_type in PRINCIPALS:
            signature = by_principal(self._name, self._auth_type, debug=self._debug)
        else:
            signature = by_profile(self._profile, by_token=self._auth_type == "SESSION_TOKEN")
        with self._lock:
            self._current = signature
        return signature
