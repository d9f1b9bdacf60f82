"""Finds the address of a request's sender behind trusted web servers."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

UNIX = "unix"


class TrustedProxies:
    """The addresses and networks of the web servers in front of this one; "unix" is a Unix socket."""

    def __init__(self, addresses: Iterable[str] = ()) -> None:
        given = tuple(addresses)
        self._unix = UNIX in given
        self._networks = [ip_network(each, strict=False) for each in given if each != UNIX]
        self._sender_of = lru_cache(maxsize=1024)(self._last_untrusted)

    def sender(self, environ: Mapping[str, Any]) -> str:
        """The sender's address: the peer's; if that is a trusted proxy, the last one in X-Forwarded-For that is not a
        trusted proxy.
        """
        peer: str = environ.get("REMOTE_ADDR", "")
        forwarded = environ.get("HTTP_X_FORWARDED_FOR")
        if not forwarded or not (self._networks or self._unix):
            return peer
        return self._sender_of(peer, forwarded[-1000:])

    def trusts_peer(self, environ: Mapping[str, Any]) -> bool:
        """Whether the request's peer is a trusted proxy."""
        return self._trusts(environ.get("REMOTE_ADDR", ""))

    def _last_untrusted(self, peer: str, forwarded: str) -> str:
        sender = peer
        for hop in reversed(forwarded.split(",")):
            if not self._trusts(sender):
                break
            address = _address(hop)
            if not address:
                break  # not an address
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


def _address(hop: str) -> str:
    """The address in a hop, which has one of these forms: 192.0.2.1, 192.0.2.1:4711, 2001:db8::1, [2001:db8::1]:4711;
    "" for none.
    """
    text = hop.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return ""
