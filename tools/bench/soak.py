"""Runs callers, faults and hang-ups for a long time: does anything grow, and does every call get an answer or an error?

    make soak MINUTES=10 CALLERS=300

One worker over loopback; every kind of upstream is emulated in this process. A fifth of the clients misbehave: they
send half a request, do not read, or do not close. Exits with 1 if threads, sockets or memory grow, or if a call got
neither an answer nor an error.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import Served, served
from tests.emulators import OpenAIUpstream, ScriptedAnswer, faults
from tests.emulators.lines import Line, lines, providers_of
from tests.support.callers import WORDS
from tests.support.frames import chat_body
from tests.support.strangers import STRANGERS

SAMPLE_SECONDS = 2.0
REST_SECONDS = 35.0
"""Before the last sample: threads that no call needs end after 30 seconds."""
WARM_UP = 0.25
"""The share of the time after which nothing may grow any more."""
GROWTH = 1.02
"""How much the last third of the rest may be above its first: what 20 samples of a busy process differ by."""

WEIGHTED_ANSWERS: tuple[tuple[int, dict[str, Any]], ...] = (
    (10, {}),
    (4, {"texts": WORDS[:40], "frame_delay": 0.01}),
    (2, {"first_delay": 0.5}),
    (1, {"fault": faults.cut}),
    (1, {"fault": faults.reset}),
    (1, {"fault": faults.malformed}),
    (1, {"fault": faults.html}),
    (1, {"fault": faults.reset_before_headers}),
    (1, {"fault": faults.stalled_before_headers}),
    (1, {"fault": faults.stalled}),
    (1, {"fault": faults.garbage}),
)
"""Answers of the upstreams, each with how often it is given."""


@dataclass
class Results:
    """The outcomes of calls, and samples of the process: (seconds, KiB, threads, sockets, median latency in ms)."""

    outcomes: Counter[str] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    samples: list[tuple[float, int, int, int, float]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, outcome: str, seconds: float, unexplained: str = "") -> None:
        """Count a call that has ended."""
        with self.lock:
            self.outcomes[outcome] += 1
            self.latencies.append(seconds)
            if unexplained and len(self.unexplained) < 10:
                self.unexplained.append(unexplained)


def make_call(port: int, body: Mapping[str, Any], rng: random.Random) -> tuple[str, str]:
    """Make one call. Returns its outcome, and a description if it ended without an answer and without a reason."""
    hangs_up = rng.random() < 0.25
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        if hangs_up:
            time.sleep(rng.random() * 0.3)
            return "hung up", ""
        response = connection.getresponse()
        received = response.read()
    except (OSError, IncompleteRead) as error:
        return "unexplained", repr(error)
    finally:
        connection.close()
    if response.status != 200:
        explained = b'"message"' in received
        return (
            (f"error {response.status}", "") if explained else ("unexplained", f"{response.status} {received[:200]!r}")
        )
    if not body.get("stream"):
        return "answered", ""
    if not received.endswith(b"data: [DONE]\n\n"):
        return "unexplained", repr(received[-200:])
    return ("error in the stream" if b'"error":{' in received else "answered"), ""


def run_caller(port: int, kinds: list[str], end: float, results: Results, seed: int) -> None:
    """Make one call after another until the time is up."""
    rng = random.Random(seed)
    while time.monotonic() < end:
        started = time.monotonic()
        body = chat_body(model=f"safe:{rng.choice(kinds)}", stream=rng.random() < 0.8)
        results.count(*_with_duration(make_call(port, body, rng), started))
        time.sleep(rng.random() * 0.2)


def run_misbehaving_client(port: int, end: float, results: Results, seed: int) -> None:
    """Misbehave in one way after another, each for up to two seconds."""
    rng = random.Random(seed)
    while time.monotonic() < end:
        with rng.choice(STRANGERS)(port):
            time.sleep(rng.random() * 2)
        with results.lock:
            results.outcomes["misbehaved"] += 1


def _with_duration(ended: tuple[str, str], started: float) -> tuple[str, float, str]:
    return ended[0], time.monotonic() - started, ended[1]


def change_answers(lines_by_kind: Mapping[str, Line], end: float) -> None:
    """Change the answer of each upstream, at random, every 50 ms."""
    rng = random.Random(0)
    weights, answers = zip(*WEIGHTED_ANSWERS, strict=True)
    while time.monotonic() < end:
        for line in lines_by_kind.values():
            line.upstream.always(line.answer(**rng.choices(answers, weights)[0]))
        time.sleep(0.05)
    for line in lines_by_kind.values():
        line.upstream.always(line.answer())


def resident_kib(pid: int) -> int:
    """The resident memory of a process in KiB."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def take_samples(app: Served, end: float, results: Results) -> None:
    """Take a sample of the process every SAMPLE_SECONDS."""
    started = time.monotonic()
    while time.monotonic() < end:
        time.sleep(SAMPLE_SECONDS)
        with results.lock:
            latencies, results.latencies = results.latencies, []
        p50 = statistics.median(latencies) * 1000 if latencies else 0.0
        row = (time.monotonic() - started, resident_kib(app.workers[0]), app.threads(), app.sockets(), p50)
        results.samples.append(row)


def find_problems(results: Results, at_rest: tuple[int, int, int]) -> list[str]:
    """What has grown since the warm-up, and how many calls ended without a reason. `at_rest` is (KiB, threads, sockets)
    once all callers have left.
    """
    settled = results.samples[int(len(results.samples) * WARM_UP) :]
    third = len(settled) // 3
    before, after = (statistics.median(row[1] for row in rows) for rows in (settled[:third], settled[-third:]))
    problems = []
    if after > before * GROWTH:
        problems.append(f"memory grew from {before:.0f} to {after:.0f} KiB")
    least_threads = min(row[2] for row in results.samples)
    if at_rest[1] > least_threads:
        problems.append(f"{at_rest[1]} threads are left, and there were {least_threads}")
    if at_rest[2] > min(row[3] for row in results.samples) + 16:
        problems.append(f"{at_rest[2]} sockets are left")
    if results.outcomes["unexplained"]:
        problems.append(
            f"{results.outcomes['unexplained']} callers got neither an answer nor a reason: {results.unexplained}"
        )
    return problems


def plot(results: Results, path: str) -> None:
    """Draw memory, threads, sockets and latency over time."""
    from matplotlib import use  # noqa: PLC0415 - only the picture needs it

    use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(4, 1, sharex=True, figsize=(9, 9))
    titles = ("resident MiB", "threads", "sockets", "p50 of a call, ms")
    for at, (axis, title) in enumerate(zip(axes, titles, strict=True), start=1):
        scale = 1024 if at == 1 else 1
        axis.plot([row[0] for row in results.samples], [row[at] / scale for row in results.samples])
        axis.set_ylabel(title)
        axis.set_ylim(bottom=0)
    axes[-1].set_xlabel("seconds")
    figure.savefig(path)


def main() -> int:
    """Run it; 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--callers", type=int, default=100)
    parser.add_argument("--plot", default="")
    arguments = parser.parse_args()
    results = Results()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lines_by_kind, settings = stack.enter_context(lines())
        second = stack.enter_context(OpenAIUpstream())
        second.always(ScriptedAnswer())
        models: list[dict[str, Any]] = [
            {"name": f"safe:{name}", "provider": line.provider, "model": line.model, "ttft_timeout_ms": 400}
            | ({"fallbacks": ["second"]} if at % 2 else {})
            | ({"hedge_after_ms": 200} if at % 4 == 1 else {})
            for at, (name, line) in enumerate(lines_by_kind.items())
        ]
        models.append({"name": "second", "provider": "second"})
        file = folder / "models.yaml"
        file.write_text(
            yaml.safe_dump(
                {
                    "providers": {
                        **providers_of(settings),
                        "second": {"base_url": second.base_url, "api_key": second.key},
                    },
                    "models": models,
                }
            )
        )
        app = stack.enter_context(
            served(
                folder / "log",
                **{**settings, "MODELS_FILE": file},
                DATA_DIR=folder,
                THREADS=256,
                FIRST_EVENT_TIMEOUT=3,
                IDLE_TIMEOUT=3,
                LOG_LEVEL="ERROR",
            )
        )
        end = time.monotonic() + arguments.minutes * 60
        threads = [
            threading.Thread(target=change_answers, args=(lines_by_kind, end)),
            threading.Thread(target=take_samples, args=(app, end, results)),
        ]
        kinds = list(lines_by_kind)
        threads += [
            threading.Thread(target=run_caller, args=(app.port, kinds, end, results, seed))
            if seed % 5
            else threading.Thread(target=run_misbehaving_client, args=(app.port, end, results, seed))
            for seed in range(arguments.callers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(REST_SECONDS)
        at_rest = resident_kib(app.workers[0]), app.threads(), app.sockets()
    print("| seconds | KiB resident | threads | sockets | p50 ms |\n|---|---|---|---|---|")
    step = max(1, len(results.samples) // 12)
    for row in results.samples[::step]:
        print("| " + " | ".join(f"{value:.0f}" for value in row) + " |")
    print(f"\nAt rest: {at_rest[0]} KiB, {at_rest[1]} threads, {at_rest[2]} sockets.")
    print(
        f"{sum(results.outcomes.values())} calls: "
        + ", ".join(f"{n} {what}" for what, n in results.outcomes.most_common())
    )
    if arguments.plot:
        plot(results, arguments.plot)
    problems = find_problems(results, at_rest)
    print("\n".join(["", *problems]) if problems else "\nNothing grew, and every call got an answer or an error.")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
