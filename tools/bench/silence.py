"""Measures for how long a caller hears nothing when a target fails, how soon a hang-up frees the upstream, and what
hedging costs.

    python -m tools.bench.silence [--runs 20] [--calls 400]

One worker over loopback, emulated upstreams in this process. Times run from the request to the caller's first word.
"""

import argparse
import json
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults
from tests.emulators.lines import Line, lines, providers_of
from tests.support.callers import LONG, PHASES, WORDS, Caller
from tests.support.frames import chat_body

DEADLINE_MS, HEDGE_MS = 300, 150
SLOW_SHARE, SLOW_SECONDS, FAST_SECONDS = 0.05, 3.0, 0.05
CALLERS = 8

FAILURES: Mapping[str, dict[str, Any]] = {
    "stalls": {"texts": WORDS, "first_delay": LONG},
    "resets": {"fault": faults.reset_before_headers},
    "answers HTML": {"fault": faults.html},
}


def time_to_first_word(port: int, body: Mapping[str, Any]) -> float:
    """Milliseconds until the first content of a stream. The stream is read to its end."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    started = time.monotonic()
    connection.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": True}))
    response = connection.getresponse()
    received, first = b"", 0.0
    while data := response.read1(65536):
        received += data
        if not first and received.replace(b'"content":""', b"").find(b'"content":"') >= 0:
            first = time.monotonic() - started
    connection.close()
    assert response.status == 200, received
    assert first, received
    return first * 1000


def median_and_worst(times: list[float]) -> str:
    """Median and worst."""
    return f"{statistics.median(times):.0f} | {max(times):.0f}"


def measure_fallbacks(port: int, lines_by_kind: Mapping[str, Line], runs: int) -> None:
    """Measure the time to the second target's first word, by kind of upstream and by how the first target fails."""
    print(f"| first target (deadline {DEADLINE_MS} ms) | does | median ms | worst ms |\n|---|---|---|---|")
    for name, line in lines_by_kind.items():
        for failure, answer in FAILURES.items():
            line.upstream.always(line.answer(**answer))
            times = [time_to_first_word(port, chat_body(model=f"safe:{name}")) for _ in range(runs)]
            line.upstream.always(line.answer())
            print(f"| {name} | {failure} | {median_and_worst(times)} |", flush=True)


def measure_hangups(port: int, lines_by_kind: Mapping[str, Line], runs: int) -> None:
    """Measure the time from a caller's hang-up until the upstream sees it, by kind of upstream and by phase."""
    print(f"\n| a caller leaves: worst of {runs}, ms | {' | '.join(PHASES)} |\n|---|{'---|' * len(PHASES)}")
    for name, line in lines_by_kind.items():
        cells = []
        for answer, stream, awaited in PHASES.values():
            worst = 0.0
            for _ in range(runs):
                count = len(line.upstream.received) + line.opens
                line.upstream.enqueue(line.answer(**answer))
                caller = Caller(port, chat_body(provider=line.provider, model=line.model, stream=stream))
                until(lambda line=line, count=count: len(line.upstream.received) > count, "the request to arrive")
                caller.hears(awaited)
                time.sleep(0.02)  # let the phase begin: only the hang-up is measured
                hung_up_at = time.monotonic()
                caller.leaves()
                worst = max(worst, (line.upstream.received[count].wait_closed(10) - hung_up_at) * 1000)
            cells.append(f"{worst:.1f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def measure_hedging(port: int, one: OpenAIUpstream, two: OpenAIUpstream, calls: int) -> None:
    """Measure a mix in which one of twenty answers takes three seconds, with hedging and without."""
    print(f"\n| {SLOW_SHARE:.0%} take {SLOW_SECONDS:g} s | p50 ms | p99 ms | extra calls |\n|---|---|---|---|")
    rng = random.Random(1)
    for model in ("plain", "hedged"):
        delays = [SLOW_SECONDS if rng.random() < SLOW_SHARE else FAST_SECONDS for _ in range(calls)]
        one.enqueue(*(ScriptedAnswer(first_delay=delay) for delay in delays))
        two.always(ScriptedAnswer(first_delay=FAST_SECONDS))
        requests_before = len(two.received)
        with ThreadPoolExecutor(CALLERS) as pool:
            times = list(pool.map(lambda m: time_to_first_word(port, chat_body(model=m)), [model] * calls))
        percentiles = statistics.quantiles(times, n=100)
        extra = (len(two.received) - requests_before) / calls
        print(f"| {model} | {percentiles[49]:.0f} | {percentiles[98]:.0f} | {extra:.1%} |", flush=True)


def measure_refusals(port: int, one: OpenAIUpstream, limit: int, runs: int) -> None:
    """Measure how soon a request over the limit is refused."""
    one.always(ScriptedAnswer(first_delay=LONG))
    held = [threading.Thread(target=_hold_stream, args=(port,), daemon=True) for _ in range(limit)]
    for thread in held:
        thread.start()
    count = len(one.received)
    while len(one.received) < count + limit and one.open_connections() < limit:
        time.sleep(0.01)
    times = [_measure_ms(lambda: _send_one_too_many(port)) for _ in range(runs)]
    print(f"\n| one too many, {limit} under way | median ms | worst ms |\n|---|---|---|")
    print(f"| 503 | {statistics.median(times):.1f} | {max(times):.1f} |")


def _measure_ms(action: Callable[[], None]) -> float:
    started = time.monotonic()
    action()
    return (time.monotonic() - started) * 1000


def _hold_stream(port: int) -> None:
    try:
        time_to_first_word(port, chat_body(model="plain"))
    except (OSError, AssertionError):
        pass  # the bench is over


def _send_one_too_many(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/v1/chat/completions", json.dumps(chat_body(model="plain")))
    response = connection.getresponse()
    response.read()
    assert response.status == 503, response.status


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--calls", type=int, default=400)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lines_by_kind, settings = stack.enter_context(lines())
        one, two = stack.enter_context(OpenAIUpstream()), stack.enter_context(OpenAIUpstream())
        providers = {
            name: {"base_url": each.base_url, "api_key": each.key} for name, each in (("one", one), ("two", two))
        }
        models: list[dict[str, Any]] = [
            {"name": f"safe:{name}", "provider": line.provider, "model": line.model, "fallbacks": ["second"]}
            | {"ttft_timeout_ms": DEADLINE_MS}
            for name, line in lines_by_kind.items()
        ]
        models += [
            {"name": "second", "provider": "two"},
            {"name": "plain", "provider": "one"},
            {"name": "hedged", "provider": "one", "hedge_after_ms": HEDGE_MS, "fallbacks": ["second"]},
        ]
        file = folder / "models.yaml"
        file.write_text(yaml.safe_dump({"providers": {**providers_of(settings), **providers}, "models": models}))
        app = stack.enter_context(
            served(
                folder / "log",
                **{**settings, "MODELS_FILE": file},
                DATA_DIR=folder,
                BREAKER_FAILURES=10**6,
                MAX_IN_FLIGHT=32,
                THREADS=64,
            )
        )
        measure_fallbacks(app.port, lines_by_kind, arguments.runs)
        measure_hangups(app.port, lines_by_kind, arguments.runs)
        measure_hedging(app.port, one, two, arguments.calls)
        measure_refusals(app.port, one, 32, arguments.runs)


if __name__ == "__main__":
    main()
