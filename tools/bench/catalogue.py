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

from tools.bench.measures import Bench, requests
from tools.bench.peers import thinkline
from tools.bench.processes import LOOPBACK, Server, compile_all, cores, pinned, upstream

CONNECTIONS = 16
SECONDS = 1.0
ROW = "  - {{name: gpt-4o-mini{0}, provider: openai, model: gpt-4o-mini, aliases: [alias{0}]}}\n"
LISTS = 20
GIVE_UP_SECONDS = 60


def file_of(path: Path, count: int) -> Path:
    """A models.yaml with this number of models, the last of which is asked."""
    numbers = [f"-{number}" for number in range(count - 1)]
    path.write_text("models:\n" + "".join(ROW.format(number) for number in [*numbers, ""]))
    return path


def get(server: Server, path: str) -> bytes:
    """The body of a small answer."""
    connection = HTTPConnection(LOOPBACK, server.port, timeout=GIVE_UP_SECONDS)
    try:
        connection.request("GET", path, headers=dict(server.headers))
        return connection.getresponse().read()
    finally:
        connection.close()


def chat(bench: Bench, server: Server) -> float:
    """Microseconds of CPU for a chat request that is not streamed."""
    found: float = requests(bench, server, CONNECTIONS)["cpu_us"]
    return found


def listed(server: Server) -> int:
    """How many models GET /v1/models lists."""
    return get(server, "/v1/models").count(b'"id":')


def listing(server: Server) -> tuple[float, float]:
    """Milliseconds for GET /v1/models: by the clock, and of CPU."""
    before, took = server.cpu(), []
    for _ in range(LISTS):
        began = perf_counter()
        get(server, "/v1/models")
        took.append(perf_counter() - began)
    return median(took) * 1000, (server.cpu() - before) / LISTS * 1000


def change(server: Server, path: Path) -> tuple[float, float]:
    """Seconds until a new model is listed, and the longest delay of a request meanwhile, in milliseconds."""
    count = listed(server) + 2  # its name and its alias
    began, longest = perf_counter(), 0.0
    path.write_text(path.read_text() + ROW.format("-new"))
    while listed(server) != count:
        if perf_counter() > began + GIVE_UP_SECONDS:
            raise RuntimeError("The change is not followed.")
        for _ in range(20):
            sent = perf_counter()
            get(server, "/health")
            longest = max(longest, perf_counter() - sent)
            sleep(0.002)
    return perf_counter() - began, longest * 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    core, other = cores()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        compile_all(folder)
        stack.enter_context(pinned(other))
        behind = stack.enter_context(upstream(other, folder))
        bench = Bench(behind, folder, other, SECONDS)
        paths = {count: file_of(folder / f"{count}.yaml", count) for count in (1, options.models)}
        servers = {
            count: stack.enter_context(thinkline(core, behind.port, folder, {"MODELS_FILE": str(path)}))
            for count, path in paths.items()
        }
        print("| models | GET /v1/models, ms | of CPU | CPU per chat request, us | change followed, s | held up, ms |")
        print("|---|---|---|---|---|---|")
        for server in servers.values():
            chat(bench, server)
        rounds = [
            {count: (*listing(each), chat(bench, each)) for count, each in servers.items()}
            for _ in range(options.rounds)
        ]
        for count, server in servers.items():
            clock, cpu, chats = map(median, zip(*(each[count] for each in rounds), strict=True))
            followed, held = change(server, paths[count])
            print(f"| {count} | {clock:.1f} | {cpu:.1f} | {chats:.0f} | {followed:.1f} | {held:.0f} |")


if __name__ == "__main__":
    main()
