"""docs/performance.json as the tables and the picture of docs/performance.md.

python -m tools.bench.report       draws docs/performance.svg; `make docs` writes the tables into the page
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent.parent / "docs"
FIGURES, PICTURE = DOCS / "performance.json", DOCS / "performance.svg"
TITLES: Mapping[str, str] = {
    "thinkline": "Thinkline",
    "nginx": "nginx",
    "portkey": "Portkey",
    "litellm": "LiteLLM",
    "naive": "naive proxy",
    "bare": "bare Flask view",
    "openai": "OpenAI",
    "anthropic": "Anthropic",
    "oci": "OCI",
    "bedrock-agent": "Bedrock agent",
}
BUSY_SHARE = 0.9
"""The share of their core above which the upstream and the callers may have been what limited a rate."""
NOT_MEASURED = "-"

Figures = Mapping[str, Any]
Cell = Callable[[Figures, Figures], str]


def format_number(value: float | None) -> str:
    """A number with three significant digits."""
    if value is None:
        return NOT_MEASURED
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def figure_at(figures: Figures, *path: str) -> Any:
    """The figure at a path of keys; None if it was not measured."""
    value: Any = figures
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _rate_cell(measure: str, key: str = "per_second") -> Cell:
    def cell(server: Figures, _: Figures) -> str:
        value = figure_at(server, measure, key)
        limited = value is not None and (figure_at(server, measure, "harness_share") or 0) > BUSY_SHARE
        return format_number(value) + r"\*" * limited

    return cell


def _figure_cell(*path: str) -> Cell:
    return lambda server, _: format_number(figure_at(server, *path))


def _added_cell(percentile: str) -> Cell:
    def cell(server: Figures, direct: Figures) -> str:
        return format_number(added_ms(server, direct, percentile))

    return cell


def added_ms(server: Figures, direct: Figures, percentile: str = "p50") -> float | None:
    """Milliseconds to the first token that are not the upstream's own."""
    through, own = (figure_at(each, "first_token", percentile) for each in (server, direct))
    return None if through is None or own is None else max(0.0, through - own)


def _transit_cell(server: Figures, _: Figures) -> str:
    for row in figure_at(server, "paced", "rows") or ():
        if row["streams"] == 100 and not row["failed"]:
            return f"{format_number(row['transit_ms']['p50'])} / {format_number(row['transit_ms']['p99'])}"
    return NOT_MEASURED


def _held_cell(server: Figures, _: Figures) -> str:
    held = figure_at(server, "paced", "held")
    if held is None:
        return NOT_MEASURED
    return f"{held:,} or more" if server["paced"]["rows"][-1]["streams"] == held else f"{held:,}"


def _hangup_cell(phase: str) -> Cell:
    def cell(server: Figures, _: Figures) -> str:
        if figure_at(server, "hangup") is None or "problem" in server["hangup"]:
            return NOT_MEASURED
        spread = server["hangup"][phase]
        return (
            "not within 5 s" if spread is None else f"{format_number(spread['p50'])} / {format_number(spread['max'])}"
        )

    return cell


STREAMED_CELLS: Mapping[str, Cell] = {
    "Added to the first token, ms, p50": _added_cell("p50"),
    "Added to the first token, ms, p99": _added_cell("p99"),
    "Short streams a second": _rate_cell("short_streams"),
    "CPU a short stream, us": _figure_cell("short_streams", "cpu_us"),
    "Burst tokens a second": _rate_cell("burst", "tokens_per_second"),
    "CPU a burst token, us": _figure_cell("burst", "cpu_us"),
    "Token transit at 100 streams, ms, p50 / p99": _transit_cell,
    "Streams held at 50 tokens a second": _held_cell,
    "Memory a stream, kB": _figure_cell("paced", "per_stream_kb"),
    "Freed after a hang-up, ms, mid-stream, p50 / worst": _hangup_cell("streaming_ms"),
    "Freed after a hang-up, ms, before the answer, p50 / worst": _hangup_cell("before_head_ms"),
}
ALL_CELLS: Mapping[str, Cell] = {
    "Requests a second, 64 connections": _rate_cell("requests_64"),
    "Requests a second, 1 connection": _rate_cell("requests_1"),
    "CPU a request, us, 64 connections": _figure_cell("requests_64", "cpu_us"),
    "CPU a request, us, 1 connection": _figure_cell("requests_1", "cpu_us"),
    **STREAMED_CELLS,
    "Memory idle, MB": _figure_cell("idle", "mb"),
}


def load() -> Figures:
    """The figures of the last whole run."""
    figures: Figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    return figures


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]])


def _compare(servers: Mapping[str, Figures], cells: Mapping[str, Cell], direct: Figures) -> str:
    head = ["", *(TITLES[name] for name in servers)]
    rows = ([title, *(cell(each, direct) for each in servers.values())] for title, cell in cells.items())
    return _table(head, rows)


def describe_run(figures: Figures) -> str:
    """The date, the machine, and the missing peers."""
    machine, versions = figures["machine"], figures["versions"]
    version_list = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [
        f"Measured on {figures['date']}, {figures['seconds']:g} s a figure, {figures['took_seconds']} s in all.",
        f"Machine: {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}.",
        f"Versions: {version_list}.",
    ]
    lines += [f"Settings: `{name}={value}`." for name, value in figures["settings"].items()]
    left_out = {name: " ".join(why.split())[-200:] for name, why in figures["left_out"].items()}
    lines += [f"Left out: {TITLES[name]}. {why}" for name, why in left_out.items()]
    for name, server in [*figures["servers"].items(), *figures["providers"].items()]:
        wrong = [(measure, each["problem"]) for measure, each in server.items() if "problem" in each]
        lines += [f"{TITLES[name]}, `{measure}`: not measured, {' '.join(why.split())[:200]}" for measure, why in wrong]
    return "\n".join(f"- {line}" for line in lines)


def table_of_peers(figures: Figures) -> str:
    """Thinkline beside its peers."""
    return _compare(figures["servers"], ALL_CELLS, figures["direct"])


def table_of_providers(figures: Figures) -> str:
    """Thinkline by the upstream's dialect."""
    return _compare(figures["providers"], STREAMED_CELLS, figures["direct"])


def table_of_stream_counts(figures: Figures) -> str:
    """How late tokens are, and how busy the core is, by the number of streams."""
    lines = list(_paced_lines(figures))
    steps = sorted({row["streams"] for _, rows in lines for row in rows})
    cells = ([title, *(_p99_cell(rows, step) for step in steps)] for title, rows in lines)
    return _table(["Token transit p99, ms (share of the core)", *(f"{step:,} streams" for step in steps)], cells)


def _paced_lines(figures: Figures) -> Iterator[tuple[str, Sequence[Figures]]]:
    for prefix, kind in (("", "servers"), ("Thinkline, ", "providers")):
        for name, server in figures[kind].items():
            if rows := figure_at(server, "paced", "rows"):
                yield prefix + TITLES[name], rows
    yield "no proxy", figure_at(figures["direct"], "paced", "rows") or ()


def _p99_cell(rows: Sequence[Figures], step: int) -> str:
    for row in rows:
        if row["streams"] == step:
            failed = f", {row['failed']} failed" if row["failed"] else ""
            return f"{format_number(row['transit_ms']['p99'])} ({row['cpu_share']:.0%}{failed})"
    return ""


def table_of_ratios(figures: Figures) -> str:
    """Ratios, which depend less on the machine than the figures do."""
    servers, providers, direct = figures["servers"], figures["providers"], figures["direct"]
    first = {name: added_ms(each, direct) for name, each in servers.items()}
    request = {name: figure_at(each, "requests_64", "cpu_us") for name, each in servers.items()}
    rate = {name: figure_at(each, "requests_64", "per_second") for name, each in servers.items()}
    token = {name: figure_at(each, "burst", "cpu_us") for name, each in [*servers.items(), *providers.items()]}
    tokens = {name: figure_at(each, "burst", "tokens_per_second") for name, each in servers.items()}
    lines = [
        ("CPU a request, times a bare Flask view's", request, "thinkline", "bare"),
        ("CPU a burst token, times nginx's", token, "thinkline", "nginx"),
        ("Burst tokens a second, times nginx's", tokens, "thinkline", "nginx"),
        ("Added to the first token, p50, times nginx's", first, "thinkline", "nginx"),
        ("CPU a burst token from Anthropic, times one passed through", token, "anthropic", "openai"),
        ("CPU a burst token from OCI, times one passed through", token, "oci", "openai"),
        ("CPU a burst token from a Bedrock agent, times one passed through", token, "bedrock-agent", "openai"),
        ("Requests a second, times Portkey's", rate, "thinkline", "portkey"),
        ("Requests a second, times LiteLLM's", rate, "thinkline", "litellm"),
        ("Requests a second, times the naive proxy's", rate, "thinkline", "naive"),
    ]
    return _table(["Ratio", ""], ([title, _ratio(of.get(one), of.get(other))] for title, of, one, other in lines))


def _ratio(one: float | None, other: float | None) -> str:
    return format_number(one / other) if one is not None and other else NOT_MEASURED


BLOCKS: Mapping[str, Callable[[Figures], str]] = {
    "measured": describe_run,
    "ratios": table_of_ratios,
    "beside_peers": table_of_peers,
    "by_provider": table_of_providers,
    "by_streams": table_of_stream_counts,
}


def draw(figures: Figures, path: Path) -> None:
    """Token transit by streams, and CPU a request and a token."""
    from matplotlib import rcParams, use  # noqa: PLC0415 - only the picture needs it

    use("svg")
    rcParams["svg.hashsalt"] = "thinkline"  # the same figures give the same file
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.5), layout="constrained")
    for title, rows in _paced_lines(figures):
        p99_by_streams = {row["streams"]: row["transit_ms"]["p99"] for row in rows if row["transit_ms"]["p99"]}
        style = ":" if title == "no proxy" else "--" if "," in title else "-"
        left.plot(list(p99_by_streams), list(p99_by_streams.values()), style, marker=".", label=title)
    left.axhline(100, color="grey", linewidth=0.5)
    left.set(xscale="log", yscale="log", xlabel="streams at 50 tokens a second", ylabel="token transit p99, ms")
    steps = sorted({row["streams"] for _, rows in _paced_lines(figures) for row in rows})
    left.set_xticks(steps, list(map(str, steps)))
    left.minorticks_off()
    left.legend(fontsize="x-small")
    panels = ((middle, "requests_64", "CPU a request, us"), (right, "burst", "CPU a burst token, us"))
    for axis, measure, title in panels:
        cpu_by_server = {TITLES[name]: figure_at(each, measure, "cpu_us") for name, each in figures["servers"].items()}
        cpu_by_server = {name: value for name, value in cpu_by_server.items() if value}
        bars = axis.barh(list(cpu_by_server), list(cpu_by_server.values()))
        axis.bar_label(bars, labels=list(map(format_number, cpu_by_server.values())), padding=3)
        axis.invert_yaxis()
        axis.set(title=title, xscale="log" if cpu_by_server else "linear")
        axis.margins(x=0.2)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Draw the picture."""
    draw(load(), PICTURE)


if __name__ == "__main__":
    main()
