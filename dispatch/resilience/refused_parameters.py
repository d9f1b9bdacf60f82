"""Parameters that a model refuses, learned from its refusals: a call is not lost over how warm its answer should be.

A request that is refused before its first word, for a parameter of tuning (providers/transport/refusals.py), is asked
again without it, and for a while that model is not sent it. A cap on the answer goes under its other name first. A
value out of range is the caller's to mend: that is asked once.
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

OTHER_CAP = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
UNASKED = frozenset({"stream_options"})
"""Parameters that are sent although the caller has not named them."""
WORDS = frozenset({"reasoning_effort", "verbosity", "service_tier"})
"""Parameters of which one word may be refused and another not."""
MODELS = 1000
"""So many models' refusals are remembered: callers can make up names."""

RefusedParameter = frozenset[tuple[str, str | None]]
"""Parameters, each with the one word that was refused as its value, or None for any."""


@dataclass(slots=True)
class RefusedParameters:
    """What each model refuses, for `seconds` after it said so; 0 learns nothing. Safe for all threads."""

    seconds: float
    clock: Callable[[], float] = monotonic
    _known: dict[str, dict[tuple[str, str | None], float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def chat(self, request: ChatRequest, target: Target, call: CallContext) -> Events:
        """Ask the target, without what it is known to refuse. Raises as Provider.chat does."""
        refused = self._of(target.name) if self._known else frozenset()
        while True:
            asked, at = (without(request, refused), _told(target, refused)) if refused else (request, target)
            events, spoken = at.provider.chat(asked, at, call), False
            try:
                for event in events:
                    yield event
                    if spoken := not isinstance(event, AnswerStart):
                        break
                yield from events
                return
            except UpstreamRejected as error:
                # Of a request that goes there as it came, nothing can be left out.
                learns = self.seconds and not spoken and not at.provider.passes(asked, at)
                more = _more(error.refused, asked, at, refused) if learns else frozenset()
                if not more:
                    raise
                self._learn(target.name, more)
                refused = refused | more
            finally:
                events.close()

    def _of(self, name: str) -> RefusedParameter:
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
    """The request without these parameters; a cap under its other name, unless that is refused too."""
    given = request.body
    left_out = {name for name, word in refused if name in given and (word is None or given[name] == word)}
    if not left_out:
        return request
    body = {key: value for key, value in given.items() if key not in left_out}
    for name in left_out & OTHER_CAP.keys():
        if (OTHER_CAP[name], None) not in refused:
            body.setdefault(OTHER_CAP[name], given[name])
    return replace(request, body=body)


def _told(target: Target, refused: RefusedParameter) -> Target:
    """The target, knowing what it refuses: its own rules do not add that again."""
    names = frozenset(name for name, word in refused if word is None)
    return replace(target, refused=names, rules=replace(target.rules, delete=(*target.rules.delete, *sorted(names))))


def _more(names: tuple[str, ...], asked: ChatRequest, target: Target, refused: RefusedParameter) -> RefusedParameter:
    """What is to be left out besides, of what was asked; nothing where that would change nothing."""
    sent = asked.body.keys() | target.rules.add.keys() | target.rules.update.keys() | UNASKED
    more: set[tuple[str, str | None]] = set()
    for name in names:
        if name in OTHER_CAP and asked.max_tokens is not None:
            # A cap may have gone out under another name than the caller's.
            again = (name, None) in refused
            more |= {(each, None) for each in (OTHER_CAP.keys() & asked.body.keys() if again else {name})}
        elif name in sent:
            value = asked.body.get(name)
            more.add((name, value if name in WORDS and isinstance(value, str) else None))
    return frozenset(more) - refused
