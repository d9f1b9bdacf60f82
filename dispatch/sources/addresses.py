"""Checks of addresses and keys in settings."""

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

VISIBLE = re.compile(r"[!-~]+")


def is_address(url: str) -> bool:
    """Whether it is an http(s) URL that a request can be sent to, without a password in it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:
        return False
    return usable and bool(VISIBLE.fullmatch(url)) and "@" not in parts.netloc


def is_loopback(host: str) -> bool:
    """Whether a URL's host is this machine itself."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
