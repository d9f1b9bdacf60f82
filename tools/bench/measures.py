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

from tools.bench.processes import LOOPBACK, Server, pinned, stats

TOKENS_PER_SECOND = 50
SPREAD_SECONDS = 1.0
"""The time over which paced streams are begun, one by one as calls arrive."""
GRACE_SECONDS = 4.0
"""How long paced streams may take longer than they should, before they count as not ended."""
STALL_MS = 100.0
"""Streams are held well while 99 of 100 tokens are passed on within this time."""
STEPS = (25, 100, 250, 500, 1000)
MANY = 250
BURST_STREAMS, BURST_TOKENS = 16, 2000
SHORT_STREAMS, SHORT_TOKENS = 64, 20
FIRST_TOKENS = 5
HANGUPS = 10
NOTICED_SECONDS = 5.0
SETTLE_SECONDS, SETTLE_AT_MOST = 0.25, 15.0
QUIET = 0.2
"""The share of a core below which a server has ended the work for callers that left."""

Figures = dict[str, Any]


class WrongAnswers(Exception):
    """Answers failed, lacked tokens or had them in another order; the text has the first."""


@dataclass(frozen=True)
class Bench:
    """What a measurement stands on: the upstream, the folder of the built programs, the harness's core, and how many
    seconds each figure is measured for.
    """

    upstream: Server
    folder: Path
    core: int
    seconds: float
    steps: tuple[int, ...] = STEPS

    def load(
        self, server: Server, answer: str, *, stream: bool = True, during: Any = None, **options: float
    ) -> Figures:
        """One run of load.c: what it saw, `cpu_seconds` of the server, and the shares of their cores that the server
        and the harness took. `options` are load.c's; `during` is called while it runs.
        """
        options = {"seconds": self.seconds, **options}
        words = [f"--{name}={value}" for name, value in options.items()] + ["--whole"] * (not stream)
        spent, harness = server.cpu(), self._harness()
        with pinned(self.core):
            process = subprocess.Popen(
                [str(self.folder / "load"), str(server.port), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        assert process.stdin is not None
        process.stdin.write(server.request(answer, stream=stream))
        process.stdin.close()
        if during:
            during()
        assert process.stdout is not None
        with process.stdout as output:
            output_text = output.read()
        if process.wait():
            raise WrongAnswers("No connection.")
        seen: Figures = json.loads(output_text)
        seen["cpu_seconds"] = server.cpu() - spent
        seen["cpu_share"] = seen["cpu_seconds"] / seen["seconds"]
        seen["harness_share"] = (self._harness() - harness) / seen["seconds"]
        _settle(server)
        return seen

    def good(self, *arguments: Any, **options: Any) -> Figures:
        """The same. Raises WrongAnswers."""
        seen = self.load(*arguments, **options)
        if seen["failed"] or not seen["tokens"]:
            many = seen["failed"] + seen["answers"]
            raise WrongAnswers(
                f"{seen['failed']} of {many} answers: {seen['problem']}" if many else "no answer in time"
            )
        return seen

    def _harness(self) -> float:
        mine = resource.getrusage(resource.RUSAGE_CHILDREN)
        return mine.ru_utime + mine.ru_stime + self.upstream.cpu()


def _settle(server: Server) -> None:
    """Wait until the work of one run no longer affects the next."""
    give_up = monotonic() + SETTLE_AT_MOST
    while monotonic() < give_up:
        spent = server.cpu()
        sleep(SETTLE_SECONDS)
        if server.cpu() - spent < QUIET * SETTLE_SECONDS:
            return


def _shares(seen: Figures) -> Figures:
    return {name: round(seen[name], 3) for name in ("cpu_share", "harness_share")}


def requests(bench: Bench, server: Server, connections: int) -> Figures:
    """Answers that are not streamed."""
    seen = bench.good(server, "bench:whole", stream=False, tokens=1, connections=connections)
    return {
        "per_second": round(seen["answers"] / seen["seconds"], 1),
        "cpu_us": round(seen["cpu_seconds"] / seen["answers"] * 1e6, 1),
        "latency_ms": seen["latency_ms"],
        **_shares(seen),
    }


def first_token(bench: Bench, server: Server) -> Figures:
    """The time to the first token, one stream after another. It includes the upstream's own time."""
    seen = bench.good(server, f"bench:burst:{FIRST_TOKENS}", tokens=FIRST_TOKENS, connections=1)
    return {"streams": seen["answers"], **seen["ttft_ms"]}


def burst(bench: Bench, server: Server) -> Figures:
    """Streams at full speed, each token a write of the upstream's."""
    seen = bench.good(server, f"bench:burst:{BURST_TOKENS}", tokens=BURST_TOKENS, connections=BURST_STREAMS)
    return {
        "tokens_per_second": round(seen["tokens"] / seen["seconds"]),
        "cpu_us": round(seen["cpu_seconds"] / seen["tokens"] * 1e6, 2),
        **_shares(seen),
    }


def short_streams(bench: Bench, server: Server) -> Figures:
    """Streams of a sentence's length, at full speed."""
    seen = bench.good(server, f"bench:burst:{SHORT_TOKENS}", tokens=SHORT_TOKENS, connections=SHORT_STREAMS)
    return {
        "per_second": round(seen["answers"] / seen["seconds"], 1),
        "cpu_us": round(seen["cpu_seconds"] / seen["answers"] * 1e6, 1),
        **_shares(seen),
    }


def paced(bench: Bench, server: Server) -> Figures:
    """Streams at 50 tokens a second, more at each step until they are not held well; and the memory they take.

    The memory of a stream is given only for MANY or more: that of fewer is too small to be seen.
    """
    before = server.memory()
    tokens = max(10, round(TOKENS_PER_SECOND * (bench.seconds + 1)))
    seconds = SPREAD_SECONDS + tokens / TOKENS_PER_SECOND + GRACE_SECONDS
    rows: list[Figures] = []
    held, per_stream = 0, None
    for streams in bench.steps:
        resident: list[float] = []

        def look(resident: list[float] = resident) -> None:
            sleep(SPREAD_SECONDS + tokens / TOKENS_PER_SECOND / 2)
            resident.append(server.memory())

        shape = {"connections": streams, "count": streams, "tokens": tokens, "spread": SPREAD_SECONDS}
        seen = bench.load(server, f"bench:paced:{tokens}", during=look, seconds=seconds, **shape)
        names = ("failed", "problem", "ttft_ms", "transit_ms")
        rows.append({"streams": streams, **{name: seen[name] for name in names}, **_shares(seen)})
        if seen["failed"] or seen["transit_ms"]["p99"] >= STALL_MS:
            break
        held = streams
        if streams >= MANY:
            per_stream = round((resident[0] - before) * 1000 / streams, 1)
    return {"held": held, "rows": rows, "per_stream_kb": per_stream}


def hangup(bench: Bench, server: Server) -> Figures:
    """The time from a caller's leaving to the upstream's connection being closed, by phase: median and worst.

    Null where it was not closed within NOTICED_SECONDS.
    """
    phases = {"before_head_ms": ("bench:silent", b""), "streaming_ms": ("bench:hold", b",")}
    return {phase: _leave_often(bench, server, *how) for phase, how in phases.items()}


def _leave_often(bench: Bench, server: Server, answer: str, heard: bytes) -> Figures | None:
    times = []
    for _ in range(HANGUPS):
        time = _leave(bench, server, answer, heard)
        if time is None:
            return None
        times.append(time)
    return {"p50": round(statistics.median(times), 2), "max": round(max(times), 2)}


def _leave(bench: Bench, server: Server, answer: str, heard: bytes) -> float | None:
    before = stats(bench.upstream)["hangups"]
    with socket.create_connection((LOOPBACK, server.port), NOTICED_SECONDS) as sock:
        sock.sendall(server.request(answer))
        got = b""
        while heard and b"~0000000" + heard not in got and b"fjAwMDAwMDAs" not in got:
            data = sock.recv(65536)
            if not data:
                raise WrongAnswers(f"Closed early: {got[-200:]!r}")
            got += data
        sleep(0.05)  # let the phase begin: only the hang-up is measured
        left = monotonic()
    while monotonic() < left + NOTICED_SECONDS:
        now = stats(bench.upstream)
        if now["hangups"] > before:
            return max(0.0, now["last_hangup_us"] / 1e6 - left) * 1000
        sleep(0.01)
    return None


Measure = Callable[[Bench, Server], Figures]

MEASURES: Mapping[str, Measure] = {
    "paced": paced,
    "requests_1": lambda bench, server: requests(bench, server, 1),
    "requests_64": lambda bench, server: requests(bench, server, 64),
    "first_token": first_token,
    "short_streams": short_streams,
    "burst": burst,
    "hangup": hangup,
}
WITHOUT_UPSTREAM = ("requests_1", "requests_64")
"""The measurements of a server without an upstream."""
OF_A_PROVIDER = ("paced", "first_token", "short_streams", "burst", "hangup")
DIRECT = ("paced", "requests_1", "requests_64", "first_token", "short_streams", "burst")
"""The measurements of the upstream itself, without a proxy."""


def measure(bench: Bench, server: Server, names: tuple[str, ...]) -> Figures:
    """Run these measurements after a warm-up; `problem` replaces the figures if answers were wrong."""
    figures: Figures = {"idle": {"mb": round(server.memory(), 1)}}
    bench.load(server, "bench:whole", stream=False, tokens=1, connections=64, seconds=min(1.0, bench.seconds))
    for name in names:
        try:
            figures[name] = MEASURES[name](bench, server)
        except (WrongAnswers, OSError) as error:
            figures[name] = {"problem": str(error)}
    return figures
