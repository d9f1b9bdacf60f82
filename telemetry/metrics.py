"""Metrics for Prometheus: counted by a sink of records, and gauges that are sampled.

Operators choose the labels' values, never callers: a model that is neither configured nor listed is `other`.
Names follow https://prometheus.io/docs/practices/naming/.
"""

import threading
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path
from time import sleep
from typing import Any, Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from telemetry.metric_files import block_merging, prepare_files
from telemetry.records import RequestRecord

log = getLogger("thinkline.metrics")

SAMPLE_SECONDS = 1.0
"""How old the gauges of other workers may be."""
NONE = "none"
"""The label's value if no model was named, or no provider was asked."""
STATES: Mapping[str, int] = {"closed": 0, "half-open": 1, "open": 2}

# Voice agents are judged between 0.2 and 2 seconds, so most of the buckets lie there.
SECONDS = (0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 5, 10, 15, 30, 60)
TOKEN_SECONDS = (0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5)
OVERHEAD_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 1)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's definition. `over` says how the workers' values of a gauge are combined."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    over: Literal["livesum", "livemax"] = "livesum"


MODEL = ("model", "provider")
# fmt: off
METRICS = (
    Metric("counter", "thinkline_requests_total",
        "Requests that have ended, those that were refused among them.", ("endpoint", *MODEL, "outcome", "status")),
    Metric("histogram", "thinkline_request_duration_seconds",
        "Seconds from a request to the end of its answer.", ("endpoint", *MODEL), SECONDS),
    Metric("histogram", "thinkline_time_to_first_token_seconds",
        "Seconds from a request to the first token of a streamed answer.", MODEL, SECONDS),
    Metric("histogram", "thinkline_time_per_output_token_seconds",
        "Seconds for each token of a streamed answer after its first.", MODEL, TOKEN_SECONDS),
    Metric("histogram", "thinkline_overhead_seconds",
        "Thinkline's own share of the seconds until the first token.", ("endpoint",), OVERHEAD_SECONDS),
    Metric("gauge", "thinkline_requests_in_flight", "Requests that are being answered."),
    Metric("gauge", "thinkline_sockets_open", "WebSockets that are open, at rest or with a turn under way."),
    Metric("counter", "thinkline_tokens_total",
        "Tokens, as providers count them; `kind` is prompt or completion.", (*MODEL, "kind")),
    Metric("counter", "thinkline_cost_total",
        "What answers have cost, in the currency of the prices.", MODEL),
    Metric("counter", "thinkline_retries_total", "Repeated attempts at a target.", ("target",)),
    Metric("counter", "thinkline_fallbacks_total",
        "Targets that were given up for another one; `target` is the one given up.", ("target",)),
    Metric("counter", "thinkline_hedges_total", "Requests that asked two targets at the same time.", ("model",)),
    Metric("counter", "thinkline_fillers_total", "Answers that began with a filler.", ("model",)),
    Metric("counter", "thinkline_hang_ups_total", "Answers whose callers left before the end.", ("model",)),
    Metric("gauge", "thinkline_breaker_state",
        "A target's breaker: 0 closed, 1 half-open, 2 open; of several workers the worst.", ("target",),
        over="livemax"),
    Metric("counter", "thinkline_breaker_changes_total",
        "How often a target's breaker has opened or closed, in any worker.", ("target", "state")),
    Metric("counter", "thinkline_limits_hit_total",
        "Requests refused because of a limit: requests, tokens, concurrent, budget, model (its rpm).",
        ("key", "limit")),
    Metric("counter", "thinkline_limit_store_failures_total",
        "Requests whose limits could not be counted, as the store was out of reach."),
    Metric("gauge", "thinkline_ledger_queue_records", "Records that the table of usage does not have yet."),
    Metric("counter", "thinkline_ledger_records_lost_total", "Records that the table of usage will never have."),
)
# fmt: on
BUCKETS = {each.name: each.buckets for each in METRICS}


class KnownNames(Protocol):
    """Maps names to values of labels."""

    def model(self, name: str, target: str) -> str:
        """The public name of the model that the caller named `name` and `target` answered; "" if none was named."""

    def target(self, name: str) -> str:
        """The target's name; for an unknown one, one name per provider."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """Functions that are sampled when metrics are read and, with several workers, each second."""

    in_flight: Callable[[], int]
    breakers: Callable[[], Mapping[str, str]]
    limit_failures: Callable[[], int]
    ledger_queue: Callable[[], int] = lambda: 0
    ledger_lost: Callable[[], int] = lambda: 0
    sockets: Callable[[], int] = lambda: 0


@dataclass(slots=True)
class _Observed:
    """Values of a histogram that are not in the package's yet. A bucket counts the values up to its bound."""

    bounds: tuple[float, ...]
    sum: float = 0.0
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)


class Metrics:
    """The metrics of one worker. With a `folder`, which all workers share, each worker reports the metrics of all. To
    be made after the fork.

    Requests are counted in memory, which takes a fifth of the time of the package's files; each second `flush` adds the
    counts there.
    """

    def __init__(self, names: KnownNames, sampled: Sampled, folder: str = "") -> None:
        folder = folder if folder and prepare_files(Path(folder)) else ""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        # The package decides this by an environment variable at its first import, which may be before the fork.
        values.ValueClass = values.MultiProcessValue() if folder else values.MutexValue  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._folder = folder
        self._names = names
        self._sampled = sampled
        self._metrics: dict[str, Any] = {each.name: self._create(each) for each in METRICS}
        self._children: dict[tuple[str, ...], Any] = {}
        self._open: set[str] = set()
        self._counted: dict[str, int] = {}
        self._added: dict[tuple[str, ...], float] = {}
        self._observed: dict[tuple[str, ...], _Observed] = {}
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        if folder:
            threading.Thread(target=self._keep_sampling, name="metrics", daemon=True).start()

    def _create(self, metric: Metric) -> Counter | Gauge | Histogram:
        if metric.kind == "histogram":
            return Histogram(metric.name, metric.about, metric.labels, buckets=metric.buckets, registry=self._registry)
        if metric.kind == "gauge":
            return Gauge(
                metric.name, metric.about, metric.labels, multiprocess_mode=metric.over, registry=self._registry
            )
        return Counter(metric.name, metric.about, metric.labels, registry=self._registry)

    def _child(self, *name_and_labels: str) -> Any:
        """A metric's child, cached here: the package looks it up under a lock."""
        child = self._children.get(name_and_labels)
        if child is None:
            name, *labels = name_and_labels
            metric = self._metrics[name]
            child = self._children[name_and_labels] = metric.labels(*labels) if labels else metric
        return child

    def record(self, record: RequestRecord) -> None:
        """Count a request that has ended; a sink of records."""
        endpoint, provider = record.endpoint or NONE, record.provider or NONE
        model = self._names.model(record.model, record.target) or NONE
        status = str(record.status)
        with self._lock:
            self._add(1, "thinkline_requests_total", endpoint, model, provider, record.outcome, status)
            if record.limit:
                self._add(1, "thinkline_limits_hit_total", record.caller or NONE, record.limit)
            if record.target:
                self._observe(record.duration, "thinkline_request_duration_seconds", endpoint, model, provider)
                if record.overhead is not None:
                    self._observe(record.overhead, "thinkline_overhead_seconds", endpoint)
                if record.cost:
                    self._add(record.cost, "thinkline_cost_total", model, provider)
                self._count_tokens(record, model, provider)
                self._count_events(record, model)

    def _add(self, amount: float, *name_and_labels: str) -> None:
        self._added[name_and_labels] = self._added.get(name_and_labels, 0) + amount

    def _observe(self, seconds: float, *name_and_labels: str) -> None:
        observed = self._observed.get(name_and_labels)
        if observed is None:
            observed = self._observed[name_and_labels] = _Observed(BUCKETS[name_and_labels[0]])
        observed.counts[bisect_left(observed.bounds, seconds)] += 1
        observed.sum += seconds

    def flush(self) -> None:
        """Add the counts to the package's metrics, which all workers read."""
        with self._flushing:
            with self._lock:
                added, self._added = self._added, {}
                observed, self._observed = self._observed, {}
            for key, amount in added.items():
                self._child(*key).inc(amount)
            for key, each in observed.items():
                histogram = self._child(*key)
                for place, count in enumerate(each.counts):
                    if count:
                        histogram._buckets[place].inc(count)  # noqa: SLF001 - the package has no way to add several
                histogram._sum.inc(each.sum)  # noqa: SLF001

    def _count_tokens(self, record: RequestRecord, model: str, provider: str) -> None:
        usage = record.counted_usage
        if record.stream and record.ttft is not None:
            self._observe(record.ttft, "thinkline_time_to_first_token_seconds", model, provider)
            if usage is not None and usage.completion > 1 and record.outcome == "done":
                seconds = max(0.0, record.duration - record.ttft) / (usage.completion - 1)
                self._observe(seconds, "thinkline_time_per_output_token_seconds", model, provider)
        if usage is not None:
            # Upstreams send -1 for unknown counts, and a counter must not fall.
            self._add(max(0, usage.prompt), "thinkline_tokens_total", model, provider, "prompt")
            self._add(max(0, usage.completion), "thinkline_tokens_total", model, provider, "completion")

    def _count_events(self, record: RequestRecord, model: str) -> None:
        if len(record.attempts) > 1:
            for target, count in Counts(attempt.target for attempt in record.attempts).items():
                if count > 1:
                    self._add(count - 1, "thinkline_retries_total", self._names.target(target))
        for target in record.tried:
            if target != record.target:
                self._add(1, "thinkline_fallbacks_total", self._names.target(target))
        if record.hedged:
            self._add(1, "thinkline_hedges_total", model)
        if record.filler:
            self._add(1, "thinkline_fillers_total", model)
        if record.outcome == "hung_up":
            self._add(1, "thinkline_hang_ups_total", model)

    def breaker_changed(self, target: str, state: str) -> None:
        """Count a breaker that has opened or closed."""
        label = self._names.target(target)
        with self._lock:
            self._add(1, "thinkline_breaker_changes_total", label, state)

    def render(self, accept: str) -> tuple[bytes, str]:
        """All metrics in the format that an Accept header asks for, and its content type."""
        self.sample()
        encode, content_type = choose_encoder(accept)
        if not self._folder:
            return encode(self._registry), content_type
        registry = CollectorRegistry()
        MultiProcessCollector(registry, self._folder)  # type: ignore[no-untyped-call]
        with block_merging(Path(self._folder)):
            return encode(registry), content_type

    def sample(self) -> None:
        """Read the sampled values."""
        self.flush()
        with self._flushing:
            self._child("thinkline_requests_in_flight").set(self._sampled.in_flight())
            self._child("thinkline_ledger_queue_records").set(self._sampled.ledger_queue())
            self._child("thinkline_sockets_open").set(self._sampled.sockets())
            self._raise_to("thinkline_limit_store_failures_total", self._sampled.limit_failures())
            self._raise_to("thinkline_ledger_records_lost_total", self._sampled.ledger_lost())
            self._sample_breakers()

    def _raise_to(self, name: str, count: int) -> None:
        self._child(name).inc(count - self._counted.get(name, 0))
        self._counted[name] = count

    def _sample_breakers(self) -> None:
        states = dict.fromkeys(self._open, 0)
        for name, state in self._sampled.breakers().items():
            target = self._names.target(name)
            states[target] = max(states.get(target, 0), STATES[state])
        for target, level in states.items():
            self._child("thinkline_breaker_state", target).set(level)
        self._open = {target for target, level in states.items() if level}

    def _keep_sampling(self) -> None:
        while True:
            try:
                self.sample()
            except Exception:  # any fault: the thread must go on sampling
                log.exception("the gauges cannot be sampled")
            sleep(SAMPLE_SECONDS)
