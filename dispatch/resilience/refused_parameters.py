"""Parameters that a model refuses, learned from its refusals: no call fails for a sampling parameter.

If an upstream refuses a request before the first event because of a tuning parameter (providers/transport/refusals.py),
the request is sent again without it, and for a while the parameter is not sent to that model. A limit on the answer's
tokens is first sent under its other name. A value out of range is the caller's mistake: that request is not repeated.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from logging import getLogger
from time import monotonic

from core.context import CallContext
from core.errors import UpstreamRejected
from core.events import AnswerStart, Events
from core.requests import ChatRequest
from providers.base import Target

log = getLogger("thinkline.relay")

OTHER_TOKEN_LIMIT = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
ADDED_BY_US = frozenset({"stream_options"})
"""Parameters that are sent although the request does not have them."""
WORDS = frozenset({"reasoning_effort", "verbosity", "service_tier"})
"""Parameters of which one value may be refused and another accepted."""
MODELS = 1000
"""The most models whose refusals are kept: callers can invent names."""

RefusedParameter = frozenset[tuple[str, str | None]]
"""Parameters, each with the one word that was refused as its value, or None for any."""


@dataclass(slots=True)
class RefusedParameters:
    """The parameters that each model refuses, each kept for `seconds`; 0 keeps none. Safe for all threads."""

    seconds: float
    clock: Callable[[], float] = monotonic
    _known: dict[str, dict[tuple[str, str | None], float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """Send the request without the parameters that the target refuses. Raises as Provider.chat does."""
        refused = self._get(target.name) if self._known else frozenset()
        while True:
            sent, to = (without(request, refused), _without_refused(target, refused)) if refused else (request, target)
            events, began = to.provider.chat(sent, to, call), False
            try:
                for event in events:
                    yield event
                    if began := not isinstance(event, AnswerStart):
                        break
                yield from events
                return
            except UpstreamRejected as error:
                # A request whose bytes pass unchanged cannot lose a parameter.
                learns = self.seconds and not began and not to.provider.passes(sent, to)
                more = _find_more(error.refused, sent, to, refused) if learns else frozenset()
                if not more:
                    raise
                self._learn(target.name, more)
                refused = refused | more
            finally:
                events.close()

    def _get(self, name: str) -> RefusedParameter:
        now = self.clock()
        with self._lock:
            return frozenset(each for each, until in self._known.get(name, {}).items() if until > now)

    def _learn(self, name: str, more: RefusedParameter) -> None:
        now = self.clock()
        with self._lock:
            known = self._known.setdefault(name, {})
            news = sorted({parameter for parameter, word in more if known.get((parameter, word), 0.0) <= now})
            known.update(dict.fromkeys(more, now + self.seconds))
            while len(self._known) > MODELS:
                del self._known[next(iter(self._known))]
        if news:
            facts = {"target": name, "parameters": news, "seconds": self.seconds}
            log.warning("parameters are refused, and left out from now on", extra={"facts": facts})


def without(request: ChatRequest, refused: RefusedParameter) -> ChatRequest:
    """The request without these parameters; a token limit goes under its other name, unless that is refused too."""
    given = request.body
    left_out = {name for name, word in refused if name in given and (word is None or given[name] == word)}
    if not left_out:
        return request
    body = {key: value for key, value in given.items() if key not in left_out}
    for name in left_out & OTHER_TOKEN_LIMIT.keys():
        if (OTHER_TOKEN_LIMIT[name], None) not in refused:
            body.setdefault(OTHER_TOKEN_LIMIT[name], given[name])
    return replace(request, body=body)


def _without_refused(target: Target, refused: RefusedParameter) -> Target:
    """The target with these parameters marked as refused, so that its own rules do not add them again."""
    names = frozenset(name for name, word in refused if word is None)
    return replace(target, refused=names, rules=replace(target.rules, delete=(*target.rules.delete, *sorted(names))))


def _find_more(
    names: tuple[str, ...], request: ChatRequest, target: Target, refused: RefusedParameter
) -> RefusedParameter:
    """The refused parameters to leave out of the next attempt; none if the request would not change."""
    sent = request.body.keys() | target.rules.add.keys() | target.rules.update.keys() | ADDED_BY_US
    more: set[tuple[str, str | None]] = set()
    for name in names:
        if name in OTHER_TOKEN_LIMIT and request.max_tokens is not None:
            # A token limit may have gone out under another name than the caller's.
            again = (name, None) in refused
            more |= {(each, None) for each in (OTHER_TOKEN_LIMIT.keys() & request.body.keys() if again else {name})}
        elif name in sent:
            value = request.body.get(name)
            more.add((name, value if name in WORDS and isinstance(value, str) else None))
    return frozenset(more) - refused
