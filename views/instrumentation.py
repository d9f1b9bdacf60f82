"""Adds metrics and traces to the services."""

from dataclasses import replace
from functools import partial

from access.limits import RateLimiter
from dispatch.routing.known_names import KnownNames
from telemetry.metrics import Metrics, Sampled
from views.services import Services, Tracer

TRACES_SECONDS = 2.0
"""How long a process that ends waits until its last traces are sent."""


def with_metrics(services: Services, folder: str, key: str) -> Services:
    """Return the services with metrics. `folder` has the files that all workers share, "" for a single process. `key`
    is that of /metrics.
    """
    breakers = services.relay.breakers
    limiters = [check for check in services.checks if isinstance(check, RateLimiter)]
    metrics = Metrics(
        KnownNames(services.catalogue, services.models),
        Sampled(
            in_flight=lambda: services.admission.running,
            breakers=breakers.all_states,
            limit_failures=lambda: sum(limiter.failures for limiter in limiters),
            ledger_queue=lambda: services.ledger.waiting if services.ledger is not None else 0,
            ledger_lost=lambda: services.ledger.lost if services.ledger is not None else 0,
            sockets=lambda: services.sockets.count,
        ),
        folder,
    )
    breakers.listeners.append(metrics.breaker_changed)
    return replace(
        services,
        record=services.record.also(metrics.record),
        metrics=metrics,
        metrics_key=key,
        at_end=(*services.at_end, metrics.flush),
    )


def with_traces(services: Services, tracer: Tracer | None) -> Services:
    """Return the services with a tracer, if there is one."""
    if tracer is None:
        return services
    close = partial(tracer.close, TRACES_SECONDS)
    return replace(
        services, record=services.record.also(tracer.record), tracer=tracer, at_end=(*services.at_end, close)
    )
