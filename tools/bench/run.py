"""What Thinkline costs and holds, beside its peers: one worker alone on one core, the upstream and the callers on the
other, all in one run.

    make bench            installs the peers into .bench, measures, and writes docs/performance.json, .svg and .md
    python -m tools.bench.run --seconds 1 --only thinkline --only nginx --output figures.json
    python -m tools.bench.run --only thinkline LOG_LEVEL=WARNING        with further settings of Thinkline's

Everything runs over loopback and ends by itself. The machine's noise is in the figures: compare what one run measured.
Linux only.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import monotonic
from typing import Any

from tools.bench import answers, peers
from tools.bench.measures import (
    BARE_MEASURES,
    MEASURES,
    PROVIDER_MEASURES,
    STREAM_COUNTS,
    UPSTREAM_MEASURES,
    Bench,
    measure,
)
from tools.bench.processes import NotStarted, build_programs, choose_cores, pin_to_core, run_upstream

PACKAGES = ("flask", "gunicorn", "openai")
"""The packages whose versions are noted."""

PROVIDERS: Mapping[str, Mapping[str, Any]] = {
    "openai": {},
    "anthropic": {"provider": "anthropic", "model": answers.ANTHROPIC_MODEL},
    "oci": {"provider": "oci", "model": answers.OCI_MODEL},
    "bedrock-agent": {"provider": "bedrock", "model": "bedrock-agent", "session_id": "bench-########"},
}
"""The fields by which a request is answered by each provider. load.c replaces ######## with the request's number."""


def describe_machine() -> dict[str, Any]:
    """The machine and the versions."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line), "unknown")
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}


def run(
    seconds: float, only: list[str], settings: Mapping[str, str], stream_counts: tuple[int, ...] = STREAM_COUNTS
) -> dict[str, Any]:
    """All figures. Raises NotStarted when the upstream or Thinkline does not start."""
    core, other = choose_cores()
    started = monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        build_programs(folder)
        stack.enter_context(pin_to_core(other))
        direct = stack.enter_context(run_upstream(other, folder))
        bench = Bench(direct, folder, other, seconds, stream_counts)
        figures: dict[str, Any] = {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "machine": describe_machine(),
            "versions": {**{name: version(name) for name in PACKAGES}, **peers.versions()},
            "seconds": seconds,
            "settings": dict(settings),
            "left_out": {},
            "direct": measure(bench, direct, UPSTREAM_MEASURES),
            "servers": {},
            "providers": {},
        }
        for name, start in peers.servers(settings).items():
            if only and name not in only:
                continue
            _print_progress(f"{name} ({monotonic() - started:.0f} s)")
            try:
                with start(core, direct.port, _subfolder(folder, name)) as server:
                    names = BARE_MEASURES if name == "bare" else tuple(MEASURES)
                    figures["servers"][name] = measure(bench, server, names)
            except NotStarted as error:
                if name == "thinkline":
                    raise
                figures["left_out"][name] = str(error)
        if not only or "providers" in only:
            _print_progress(f"providers ({monotonic() - started:.0f} s)")
            figures["providers"] = measure_providers(bench, core, folder, settings)
    figures["took_seconds"] = round(monotonic() - started)
    return figures


def measure_providers(bench: Bench, core: int, folder: Path, settings: Mapping[str, str]) -> dict[str, Any]:
    """Thinkline alone, a new process for each upstream's dialect."""
    figures = {}
    for name, extra_body in PROVIDERS.items():
        subfolder = _subfolder(folder, f"provider-{name}")
        all_settings = {**peers.provider_settings(bench.upstream.port, subfolder), **settings}
        with peers.thinkline(core, bench.upstream.port, subfolder, all_settings) as server:
            figures[name] = measure(bench, replace(server, extra_body=extra_body), PROVIDER_MEASURES)
    return figures


def _subfolder(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir()
    return path


def _print_progress(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="NAME=value", help="further settings of Thinkline's")
    parser.add_argument("--seconds", type=float, default=2.5, help="how long each figure is measured for")
    parser.add_argument("--only", action="append", default=[], choices=[*peers.servers({}), "providers"])
    parser.add_argument("--most", type=int, default=STREAM_COUNTS[-1], help="most streams at a time")
    parser.add_argument("--output", type=Path, help="where to, as JSON; unset: to stdout")
    parser.add_argument("--install", action="store_true", help="install the peers that are missing")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the children are ended
    failed = peers.install() if options.install else {}
    settings = dict(each.split("=", 1) for each in options.settings)
    figures = run(
        options.seconds, options.only, settings, tuple(step for step in STREAM_COUNTS if step <= options.most)
    )
    for name, reason in failed.items():
        if name in figures["left_out"]:
            figures["left_out"][name] += f" {reason}"
    text = json.dumps(figures, indent=1) + "\n"
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
