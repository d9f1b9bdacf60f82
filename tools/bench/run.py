"""What Thinkline costs: one worker alone on one core, the upstream and the callers on the other.

    python tools/bench/run.py                     a table: medians of several rounds, with their spread
    python tools/bench/run.py --json              the same for programs
    python tools/bench/run.py LOG_LEVEL=WARNING   with further settings of Thinkline's

Everything runs over loopback and ends by itself. The machine's noise is in the figures: compare ratios (bare.py is the
yardstick), and only what was measured side by side. Linux only.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import load
import orjson
from processes import Server, bare, cores, get, pinned, thinkline, upstream

CONNECTIONS = 64
REQUESTS = 4000
STREAMS = 8
BURST_TOKENS = 10_000
PACED_STREAMS = 100
PACED_TOKENS = 200
FIRST_TOKENS = 300
"""Streams of one token, one after the other."""

Figures = dict[str, float]


@dataclass(frozen=True)
class Measure:
    """A line of the table. `budget`: what its median should not exceed, where there is one."""

    title: str
    budget: float | None = None


MEASURES: Mapping[str, Measure] = {
    "cpu_per_request_us": Measure("CPU per request, us", 450),
    "cpu_per_bare_request_us": Measure("CPU per request of a bare Flask view, us"),
    "times_bare": Measure("CPU per request, times the bare view's"),
    "connections_per_request": Measure("connections opened to the upstream per request"),
    "requests_per_second": Measure("requests a second"),
    "latency_p50_ms": Measure("latency p50, ms"),
    "latency_p99_ms": Measure("latency p99, ms"),
    "cpu_per_burst_token_us": Measure("CPU per burst token, us", 8),
    "burst_tokens_per_second": Measure("burst tokens a second"),
    "cpu_per_flushed_token_us": Measure("CPU per burst token, written one by one, us"),
    "flushed_tokens_per_second": Measure("burst tokens a second, written one by one"),
    "ttft_direct_ms": Measure("TTFT p50 of the upstream itself, ms"),
    "ttft_added_ms": Measure("TTFT p50 added, ms"),
    "cpu_per_paced_token_us": Measure(f"CPU per token of {PACED_STREAMS} streams at 50 a second, us"),
    "paced_tokens_per_second": Measure("their tokens a second"),
    "paced_ttft_ms": Measure("their TTFT p50, ms"),
    "direct_requests_per_second": Measure("requests a second, upstream itself"),
    "direct_burst_tokens_per_second": Measure("burst tokens a second, upstream itself"),
    "memory_mb": Measure("resident, MB"),
}


@dataclass(frozen=True)
class Stage:
    """Who is measured: Thinkline, the upstream behind it, and the yardstick."""

    thinkline: Server
    upstream: Server
    bare: Server


def whole(stage: Stage) -> Figures:
    """Answers that are not streamed, with 64 connections at work."""
    opened = int(get(stage.upstream.port, "/connections"))
    result, spent = _spent(stage.thinkline)
    opened = int(get(stage.upstream.port, "/connections")) - opened - 1
    _, spent_bare = _spent(stage.bare)
    straight = _good(load.requests(stage.upstream.port, connections=CONNECTIONS, count=REQUESTS)).report()
    report = result.report()
    return {
        "cpu_per_request_us": spent / REQUESTS * 1e6,
        "cpu_per_bare_request_us": spent_bare / REQUESTS * 1e6,
        "times_bare": spent / spent_bare,
        "connections_per_request": opened / REQUESTS,
        **{name: report[name] for name in ("requests_per_second", "latency_p50_ms", "latency_p99_ms")},
        "direct_requests_per_second": straight["requests_per_second"],
    }


def _spent(server: Server) -> tuple[load.Result, float]:
    before = server.cpu()
    result = _good(load.requests(server.port, connections=CONNECTIONS, count=REQUESTS))
    return result, server.cpu() - before


def burst(stage: Stage) -> Figures:
    """Streams as fast as they come: frames in groups, and frames written one by one."""
    figures: Figures = {}
    for kind, group in (("burst", 16), ("flushed", 1)):
        before = stage.thinkline.cpu()
        result = _good(load.burst(stage.thinkline.port, streams=STREAMS, tokens=BURST_TOKENS, group=group))
        figures[f"cpu_per_{kind}_token_us"] = (stage.thinkline.cpu() - before) / result.tokens * 1e6
        figures[f"{kind}_tokens_per_second"] = result.tokens / result.seconds
    straight = _good(load.burst(stage.upstream.port, streams=STREAMS, tokens=BURST_TOKENS))
    return {**figures, "direct_burst_tokens_per_second": straight.tokens / straight.seconds}


def first_token(stage: Stage) -> Figures:
    """What a caller waits longer for the first token, when nobody else is there."""
    direct, through = (
        median(_good(load.burst(server.port, streams=1, tokens=1, count=FIRST_TOKENS)).first_tokens) * 1000
        for server in (stage.upstream, stage.thinkline)
    )
    return {"ttft_direct_ms": direct, "ttft_added_ms": through - direct}


def paced(stage: Stage) -> Figures:
    """Streams at the pace of speech, all at once."""
    before = stage.thinkline.cpu()
    result = _good(load.paced(stage.thinkline.port, streams=PACED_STREAMS, tokens=PACED_TOKENS))
    report = result.report()
    return {
        "cpu_per_paced_token_us": (stage.thinkline.cpu() - before) / result.tokens * 1e6,
        "paced_tokens_per_second": report["tokens_per_second"],
        "paced_ttft_ms": report["ttft_p50_ms"],
        "memory_mb": stage.thinkline.memory(),
    }


PARTS: Mapping[str, Callable[[Stage], Figures]] = {
    "requests": whole,
    "burst": burst,
    "ttft": first_token,
    "paced": paced,
}


def _good(result: load.Result) -> load.Result:
    if result.failed:
        raise RuntimeError(f"{result.failed} answers failed or did not come.")
    return result


def measure(parts: list[str], rounds: int, settings: Mapping[str, str]) -> dict[str, list[float]]:
    """Every figure, once a round. Raises RuntimeError when an answer fails or a server does not start."""
    core, other = cores()
    figures: dict[str, list[float]] = {}
    with (
        pinned(other),
        upstream(other) as direct,
        bare(core) as yardstick,
        thinkline(core, direct.port, settings) as here,
    ):
        stage = Stage(here, direct, yardstick)
        for server in (here, yardstick):
            load.requests(server.port, connections=CONNECTIONS, count=1000)
        load.burst(here.port, streams=STREAMS, tokens=1000)
        for _ in range(rounds):
            for part in parts:
                for name, value in PARTS[part](stage).items():
                    figures.setdefault(name, []).append(value)
    return figures


def table(figures: Mapping[str, list[float]]) -> str:
    """The figures for people."""
    lines = [f"{'':<48}{'median':>10}{'lowest':>10}{'highest':>10}{'budget':>8}"]
    for name, known in MEASURES.items():
        if values := figures.get(name):
            over = known.budget is not None and median(values) > known.budget
            budget = "" if known.budget is None else f"{known.budget:g}{'!' if over else ' '}"
            numbers = "".join(f"{_short(value):>10}" for value in (median(values), min(values), max(values)))
            lines.append(f"{known.title:<48}{numbers}{budget:>8}".rstrip())
    return "\n".join(lines) + "\n"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def main() -> int:
    """Measure and tell. The exit status is 1 when a budget is exceeded."""
    parser = argparse.ArgumentParser(description="What Thinkline costs a request and a token.")
    parser.add_argument("settings", nargs="*", metavar="NAME=value", help="further settings of Thinkline's")
    parser.add_argument("--json", action="store_true", help="print every round's figures as JSON")
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, 51), metavar="1..50")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part; may be repeated")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the children are ended
    settings = dict(each.split("=", 1) for each in options.settings)
    figures = measure(options.only or list(PARTS), options.rounds, settings)
    if options.json:
        medians = {name: round(median(values), 3) for name, values in figures.items()}
        rounds = {name: [round(value, 3) for value in values] for name, values in figures.items()}
        data = {"python": sys.version.split()[0], "median": medians, "rounds": rounds}
        sys.stdout.write(orjson.dumps(data, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        sys.stdout.write(table(figures))
    budgets = ((figures.get(name), known.budget) for name, known in MEASURES.items())
    return int(any(values and budget is not None and median(values) > budget for values, budget in budgets))


if __name__ == "__main__":
    sys.exit(main())
