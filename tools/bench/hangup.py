"""How long after a caller leaves does the upstream notice, and what do a thousand of them leave behind?

python -m tools.bench.hangup [--runs 20] [--row 1000]
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.conftest import Served, served, until
from tests.emulators import OpenAIUpstream, ScriptedAnswer, certificate
from tests.support.callers import PHASES, Caller
from tests.support.frames import chat_body, post


def measure(port: int, upstream: OpenAIUpstream, phase: str) -> float:
    """Milliseconds from the caller's leaving to the upstream's noticing."""
    answer, stream, heard = PHASES[phase]
    count = len(upstream.received)
    upstream.enqueue(ScriptedAnswer(**answer))
    caller = Caller(port, chat_body(stream=stream))
    until(lambda: len(upstream.received) > count, "the request to arrive")
    caller.hears(heard)
    time.sleep(0.02)  # let the phase settle: what is measured is the leaving
    left = caller.leaves()
    return (upstream.received[count].wait_closed(10) - left) * 1000


def measure_backoff(app: Served, upstream: OpenAIUpstream) -> float:
    """Milliseconds from a caller's leaving between two attempts to the line's end (looked for every 5 ms)."""
    ended, failed = (app.log().count(what) for what in ("outcome=hung_up", ": retry "))
    upstream.enqueue(ScriptedAnswer(status=429, headers={"Retry-After": "20"}))
    caller = Caller(app.port, chat_body(stream=True))
    until(lambda: app.log().count(": retry ") > failed, "the first attempt to fail")
    left = caller.leaves()
    until(lambda: app.log().count("outcome=hung_up") > ended, "the line to end")
    return (time.monotonic() - left) * 1000


def memory(pid: int) -> int:
    """Resident KiB of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def state(app: Served) -> str:
    """What a leak would show in."""
    return f"{app.threads()} | {app.sockets()} | {memory(app.workers[0])}"


def leave_in_a_row(app: Served, upstream: OpenAIUpstream, count: int) -> None:
    """So many callers leave mid-stream, one after another; print what is left before and after."""
    print(f"\n| {count} hang-ups in a row | threads | sockets | KiB resident |\n|---|---|---|---|")
    upstream.always(ScriptedAnswer(texts=["word "] * 500, frame_delay=0.01))
    for name, callers in (("after 100 to warm up", 100), (f"after {count} more", count)):
        ended = app.log().count("outcome=hung_up") + callers
        for _ in range(callers):
            caller = Caller(app.port, chat_body(stream=True))
            caller.hears(b"word")
            caller.leaves()
        until(lambda ended=ended: app.log().count("outcome=hung_up") >= ended, "the lines to end")
        until(lambda: upstream.open_connections() <= 1, "the upstream's connections to end")
        print(f"| {name} | {state(app)} |", flush=True)


def main() -> None:
    """Print the tables, for a plain and for a TLS upstream."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--row", type=int, default=1000)
    arguments = parser.parse_args()
    print("| phase | upstream | median ms | worst ms |\n|---|---|---|---|")
    for tls in (False, True):
        settings: dict[str, object] = {"SSL_CERT_FILE": certificate()[0]} if tls else {}
        settings |= {"FIRST_EVENT_TIMEOUT": 60, "RETRY_BUDGET": 60}
        with (
            tempfile.TemporaryDirectory() as folder,
            OpenAIUpstream(tls=tls) as upstream,
            served(Path(folder) / "log", **upstream.settings(), **settings) as app,
        ):
            upstream.always(ScriptedAnswer())
            post(app.port, chat_body())
            ways = {phase: partial(measure, app.port, upstream, phase) for phase in PHASES}
            ways["in a backoff"] = partial(measure_backoff, app, upstream)
            for phase, way in ways.items():
                times = [way() for _ in range(arguments.runs)]
                wire = "TLS" if tls else "plain"
                print(f"| {phase} | {wire} | {statistics.median(times):.1f} | {max(times):.1f} |", flush=True)
            leave_in_a_row(app, upstream, arguments.row)


if __name__ == "__main__":
    main()
