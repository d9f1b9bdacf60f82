"""The measurements of a server, as plain figures: rates a second, times in ms, CPU in microseconds."""

import json
import resource
import socket
import statistics
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from tools.bench.processes import LOOPBACK, Server, pin_to_core, upstream_counts

TOKENS_PER_SECOND = 50
RAMP_UP_SECONDS = 1.0
"""The least time over which paced streams are begun, one by one, as calls arrive at a real server."""
ARRIVALS_PER_SECOND = 250
"""How many paced streams are begun each second at most."""
GRACE_SECONDS = 4.0
"""How long paced streams may take longer than they should, before they count as not ended."""
STALL_MS = 100.0
"""Streams stall if more than one of 100 tokens takes longer than this from the upstream to the caller."""
STREAM_COUNTS = (25, 100, 250, 500, 1000)
MEMORY_STREAMS = 250
BURST_STREAMS, BURST_TOKENS = 16, 2000
SHORT_STREAMS, SHORT_TOKENS = 64, 20
FIRST_TOKENS = 5
HANGUPS = 10
HANGUP_TIMEOUT = 5.0
SETTLE_INTERVAL, SETTLE_TIMEOUT = 0.25, 15.0
IDLE_SHARE = 0.2
"""The share of a core below which a server has ended the work for callers that left."""

Figures = dict[str, Any]


class WrongAnswers(Exception):
    """Answers failed, lacked tokens or had them in another order; the text has the first."""


@dataclass(frozen=True)
class Bench:
    """What all measurements share: the upstream, the folder of the built programs, the core of the upstream and the
    callers (the harness), for how many seconds each figure is measured, and the numbers of paced streams.
    """

    upstream: Server
    folder: Path
    core: int
    seconds: float
    stream_counts: tuple[int, ...] = STREAM_COUNTS

    def run_load(
        self, server: Server, answer: str, *, stream: bool = True, while_running: Any = None, **options: float
    ) -> Figures:
        """One run of load.c: what it saw, `cpu_seconds` of the server, and the shares of their cores that the server
        and the harness took. `options` are load.c's; `while_running` is called while it runs.
        """
        options = {"seconds": self.seconds, **options}
        arguments = [f"--{name}={value}" for name, value in options.items()] + ["--whole"] * (not stream)
        cpu_before, harness_before = server.cpu_seconds(), self._harness_cpu_seconds()
        with pin_to_core(self.core):
            process = subprocess.Popen(
                [str(self.folder / "load"), str(server.port), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        assert process.stdin is not None
        process.stdin.write(server.chat_request(answer, stream=stream))
        process.stdin.close()
        if while_running:
            while_running()
        assert process.stdout is not None
        with process.stdout as output:
            output_text = output.read()
        if process.wait():
            raise WrongAnswers("No connection.")
        result: Figures = json.loads(output_text)
        result["cpu_seconds"] = server.cpu_seconds() - cpu_before
        result["cpu_share"] = result["cpu_seconds"] / result["seconds"]
        result["harness_share"] = (self._harness_cpu_seconds() - harness_before) / result["seconds"]
        _settle(server)
        return result

    def run_checked_load(self, *arguments: Any, **options: Any) -> Figures:
        """`run_load`, for a load that must be answered rightly. Raises WrongAnswers."""
        result = self.run_load(*arguments, **options)
        if result["failed"] or not result["tokens"]:
            count = result["failed"] + result["answers"]
            raise WrongAnswers(
                f"{result['failed']} of {count} answers: {result['problem']}" if count else "no answer in time"
            )
        return result

    def _harness_cpu_seconds(self) -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime + self.upstream.cpu_seconds()


def _settle(server: Server) -> None:
    """Wait until the work of one run no longer affects the next."""
    deadline = monotonic() + SETTLE_TIMEOUT
    while monotonic() < deadline:
        cpu_before = server.cpu_seconds()
        sleep(SETTLE_INTERVAL)
        if server.cpu_seconds() - cpu_before < IDLE_SHARE * SETTLE_INTERVAL:
            return


def _cpu_shares(result: Figures) -> Figures:
    return {name: round(result[name], 3) for name in ("cpu_share", "harness_share")}


def measure_requests(bench: Bench, server: Server, connections: int) -> Figures:
    """Measure answers that are not streamed."""
    result = bench.run_checked_load(server, "bench:whole", stream=False, tokens=1, connections=connections)
    return {
        "per_second": round(result["answers"] / result["seconds"], 1),
        "cpu_us": round(result["cpu_seconds"] / result["answers"] * 1e6, 1),
        "latency_ms": result["latency_ms"],
        **_cpu_shares(result),
    }


def measure_first_token(bench: Bench, server: Server) -> Figures:
    """Measure the time to the first token, one stream after another. It includes the upstream's own time."""
    result = bench.run_checked_load(server, f"bench:burst:{FIRST_TOKENS}", tokens=FIRST_TOKENS, connections=1)
    return {"streams": result["answers"], **result["ttft_ms"]}


def measure_burst(bench: Bench, server: Server) -> Figures:
    """Measure streams at full speed. The upstream writes each token by itself."""
    result = bench.run_checked_load(
        server, f"bench:burst:{BURST_TOKENS}", tokens=BURST_TOKENS, connections=BURST_STREAMS
    )
    return {
        "tokens_per_second": round(result["tokens"] / result["seconds"]),
        "cpu_us": round(result["cpu_seconds"] / result["tokens"] * 1e6, 2),
        **_cpu_shares(result),
    }


def measure_short_streams(bench: Bench, server: Server) -> Figures:
    """Measure streams of a sentence's length, at full speed."""
    result = bench.run_checked_load(
        server, f"bench:burst:{SHORT_TOKENS}", tokens=SHORT_TOKENS, connections=SHORT_STREAMS
    )
    return {
        "per_second": round(result["answers"] / result["seconds"], 1),
        "cpu_us": round(result["cpu_seconds"] / result["answers"] * 1e6, 1),
        **_cpu_shares(result),
    }


def measure_paced_streams(bench: Bench, server: Server) -> Figures:
    """Measure streams at 50 tokens a second, more at each step until they stall, and the memory that they take.

    The memory of a stream is given only for MEMORY_STREAMS or more: that of fewer is too small to be seen.
    """
    before = server.memory_mb()
    rows: list[Figures] = []
    held, per_stream = 0, None
    for streams in bench.stream_counts:
        ramp_up = max(RAMP_UP_SECONDS, streams / ARRIVALS_PER_SECOND)
        tokens = round(TOKENS_PER_SECOND * (ramp_up + max(0.2, bench.seconds)))  # all streams run at the same time
        samples: list[float] = []

        def sample_memory(samples: list[float] = samples, seconds: float = ramp_up + bench.seconds / 2) -> None:
            sleep(seconds)
            samples.append(server.memory_mb())

        options = {"connections": streams, "count": streams, "tokens": tokens, "spread": ramp_up}
        seconds = ramp_up + tokens / TOKENS_PER_SECOND + GRACE_SECONDS
        result = bench.run_load(
            server, f"bench:paced:{tokens}", while_running=sample_memory, seconds=seconds, **options
        )
        names = ("failed", "problem", "ttft_ms", "transit_ms")
        rows.append({"streams": streams, **{name: result[name] for name in names}, **_cpu_shares(result)})
        if result["failed"] or result["transit_ms"]["p99"] >= STALL_MS:
            break
        held = streams
        if streams >= MEMORY_STREAMS:
            per_stream = round((samples[0] - before) * 1000 / streams, 1)
    return {"held": held, "rows": rows, "per_stream_kb": per_stream}


def measure_hangups(bench: Bench, server: Server) -> Figures:
    """Measure the time from a caller's hang-up until the upstream's connection is closed, by phase: median and worst.

    None for a phase in which it was not closed within HANGUP_TIMEOUT.
    """
    phases = {"before_head_ms": ("bench:silent", b""), "streaming_ms": ("bench:hold", b",")}
    return {phase: _time_hangups(bench, server, *phase_options) for phase, phase_options in phases.items()}


def _time_hangups(bench: Bench, server: Server, answer: str, awaited: bytes) -> Figures | None:
    times = []
    for _ in range(HANGUPS):
        milliseconds = _time_hangup(bench, server, answer, awaited)
        if milliseconds is None:
            return None
        times.append(milliseconds)
    return {"p50": round(statistics.median(times), 2), "max": round(max(times), 2)}


def _time_hangup(bench: Bench, server: Server, answer: str, awaited: bytes) -> float | None:
    before = upstream_counts(bench.upstream)["hangups"]
    with socket.create_connection((LOOPBACK, server.port), HANGUP_TIMEOUT) as sock:
        sock.sendall(server.chat_request(answer))
        received = b""
        while awaited and b"~0000000" + awaited not in received and b"fjAwMDAwMDAs" not in received:
            data = sock.recv(65536)
            if not data:
                raise WrongAnswers(f"Closed early: {received[-200:]!r}")
            received += data
        sleep(0.05)  # let the phase begin: only the hang-up is measured
        closed_at = monotonic()
    while monotonic() < closed_at + HANGUP_TIMEOUT:
        counts = upstream_counts(bench.upstream)
        if counts["hangups"] > before:
            return max(0.0, counts["last_hangup_us"] / 1e6 - closed_at) * 1000
        sleep(0.01)
    return None


Measure = Callable[[Bench, Server], Figures]

MEASURES: Mapping[str, Measure] = {
    "paced": measure_paced_streams,
    "requests_1": lambda bench, server: measure_requests(bench, server, 1),
    "requests_64": lambda bench, server: measure_requests(bench, server, 64),
    "first_token": measure_first_token,
    "short_streams": measure_short_streams,
    "burst": measure_burst,
    "hangup": measure_hangups,
}
BARE_MEASURES = ("requests_1", "requests_64")
"""The measurements of a server without an upstream."""
PROVIDER_MEASURES = ("paced", "first_token", "short_streams", "burst", "hangup")
UPSTREAM_MEASURES = ("paced", "requests_1", "requests_64", "first_token", "short_streams", "burst")
"""The measurements of the upstream itself, without a proxy."""


def measure(bench: Bench, server: Server, names: tuple[str, ...]) -> Figures:
    """Run these measurements after a warm-up; `problem` replaces the figures if answers were wrong."""
    figures: Figures = {"idle": {"mb": round(server.memory_mb(), 1)}}
    bench.run_load(server, "bench:whole", stream=False, tokens=1, connections=64, seconds=min(1.0, bench.seconds))
    for name in names:
        try:
            figures[name] = MEASURES[name](bench, server)
        except (WrongAnswers, OSError) as error:
            figures[name] = {"problem": str(error)}
    return figures
