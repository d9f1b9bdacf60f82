"""Where a request comes from: X-Forwarded-For and Forwarded are believed from trusted proxies alone, and only as far
as they go.
"""

import time

import pytest

from access.proxies import TrustedProxies

OURS = ("10.0.0.0/8", "2001:db8:1::/48", "192.0.2.10")


@pytest.mark.parametrize(
    ("peer", "forwarded", "sender"),
    [
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.7, 10.9.9.9", "203.0.113.7"),
        ("10.0.0.1", "10.1.1.1,10.2.2.2", "10.1.1.1"),
        ("203.0.113.9", "10.0.0.1", "203.0.113.9"),
        ("203.0.113.9", "6.6.6.6", "203.0.113.9"),
        ("2001:db8:1::5", "[2001:db8:2::7]:4711", "2001:db8:2::7"),
        ("::ffff:10.0.0.1", "203.0.113.7:80", "203.0.113.7"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7, <script>", "10.0.0.1"),
        ("10.0.0.1", "fe80::1%<script>", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", ", ,", "10.0.0.1"),
        ("10.0.0.1", "1.2.3.4," * 100_000, "10.0.0.1"),
        ("", "203.0.113.7", ""),
    ],
)
def test_the_last_hop_that_is_not_ours_is_the_sender(peer: str, forwarded: str | None, sender: str) -> None:
    environ = {"REMOTE_ADDR": peer} | ({} if forwarded is None else {"HTTP_X_FORWARDED_FOR": forwarded})
    assert TrustedProxies(OURS).sender(environ) == sender
    assert TrustedProxies().sender(environ) == peer


@pytest.mark.parametrize(
    ("peer", "forwarded", "sender"),
    [
        ("10.0.0.1", "for=203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", 'For="203.0.113.7:4711"', "203.0.113.7"),
        ("10.0.0.1", 'by=10.0.0.1 ; FOR="[2001:DB8:2::7]:_port" ; proto=https', "2001:db8:2::7"),
        ("10.0.0.1", 'for="[2001:db8:2::7]"', "2001:db8:2::7"),
        ("10.0.0.1", r'for="\2\03.0.113.7"', "203.0.113.7"),
        ("10.0.0.1", "for=6.6.6.6, for=203.0.113.7;proto=http", "203.0.113.7"),
        ("10.0.0.1", "for=6.6.6.6,for=203.0.113.7,for=10.9.9.9", "203.0.113.7"),
        ("10.0.0.1", 'for=203.0.113.7;ext="a, b; for=6.6.6.6"', "203.0.113.7"),
        ("10.0.0.1", "for=10.1.1.1, for=10.2.2.2", "10.1.1.1"),
        ("203.0.113.9", "for=6.6.6.6", "203.0.113.9"),
        # identifiers that hide an address
        ("10.0.0.1", "for=unknown", "10.0.0.1"),
        ("10.0.0.1", "for=_hidden, for=10.2.2.2", "10.2.2.2"),
        ("10.0.0.1", 'for=203.0.113.7, for="_SEVKISEK:80"', "10.0.0.1"),
        # what names no address
        ("10.0.0.1", "for=203.0.113.7, proto=https", "10.0.0.1"),
        ("10.0.0.1", "for=203.0.113.7,", "10.0.0.1"),
        ("10.0.0.1", "for=203.0.113.7;for=6.6.6.6", "10.0.0.1"),
        ("10.0.0.1", "for=", "10.0.0.1"),
        ("10.0.0.1", 'for=""', "10.0.0.1"),
        ("10.0.0.1", ";;;", "10.0.0.1"),
        # what is not well-formed
        ("10.0.0.1", "203.0.113.7", "10.0.0.1"),
        ("10.0.0.1", "for = 203.0.113.7", "10.0.0.1"),
        ("10.0.0.1", "for=2001:db8:2::7", "10.0.0.1"),
        ("10.0.0.1", "for=[2001:db8:2::7]", "10.0.0.1"),
        ("10.0.0.1", 'for="2001:db8:2::7"', "10.0.0.1"),
        ("10.0.0.1", "for=203.0.113.7:80", "10.0.0.1"),
        ("10.0.0.1", 'for="203.0.113.7', "10.0.0.1"),
        ("10.0.0.1", 'for="203.0.113.7"x', "10.0.0.1"),
        ("10.0.0.1", 'for="203.0.113.7:port"', "10.0.0.1"),
        ("10.0.0.1", 'for="[203.0.113.7"', "10.0.0.1"),
        ("10.0.0.1", 'for="[fe80::1%<script>]"', "10.0.0.1"),
        ("10.0.0.1", "for=999.0.113.7", "10.0.0.1"),
        ("10.0.0.1", "for=203.0.113.7 for=6.6.6.6", "10.0.0.1"),
        # what a caller leaves open does not reach what the proxy has added
        ("10.0.0.1", 'for="6.6.6.6, for=203.0.113.7', "203.0.113.7"),
        ("10.0.0.1", 'for="x, for="[2001:db8:2::7]:47"', "2001:db8:2::7"),
        ("10.0.0.1", "for=6.6.6.6," * 100_000 + "for=203.0.113.7", "203.0.113.7"),
    ],
)
def test_the_header_of_rfc_7239_says_the_same(peer: str, forwarded: str, sender: str) -> None:
    environ = {"REMOTE_ADDR": peer, "HTTP_FORWARDED": forwarded}
    assert TrustedProxies(OURS).sender(environ) == sender
    assert TrustedProxies().sender(environ) == peer


def test_a_proxy_that_sets_x_forwarded_for_is_believed_before_what_a_caller_may_have_sent() -> None:
    environ = {"REMOTE_ADDR": "10.0.0.1", "HTTP_FORWARDED": "for=6.6.6.6", "HTTP_X_FORWARDED_FOR": "203.0.113.7"}
    assert TrustedProxies(OURS).sender(environ) == "203.0.113.7"


@pytest.mark.parametrize("piece", [',a="', "for=10.0.0.1,", ";", ", ", '"\\', "a=b;", 'for="10.0.0.1', "\t"])
def test_no_header_is_slow_to_read(piece: str) -> None:
    proxies, started = TrustedProxies(OURS), time.process_time()
    for number in range(20):  # no two alike, as the answer is kept
        proxies.sender({"REMOTE_ADDR": "10.0.0.1", "HTTP_FORWARDED": f"{piece * 5000}{number}"})
    assert time.process_time() - started < 1


def test_a_unix_socket_can_be_trusted() -> None:
    environ = {"REMOTE_ADDR": "", "HTTP_X_FORWARDED_FOR": "203.0.113.7"}
    assert TrustedProxies(["unix"]).sender(environ) == "203.0.113.7"
