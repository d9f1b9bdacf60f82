"""The record of a request that has ended, and the sinks that read it."""

from collections.abc import Callable, Iterable, Mapping
from logging import INFO, WARNING, getLogger
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from core.attempts import Attempt
from core.events import Usage
from core.trace_context import TraceContext

log = getLogger("thinkline.records")
request_log = getLogger("thinkline.request")
refusal_log = getLogger("thinkline.errors")

CALL_CHARACTERS = 200
"""Characters of a conversation's id, which callers choose."""

RequestOutcome = Literal["done", "hung_up", "failed", "refused"]


NOTHING: Mapping[str, Any] = MappingProxyType({})


class RequestRecord(NamedTuple):
    """One request, as it ended. `started` is Unix time; other times are seconds since then. A named tuple is made in a
    quarter of a frozen dataclass's time.

    caller        name of its key, "" without keys or for an unknown one
    endpoint      name of the view: "chat", "embeddings"; "" where no view was reached
    model         as the caller named it, "" where none was named or the body was not read
    stream        None where the endpoint has no such choice
    outcome       "refused" before a target was asked; "failed" also for a fault of our own
    provider, target    those that answered, or failed last; "" if none was asked
    ttft          seconds to the first event, None without one
    overhead      our own share of `ttft`
    attempts      each time that a target was asked, in the order of asking
    tried         the last failure of each target that failed, by its name
    hedged        whether two targets were asked at the same time
    filler        the filler that was sent, "" for none
    sender        its address: the peer's, or the one that a trusted proxy names
    forwarded_for its header X-Forwarded-For, which the caller may have forged
    conversation  the caller's id of the conversation or the phone call, "" without one
    said          the upstream's own words for a failure: for logs, never for callers
    trace         its trace, None without a tracer
    limit         the limit that refused it, "" for none
    details       the number of inputs, documents or images
    usage         tokens of the answer; an estimate if the upstream has not counted them
    cost          of all attempts with known prices, in the prices' currency, None if no price is known
    unpriced      whether a price is missing in `cost`
    headers       seconds to the head of our answer, None if it was not streamed
    filler_at, hung_up_at, heartbeats   seconds to each of these
    tokens_saved  an estimate of the tokens that a hang-up has saved, None if it is not known
    """

    request_id: str
    started: float
    duration: float
    method: str = ""
    path: str = ""
    sender: str = ""
    forwarded_for: str = ""
    caller: str = ""
    endpoint: str = ""
    model: str = ""
    stream: bool | None = None
    conversation: str = ""
    details: Mapping[str, int] = NOTHING
    status: int = 200
    outcome: RequestOutcome = "done"
    code: str | None = None
    param: str | None = None
    error: str = ""
    said: str = ""
    limit: str = ""
    provider: str = ""
    target: str = ""
    attempts: tuple[Attempt, ...] = ()
    tried: Mapping[str, str] = NOTHING
    hedged: bool = False
    filler: str = ""
    ttft: float | None = None
    overhead: float | None = None
    usage: Usage | None = None
    cost: float | None = None
    trace: TraceContext | None = None
    unpriced: bool = False
    headers: float | None = None
    filler_at: float | None = None
    hung_up_at: float | None = None
    heartbeats: tuple[float, ...] = ()
    tokens_saved: int | None = None

    @property
    def counted_usage(self) -> Usage | None:
        """The usage if the upstream has counted it, else None."""
        return None if self.usage is None or self.usage.estimated else self.usage

    @property
    def fallbacks(self) -> int:
        """How many targets were given up for another one."""
        return len(self.tried.keys() - {self.target})


Sink = Callable[[RequestRecord], None]


class Recorder:
    """Hands each record to all sinks. A sink that raises is logged, and affects neither the request nor other sinks."""

    def __init__(self, sinks: Iterable[Sink] = ()) -> None:
        self._sinks = tuple(sinks)

    def also(self, *sinks: Sink) -> "Recorder":
        """Return a Recorder that hands each record to these sinks too."""
        return Recorder((*self._sinks, *sinks))

    def __call__(self, record: RequestRecord) -> None:
        """Hand a record to all sinks."""
        for sink in self._sinks:
            try:
                sink(record)
            except Exception:  # any fault of a sink: the caller has the answer already
                log.exception("a record was lost")


def log_request(record: RequestRecord) -> None:
    """Write the log line; a sink. A request that asked no target is logged if it was refused."""
    if record.target:
        level = WARNING if record.outcome == "failed" else INFO
        if request_log.isEnabledFor(level):
            request_log.log(level, "request", extra={"facts": _request_facts(record)})
    elif record.outcome in ("refused", "failed"):
        refusal_log.info("refused", extra={"facts": _refusal_facts(record)})


def _request_facts(record: RequestRecord) -> dict[str, Any]:
    facts: dict[str, Any] = {"caller": record.caller} if record.caller else {}
    facts |= _origin_facts(record)
    facts |= {"path": record.endpoint, "model": record.model}
    if record.stream is not None:
        facts["stream"] = record.stream
    facts |= {
        **record.details,
        "provider": record.provider,
        "target": record.target,
        "status": record.status,
        "outcome": record.outcome,
        "attempts": len(record.attempts),
        "duration_ms": round(record.duration * 1000, 1),
    }
    if record.hedged:
        facts["hedged"] = True
    if record.tried:
        facts["tried"] = "; ".join(f"{target}: {failure}" for target, failure in record.tried.items())
    if record.ttft is not None:
        facts["ttft_ms"] = round(record.ttft * 1000, 1)
    if record.counted_usage is not None:
        facts |= {"prompt_tokens": record.counted_usage.prompt, "completion_tokens": record.counted_usage.completion}
    if record.cost is not None:
        facts["cost"] = round(record.cost, 6)
    if record.error:
        facts |= {"code": record.code, "error": record.error, "said": record.said}
    return facts


def _refusal_facts(record: RequestRecord) -> dict[str, Any]:
    facts = {"status": record.status, "code": record.code, "param": record.param, "error": record.error}
    facts |= {"method": record.method, "path": record.path, **_origin_facts(record)}
    return {**facts, "forwarded_for": record.forwarded_for} if record.forwarded_for else facts


def _origin_facts(record: RequestRecord) -> dict[str, str]:
    """The facts by which the lines of a phone call, or of a sender, are found."""
    facts = {"call": record.conversation[:CALL_CHARACTERS]} if record.conversation else {}
    return {**facts, "from": record.sender} if record.sender else facts
