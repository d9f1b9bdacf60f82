"""One turn with an agent that keeps sessions: in the conversation's session, or in a new one with the history."""

from collections.abc import Callable
from logging import getLogger

from core.errors import UpstreamDown, UpstreamRejected
from core.events import Events
from providers.common.agent_sessions import Session, SessionLease

log = getLogger("thinkline.providers")

CAUTION = 0.9
"""The fraction of an agent's idle time in which a session counts as alive. After it, a turn starts a new session with
the history. That costs little if it is too early; if it were too late, the agent would lose the history.
"""


YES = frozenset({"approve", "approved", "confirm", "confirmed", "yes", "true", "ok", "okay"})


def is_yes(result: str) -> bool:
    """Whether a tool's result says yes to a question for confirmation: only a plain yes counts."""
    return result.strip().strip(".!").lower() in YES


class SessionLost(UpstreamRejected):
    """The session is `busy` with another turn (retryable), or has expired at the agent."""

    def __init__(self, provider: str, detail: str, *, busy: bool) -> None:
        super().__init__(
            "The agent is busy with another turn of this session.",
            upstream_status=409,
            provider=provider,
            param="session_id",
            code="session_busy",
            log=detail,
        )
        self.retryable = busy


def answer_in_session(
    lease: SessionLease, first: Callable[[], Events], again: Callable[[Session], Events], *, has_history: bool
) -> Events:
    """The answer of `first`; if its session is lost, that of `again` in a new one. `has_history`: the request has
    earlier messages.
    """
    with lease:
        try:
            yield from first()
        except SessionLost as error:
            if error.retryable and not has_history and not lease.is_replaceable():
                raise
            log.info("a new session for the turn", extra={"facts": {"provider": error.provider, "message": error.log}})
            yield from again(lease.fresh())


def no_answer(name: str, what: str) -> UpstreamDown:
    """The exception for a missing or invalid answer. It is not retried: the agent may have acted."""
    error = UpstreamDown(f"{name} ended without an answer.", provider=name, upstream_status=200, log=what)
    error.retryable = False
    return error
