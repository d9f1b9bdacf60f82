"""Finds the address of a request's sender behind trusted web servers.

They name it in X-Forwarded-For, or in Forwarded: https://www.rfc-editor.org/rfc/rfc7239.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

UNIX = "unix"
MOST_CHARACTERS = 1000
"""Characters of a header that are read: its end, which the web server next to this one has written."""
WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
VALUE = rf'(?:{WORD}|"(?:[^"\\]|\\.)*+")'
PAIR = rf"{WORD}={VALUE}"
LAST_ELEMENT = re.compile(rf"(?:\A|,)[ \t]*+((?:{PAIR})?(?:[ \t]*+;[ \t]*+(?:{PAIR})?)*+)[ \t]*+\Z")
"""The last element of a Forwarded header. It is found from the end, as what stands before may be the caller's own."""
PAIRS = re.compile(rf"({WORD})=({VALUE})")
NODE = re.compile(r"(?:\[([0-9A-Fa-f:.]++)\]|([0-9.]++))(?::(?:[0-9]{1,5}|_[0-9A-Za-z._-]++))?")
"""An address, with a port or without one. Other nodes are `unknown`, or identifiers such as _hidden."""


class TrustedProxies:
    """The addresses and networks of the web servers in front of this one; "unix" is a Unix socket."""

    def __init__(self, addresses: Iterable[str] = ()) -> None:
        given = tuple(addresses)
        self._unix = UNIX in given
        self._networks = [ip_network(each, strict=False) for each in given if each != UNIX]
        self._sender_of = lru_cache(maxsize=1024)(self._last_untrusted)

    def sender(self, environ: Mapping[str, Any]) -> str:
        """The sender's address: the peer's; if that is a trusted proxy, the last one in X-Forwarded-For that is not a
        trusted proxy, or without that header in Forwarded.
        """
        peer: str = environ.get("REMOTE_ADDR", "")
        if not (self._networks or self._unix):
            return peer
        if listed := environ.get("HTTP_X_FORWARDED_FOR"):
            return self._sender_of(peer, listed[-MOST_CHARACTERS:], _listed_hops)
        if forwarded := environ.get("HTTP_FORWARDED"):
            return self._sender_of(peer, forwarded[-MOST_CHARACTERS:], _forwarded_hops)
        return peer

    def trusts_peer(self, environ: Mapping[str, Any]) -> bool:
        """Whether the request's peer is a trusted proxy."""
        return self._trusts(environ.get("REMOTE_ADDR", ""))

    def _last_untrusted(self, peer: str, header: str, hops: Callable[[str], Iterator[str]]) -> str:
        sender = peer
        for address in hops(header):
            if not address or not self._trusts(sender):
                break
            sender = address
        return sender

    def _trusts(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return self._unix and not address  # a Unix socket's peer has no address
        mapped = getattr(found, "ipv4_mapped", None) or found
        return any(_contains(network, mapped) for network in self._networks)


def _contains(network: IPv4Network | IPv6Network, address: Any) -> bool:
    return bool(network.version == address.version and address in network)


def _listed_hops(header: str) -> Iterator[str]:
    """The addresses in X-Forwarded-For, the last one first; "" for what is none. They have one of these forms:
    192.0.2.1, 192.0.2.1:4711, 2001:db8::1, [2001:db8::1]:4711.
    """
    for hop in reversed(header.split(",")):
        text = hop.strip().strip('"')
        if text.startswith("["):
            text = text[1:].partition("]")[0]
        elif text.count(":") == 1:
            text = text.partition(":")[0]
        yield _address(text)


def _forwarded_hops(header: str) -> Iterator[str]:
    """The addresses in Forwarded, the last one first; "" for an element that names none."""
    while header and (element := LAST_ELEMENT.search(header)):
        header = header[: element.start()]
        values = [value for name, value in PAIRS.findall(element[1]) if name.lower() == "for"]
        node = NODE.fullmatch(_unquoted(values[0])) if len(values) == 1 else None
        yield _address(node[1] or node[2]) if node else ""


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _address(text: str) -> str:
    """The address in its usual form; "" for none. No zone of an IPv6 address is taken, which may be any text."""
    try:
        return "" if "%" in text else str(ip_address(text))
    except ValueError:
        return ""
