"""Measures how long a line is silent when a target is, how soon it is freed, and what hedging costs.

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

SILENCES: Mapping[str, dict[str, Any]] = {
    "stalls": {"texts": WORDS, "first_delay": LONG},
    "resets": {"fault": faults.reset_before_headers},
    "answers HTML": {"fault": faults.html},
}


def first_word(port: int, body: Mapping[str, Any]) -> float:
    """Milliseconds to the first content of a stream, which is then read to its end."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    began = time.monotonic()
    connection.request("POST", "/v1/chat/completions", json.dumps({**body, "stream": True}))
    response = connection.getresponse()
    heard, first = b"", 0.0
    while data := response.read1(65536):
        heard += data
        if not first and heard.replace(b'"content":""', b"").find(b'"content":"') >= 0:
            first = time.monotonic() - began
    connection.close()
    assert response.status == 200, heard
    assert first, heard
    return first * 1000


def spread(times: list[float]) -> str:
    """Median and worst."""
    return f"{statistics.median(times):.0f} | {max(times):.0f}"


def fallbacks(port: int, found: Mapping[str, Line], runs: int) -> None:
    """The time to the second target's first word, by kind of upstream and by what the first one does."""
    print(f"| first target (deadline {DEADLINE_MS} ms) | does | median ms | worst ms |\n|---|---|---|---|")
    for name, line in found.items():
        for what, answer in SILENCES.items():
            line.upstream.always(line.answer(**answer))
            times = [first_word(port, chat_body(model=f"safe:{name}")) for _ in range(runs)]
            line.upstream.always(line.answer())
            print(f"| {name} | {what} | {spread(times)} |", flush=True)


def hangups(port: int, found: Mapping[str, Line], runs: int) -> None:
    """The time from a caller's leaving to the upstream's noticing, by kind of upstream and by phase."""
    print(f"\n| a caller leaves: worst of {runs}, ms | {' | '.join(PHASES)} |\n|---|{'---|' * len(PHASES)}")
    for name, line in found.items():
        cells = []
        for answer, stream, heard in PHASES.values():
            worst = 0.0
            for _ in range(runs):
                count = len(line.upstream.received)
                line.upstream.enqueue(line.answer(**answer))
                caller = Caller(port, chat_body(provider=line.provider, model=line.model, stream=stream))
                until(lambda line=line, count=count: len(line.upstream.received) > count, "the request to arrive")
                caller.hears(heard)
                time.sleep(0.02)  # let the phase begin: only the hang-up is measured
                left = time.monotonic()
                caller.leaves()
                worst = max(worst, (line.upstream.received[count].wait_closed(10) - left) * 1000)
            cells.append(f"{worst:.1f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def hedging(port: int, one: OpenAIUpstream, two: OpenAIUpstream, calls: int) -> None:
    """A mix in which one of twenty answers takes three seconds, with hedging and without."""
    print(f"\n| {SLOW_SHARE:.0%} take {SLOW_SECONDS:g} s | p50 ms | p99 ms | extra calls |\n|---|---|---|---|")
    dice = random.Random(1)
    for model in ("plain", "hedged"):
        delays = [SLOW_SECONDS if dice.random() < SLOW_SHARE else FAST_SECONDS for _ in range(calls)]
        one.enqueue(*(ScriptedAnswer(first_delay=delay) for delay in delays))
        two.always(ScriptedAnswer(first_delay=FAST_SECONDS))
        asked = len(two.received)
        with ThreadPoolExecutor(CALLERS) as pool:
            times = list(pool.map(lambda m: first_word(port, chat_body(model=m)), [model] * calls))
        cuts = statistics.quantiles(times, n=100)
        extra = (len(two.received) - asked) / calls
        print(f"| {model} | {cuts[49]:.0f} | {cuts[98]:.0f} | {extra:.1%} |", flush=True)


def refusals(port: int, one: OpenAIUpstream, most: int, runs: int) -> None:
    """How soon a request over the limit is refused."""
    one.always(ScriptedAnswer(first_delay=LONG))
    held = [threading.Thread(target=_hold, args=(port,), daemon=True) for _ in range(most)]
    for thread in held:
        thread.start()
    count = len(one.received)
    while len(one.received) < count + most and one.open_connections() < most:
        time.sleep(0.01)
    times = [_measure_ms(lambda: _send_one_too_many(port)) for _ in range(runs)]
    print(f"\n| one too many, {most} under way | median ms | worst ms |\n|---|---|---|")
    print(f"| 503 | {statistics.median(times):.1f} | {max(times):.1f} |")


def _measure_ms(do: Callable[[], None]) -> float:
    began = time.monotonic()
    do()
    return (time.monotonic() - began) * 1000


def _hold(port: int) -> None:
    try:
        first_word(port, chat_body(model="plain"))
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
        found, settings = stack.enter_context(lines())
        one, two = stack.enter_context(OpenAIUpstream()), stack.enter_context(OpenAIUpstream())
        providers = {
            name: {"base_url": each.base_url, "api_key": each.key} for name, each in (("one", one), ("two", two))
        }
        models: list[dict[str, Any]] = [
            {"name": f"safe:{name}", "provider": line.provider, "model": line.model, "fallbacks": ["second"]}
            | {"ttft_timeout_ms": DEADLINE_MS}
            for name, line in found.items()
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
        fallbacks(app.port, found, arguments.runs)
        hangups(app.port, found, arguments.runs)
        hedging(app.port, one, two, arguments.calls)
        refusals(app.port, one, 32, arguments.runs)


if __name__ == "__main__":
    main()
