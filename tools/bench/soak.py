"""Callers, faults and hang-ups, mixed for a long time: does anything grow, and does every caller get an answer or an
error?

    make soak MINUTES=10        or: python -m tools.bench.soak --minutes 10 [--callers 100] [--plot soak.png]

One worker over loopback; every kind of upstream is emulated in this process. A fifth of the callers are strangers, who
send halves, do not read or do not close. Exits with 1 when threads or sockets grow, when memory does, or when a caller
got neither an answer nor a reason.
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
WARM_UP = 0.25
"""The share of the time after which nothing may grow any more."""
GROWTH = 1.02
"""How much the last third of the rest may be above its first: what 20 samples of a busy process differ by."""

ANSWERS: tuple[tuple[int, dict[str, Any]], ...] = (
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
"""How often an upstream gives that answer."""


@dataclass
class Seen:
    """The callers' results, and the samples of the process: (seconds, KiB, threads, sockets, p50 ms of late)."""

    outcomes: Counter[str] = field(default_factory=Counter)
    strange: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    samples: list[tuple[float, int, int, int, float]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, outcome: str, seconds: float, strange: str = "") -> None:
        """Count a call that has ended."""
        with self.lock:
            self.outcomes[outcome] += 1
            self.latencies.append(seconds)
            if strange and len(self.strange) < 10:
                self.strange.append(strange)


def call(port: int, body: Mapping[str, Any], dice: random.Random) -> tuple[str, str]:
    """Make one call; returns how it ended, and what was wrong with it."""
    leaves = dice.random() < 0.25
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        if leaves:
            time.sleep(dice.random() * 0.3)
            return "left", ""
        response = connection.getresponse()
        heard = response.read()
    except (OSError, IncompleteRead) as error:
        return "strange", repr(error)
    finally:
        connection.close()
    if response.status != 200:
        explained = b'"message"' in heard
        return (f"told {response.status}", "") if explained else ("strange", f"{response.status} {heard[:200]!r}")
    if not body.get("stream"):
        return "answered", ""
    if not heard.endswith(b"data: [DONE]\n\n"):
        return "strange", repr(heard[-200:])
    return ("told in the stream" if b'"error":{' in heard else "answered"), ""


def caller(port: int, names: list[str], until: float, seen: Seen, seed: int) -> None:
    """One caller after another, until the time is up."""
    dice = random.Random(seed)
    while time.monotonic() < until:
        began = time.monotonic()
        body = chat_body(model=f"safe:{dice.choice(names)}", stream=dice.random() < 0.8)
        seen.count(*_with_time(call(port, body, dice), began))
        time.sleep(dice.random() * 0.2)


def stranger(port: int, until: float, seen: Seen, seed: int) -> None:
    """One stranger after another, each for a second or two."""
    dice = random.Random(seed)
    while time.monotonic() < until:
        with dice.choice(STRANGERS)(port):
            time.sleep(dice.random() * 2)
        with seen.lock:
            seen.outcomes["stranger"] += 1


def _with_time(ended: tuple[str, str], began: float) -> tuple[str, float, str]:
    return ended[0], time.monotonic() - began, ended[1]


def script(found: Mapping[str, Line], until: float) -> None:
    """Change what each upstream answers, all the time."""
    dice = random.Random(0)
    weights, answers = zip(*ANSWERS, strict=True)
    while time.monotonic() < until:
        for line in found.values():
            line.upstream.always(line.answer(**dice.choices(answers, weights)[0]))
        time.sleep(0.05)
    for line in found.values():
        line.upstream.always(line.answer())


def memory(pid: int) -> int:
    """Resident KiB of a process."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def watch(app: Served, until: float, seen: Seen) -> None:
    """Count, every few seconds."""
    began = time.monotonic()
    while time.monotonic() < until:
        time.sleep(SAMPLE_SECONDS)
        with seen.lock:
            late, seen.latencies = seen.latencies, []
        p50 = statistics.median(late) * 1000 if late else 0.0
        row = (time.monotonic() - began, memory(app.workers[0]), app.threads(), app.sockets(), p50)
        seen.samples.append(row)


def grown(seen: Seen, rest: tuple[int, int, int]) -> list[str]:
    """What is more at the end than after the warm-up; `rest` is (KiB, threads, sockets) once all callers have left."""
    settled = seen.samples[int(len(seen.samples) * WARM_UP) :]
    third = len(settled) // 3
    before, after = (statistics.median(row[1] for row in rows) for rows in (settled[:third], settled[-third:]))
    first = seen.samples[0]
    problems = []
    if after > before * GROWTH:
        problems.append(f"memory grew from {before:.0f} to {after:.0f} KiB")
    if rest[1] > first[2] + 2:
        problems.append(f"{rest[1]} threads are left of {first[2]}")
    if rest[2] > min(row[3] for row in seen.samples) + 16:
        problems.append(f"{rest[2]} sockets are left")
    if seen.outcomes["strange"]:
        problems.append(f"{seen.outcomes['strange']} callers got neither an answer nor a reason: {seen.strange}")
    return problems


def plot(seen: Seen, path: str) -> None:
    """Memory, threads, sockets and latency over time."""
    from matplotlib import use  # noqa: PLC0415 - only the picture needs it

    use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(4, 1, sharex=True, figsize=(9, 9))
    titles = ("resident MiB", "threads", "sockets", "p50 of a call, ms")
    for at, (axis, title) in enumerate(zip(axes, titles, strict=True), start=1):
        scale = 1024 if at == 1 else 1
        axis.plot([row[0] for row in seen.samples], [row[at] / scale for row in seen.samples])
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
    seen = Seen()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found, settings = stack.enter_context(lines())
        second = stack.enter_context(OpenAIUpstream())
        second.always(ScriptedAnswer())
        models: list[dict[str, Any]] = [
            {"name": f"safe:{name}", "provider": line.provider, "model": line.model, "ttft_timeout_ms": 400}
            | ({"fallbacks": ["second"]} if at % 2 else {})
            | ({"hedge_after_ms": 200} if at % 4 == 1 else {})
            for at, (name, line) in enumerate(found.items())
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
        until = time.monotonic() + arguments.minutes * 60
        jobs = [
            threading.Thread(target=script, args=(found, until)),
            threading.Thread(target=watch, args=(app, until, seen)),
        ]
        names = list(found)
        jobs += [
            threading.Thread(target=caller, args=(app.port, names, until, seen, seed))
            if seed % 5
            else threading.Thread(target=stranger, args=(app.port, until, seen, seed))
            for seed in range(arguments.callers)
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        time.sleep(5)
        rest = memory(app.workers[0]), app.threads(), app.sockets()
    print("| seconds | KiB resident | threads | sockets | p50 ms |\n|---|---|---|---|---|")
    step = max(1, len(seen.samples) // 12)
    for row in seen.samples[::step]:
        print("| " + " | ".join(f"{value:.0f}" for value in row) + " |")
    print(f"\nAt rest: {rest[0]} KiB, {rest[1]} threads, {rest[2]} sockets.")
    print(
        f"{sum(seen.outcomes.values())} calls: " + ", ".join(f"{n} {what}" for what, n in seen.outcomes.most_common())
    )
    if arguments.plot:
        plot(seen, arguments.plot)
    problems = grown(seen, rest)
    print("\n".join(["", *problems]) if problems else "\nNothing grew, and everybody was answered or told why not.")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
