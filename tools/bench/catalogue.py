"""The cost of a catalogue of ten thousand models: listing it, asking one model, and loading a change.

    python -m tools.bench.catalogue [--models 10000] [--rounds 5]

The same server with a catalogue of one model is measured beside it, each alone on one core, in turns.
"""

import argparse
import tempfile
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

from tools.bench.measures import Bench, measure_requests
from tools.bench.peers import thinkline
from tools.bench.processes import LOOPBACK, Server, build_programs, choose_cores, pin_to_core, run_upstream

CONNECTIONS = 16
SECONDS = 1.0
ROW = "  - {{name: gpt-4o-mini{0}, provider: openai, model: gpt-4o-mini, aliases: [alias{0}]}}\n"
LISTINGS = 20
TIMEOUT = 60


def write_models_file(path: Path, count: int) -> Path:
    """Write a models.yaml with this number of models, and return its path. Requests are for the last model."""
    numbers = [f"-{number}" for number in range(count - 1)]
    path.write_text("models:\n" + "".join(ROW.format(number) for number in [*numbers, ""]))
    return path


def fetch(server: Server, path: str) -> bytes:
    """The body of the answer to a GET request."""
    connection = HTTPConnection(LOOPBACK, server.port, timeout=TIMEOUT)
    try:
        connection.request("GET", path, headers=dict(server.headers))
        return connection.getresponse().read()
    finally:
        connection.close()


def measure_chat(bench: Bench, server: Server) -> float:
    """Microseconds of CPU for a chat request that is not streamed."""
    microseconds: float = measure_requests(bench, server, CONNECTIONS)["cpu_us"]
    return microseconds


def count_models(server: Server) -> int:
    """How many models GET /v1/models lists."""
    return fetch(server, "/v1/models").count(b'"id":')


def measure_listing(server: Server) -> tuple[float, float]:
    """Milliseconds for GET /v1/models: by the clock, and of CPU."""
    before, times = server.cpu_seconds(), []
    for _ in range(LISTINGS):
        started = perf_counter()
        fetch(server, "/v1/models")
        times.append(perf_counter() - started)
    return median(times) * 1000, (server.cpu_seconds() - before) / LISTINGS * 1000


def measure_change(server: Server, path: Path) -> tuple[float, float]:
    """Seconds until a new model is listed, and the longest delay of a request meanwhile, in milliseconds."""
    count = count_models(server) + 2  # its name and its alias
    started, longest = perf_counter(), 0.0
    path.write_text(path.read_text() + ROW.format("-new"))
    while count_models(server) != count:
        if perf_counter() > started + TIMEOUT:
            raise RuntimeError("The change is not followed.")
        for _ in range(20):
            sent = perf_counter()
            fetch(server, "/health")
            longest = max(longest, perf_counter() - sent)
            sleep(0.002)
    return perf_counter() - started, longest * 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    core, other = choose_cores()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        build_programs(folder)
        stack.enter_context(pin_to_core(other))
        model_server = stack.enter_context(run_upstream(other, folder))
        bench = Bench(model_server, folder, other, SECONDS)
        paths = {count: write_models_file(folder / f"{count}.yaml", count) for count in (1, options.models)}
        servers = {
            count: stack.enter_context(thinkline(core, model_server.port, folder, {"MODELS_FILE": str(path)}))
            for count, path in paths.items()
        }
        print("| models | GET /v1/models, ms | of CPU | CPU per chat request, us | change followed, s | held up, ms |")
        print("|---|---|---|---|---|---|")
        for server in servers.values():
            measure_chat(bench, server)
        rounds = [
            {count: (*measure_listing(each), measure_chat(bench, each)) for count, each in servers.items()}
            for _ in range(options.rounds)
        ]
        for count, server in servers.items():
            clock, cpu, chats = map(median, zip(*(each[count] for each in rounds), strict=True))
            followed, longest_delay = measure_change(server, paths[count])
            print(f"| {count} | {clock:.1f} | {cpu:.1f} | {chats:.0f} | {followed:.1f} | {longest_delay:.0f} |")


if __name__ == "__main__":
    main()
