"""What a catalogue of ten thousand models costs: to list it, to ask one of them, and to take a change of it in.

    python bench/catalogue.py [--models 10000] [--rounds 5]

The same server with a catalogue of one model is measured beside it, each alone on one core, in turns.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import load
from processes import Server, cores, get, pinned, thinkline, upstream

CONNECTIONS = 16
REQUESTS = 2000
ROW = "  - {{name: gpt-4o-mini{0}, provider: openai, model: gpt-4o-mini, aliases: [alias{0}]}}\n"
STEP_SECONDS = 0.002


def file_of(path: Path, count: int) -> Path:
    """A models.yaml with so many models, the last of which is the one that is asked."""
    numbers = [f"-{number}" for number in range(count - 1)]
    path.write_text("models:\n" + "".join(ROW.format(number) for number in [*numbers, ""]))
    return path


def chat(server: Server) -> float:
    """Microseconds of CPU for a chat request that is not streamed."""
    before = server.cpu()
    result = load.requests(server.port, connections=CONNECTIONS, count=REQUESTS)
    if result.failed:
        raise RuntimeError(f"{result.failed} answers failed or did not come.")
    return (server.cpu() - before) / REQUESTS * 1e6


def listing(server: Server) -> tuple[float, int]:
    """Milliseconds for GET /v1/models, and how many models it lists."""
    began = perf_counter()
    body = get(server.port, "/v1/models")
    return (perf_counter() - began) * 1000, body.count(b'"id":')


def change(server: Server, path: Path, count: int) -> tuple[float, float]:
    """Seconds until a new model is listed, and the longest that a request was held up meanwhile, in milliseconds."""
    began, longest = perf_counter(), 0.0
    path.write_text(path.read_text() + ROW.format("-new"))
    give_up = began + 30
    while listing(server)[1] != count:
        if perf_counter() > give_up:
            raise RuntimeError("The change is not followed.")
        asked = perf_counter()
        while perf_counter() - asked < STEP_SECONDS * 50:
            sent = perf_counter()
            get(server.port, "/health")
            longest = max(longest, perf_counter() - sent)
    return perf_counter() - began, longest * 1000


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    core, other = cores()
    with tempfile.TemporaryDirectory() as folder, pinned(other), upstream(other) as behind:
        paths = {count: file_of(Path(folder) / f"{count}.yaml", count) for count in (1, options.models)}
        print("| models | GET /v1/models, ms | CPU per chat request, us | change followed, s | held up by it, ms |")
        print("|---|---|---|---|---|")
        with (
            thinkline(core, behind.port, {"MODELS_FILE": str(paths[1])}) as few,
            thinkline(core, behind.port, {"MODELS_FILE": str(paths[options.models])}) as many,
        ):
            servers = {1: few, options.models: many}
            for server in servers.values():
                chat(server)
            rounds = [
                {count: (listing(each)[0], chat(each)) for count, each in servers.items()}
                for _ in range(options.rounds)
            ]
            for count, server in servers.items():
                lists, chats = zip(*(each[count] for each in rounds), strict=True)
                followed, held = change(server, paths[count], listing(server)[1] + 2)
                print(f"| {count} | {median(lists):.1f} | {median(chats):.0f} | {followed:.1f} | {held:.0f} |")


if __name__ == "__main__":
    main()
