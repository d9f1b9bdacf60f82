"""Divides the seconds until the first event into our share and the upstream's, for `Server-Timing` and the record."""

from time import monotonic

from core.attempts import own_share
from core.context import CallContext
from dispatch.relay import AnswerStream


def own_seconds(answer: AnswerStream, loading: float) -> float | None:
    """Our share of the seconds from the request's last byte to the first event; None without a first event. `loading`
    are the seconds before the call began.
    """
    if answer.first_event is None:
        return None
    share = own_share(answer.attempts, answer.first_event)
    return None if share is None else loading + share


def server_timing(own: float | None, answer: AnswerStream, call: CallContext, loading: float) -> str:
    """The header's value: our share, and the upstream's once there is a first event.
    https://www.w3.org/TR/server-timing/
    """
    if own is None or answer.first_event is None:
        return f"thinkline;dur={(loading + monotonic() - call.started) * 1000:.1f}"
    upstream = max(0.0, loading + answer.first_event - own)
    return f"thinkline;dur={own * 1000:.1f}, upstream;dur={upstream * 1000:.1f}"
