"""W3C's traceparent and tracestate: what is valid is taken, the rest begins a new trace."""

import pytest

from core.trace_context import Parent, TraceContext, new_span_id, new_trace_id, parse_parent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("header", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f" 00-{TRACE}-{SPAN}-01 ", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
    ],
)
def test_a_valid_parent(header: str, sampled: bool) -> None:
    assert parse_parent(header, "a=1") == Parent(TRACE, SPAN, sampled, "a=1")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-zz",
        "x" * 100_000,
    ],
)
def test_no_parent(header: str) -> None:
    assert parse_parent(header) is None


@pytest.mark.parametrize("state", ["a=\r\nx-evil: 1", "ä=1", "a=" + "b" * 513, "a=1\tb=2", "no member", "=1", "a=1=2"])
def test_a_state_that_is_none_is_not_passed_on(state: str) -> None:
    parent = parse_parent(f"00-{TRACE}-{SPAN}-01", state)
    context = TraceContext(trace_id=TRACE, span_id=SPAN, parent=parent)
    assert context.headers(SPAN) == {"traceparent": f"00-{TRACE}-{SPAN}-01"}


def test_a_state_of_several_members_is_passed_on() -> None:
    parent = parse_parent(f"00-{TRACE}-{SPAN}-01", "congo=t61rcWkgMzE , 1-vendor@rojo=00f067,, ")
    assert parent is not None
    assert parent.state == "congo=t61rcWkgMzE,1-vendor@rojo=00f067"


def test_new_ids_are_of_their_length() -> None:
    assert len(new_trace_id()) == 32
    assert len(new_span_id()) == 16
