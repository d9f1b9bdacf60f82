"""Where a request comes from: X-Forwarded-For is believed from trusted proxies alone, and only as far as they go."""

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


def test_a_unix_socket_can_be_trusted() -> None:
    environ = {"REMOTE_ADDR": "", "HTTP_X_FORWARDED_FOR": "203.0.113.7"}
    assert TrustedProxies(["unix"]).sender(environ) == "203.0.113.7"
