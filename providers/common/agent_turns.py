"""One turn with an agent that keeps sessions: in the conversation's own, or in a new one that is told the history."""

from collections.abc import Callable
from logging import getLogger

from core.errors import UpstreamDown, UpstreamRejected
from core.events import Events
from providers.common.agent_sessions import Session, SessionLease

log = getLogger("thinkline.providers")

CAUTION = 0.9
"""The part of an agent's idle time in which a session is taken for alive. Past that a turn brings the history to a new
session: too early costs little, too late would make the agent forget.
"""


YES = frozenset({"approve", "approved", "confirm", "confirmed", "yes", "true", "ok", "okay"})


def is_yes(result: str) -> bool:
    """Whether a tool's result says yes to a question for confirmation: only a plain yes counts."""
    return result.strip().strip(".!").lower() in YES


class SessionLost(UpstreamRejected):
    """The session is `busy` with another turn (to be retried), or the agent does not have it any more."""

    def __init__(self, provider: str, said: str, *, busy: bool) -> None:
        super().__init__(
            "The agent is busy with another turn of this session.",
            upstream_status=409,
            provider=provider,
            param="session_id",
            code="session_busy",
            log=said,
        )
        self.retryable = busy


def answer_in_session(
    lease: SessionLease, first: Callable[[], Events], again: Callable[[Session], Events], *, has_history: bool
) -> Events:
    """The answer of `first`; where its session is lost, that of `again` in a new one. `has_history`: the request says
    what was said before.
    """
    with lease:
        try:
            yield from first()
        except SessionLost as error:
            if error.retryable and not has_history and not lease.is_replaceable():
                raise
            log.info("a new session for the turn", extra={"facts": {"provider": error.provider, "said": error.log}})
            yield from again(lease.fresh())


def no_answer(name: str, what: str) -> UpstreamDown:
    """The exception for an answer of another shape, or none. It is not retried: the agent has acted."""
    error = UpstreamDown(f"{name} ended without an answer.", provider=name, upstream_status=200, log=what)
    error.retryable = False
    return error
