"""What a line of the wire's log shows of a request: all that finds a fault, and no credential."""

import logging

import pytest

from providers.transport.wire_log import KEPT_BYTES, WireLog

REQUEST = (
    b"POST /v1/x?key=QUERY-SECRET&alt=sse&x-goog-signature=SIGNED HTTP/1.1\r\nHost: api.example.com\r\n"
    b"Authorization: AWS4-HMAC-SHA256 Credential=AKIA/x, Signature=HEADER-SECRET\r\nx-api-key: HEADER-SECRET\r\n"
    b"X-Amz-Security-Token: HEADER-SECRET\r\nanthropic-version: 2023-06-01\r\n\r\n"
    b'{"a": 1}'
)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    logging.getLogger("thinkline").propagate = True
    return caplog


def test_credentials_are_masked(log: pytest.LogCaptureFixture) -> None:
    wire = WireLog("one", REQUEST)
    wire.take(b"half ")
    wire.take(b"and half")
    wire.end(200, {"content-type": "text/plain", "set-cookie": "HEADER-SECRET"})
    wire.end(0, {})
    sent, back = (vars(each) for each in log.records)
    assert sent["facts"]["url"] == "api.example.com/v1/x?key=***&alt=sse&x-goog-signature=***"
    assert sent["facts"]["headers"]["anthropic-version"] == "2023-06-01"
    assert sent["payload"] == b'{"a": 1}'
    assert (back["facts"]["status"], back["facts"]["bytes"], back["payload"]) == (200, 13, b"half and half")
    assert "SECRET" not in f"{sent['facts']} {back['facts']}"


def test_what_is_kept_is_bounded(log: pytest.LogCaptureFixture) -> None:
    wire = WireLog("one", REQUEST)
    for _ in range(50):
        wire.take(b"x" * 65_536)
    wire.end(200, {})
    back = vars(log.records[-1])
    assert len(back["payload"]) == KEPT_BYTES
    assert back["facts"]["bytes"] == 50 * 65_536
