"""The report: for people, readable without colour too, and for machines."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

from tools.streamcheck.check import Result, Status
from tools.streamcheck.compare import differences, facts, names
from tools.streamcheck.judge import Judged
from tools.streamcheck.timing import milliseconds, sketch

WORDS: Mapping[Status, str] = {"pass": "pass", "warn": "WARN", "fail": "FAIL", "skip": "skip"}
COLOURS: Mapping[Status, str] = {"pass": "32", "warn": "33", "fail": "31", "skip": "2"}
BOLD = "1"
NAME_WIDTH = 22
CELL_WIDTH = 34


class Paint:
    """Colours, where they are wanted."""

    def __init__(self, *, on: bool) -> None:
        self._on = on

    def __call__(self, text: str, code: str) -> str:
        """The text in the colour of an ANSI code."""
        return f"\x1b[{code}m{text}\x1b[0m" if self._on else text

    def status(self, status: Status, width: int = 4) -> str:
        """A result's word, as wide as asked."""
        return self(WORDS[status].ljust(width), COLOURS[status])


def text(all_judged: Sequence[Judged], paint: Paint) -> str:
    """The whole report."""
    one = all_judged[0]
    lines = [""]
    if len(all_judged) == 1:
        lines += _single(one, paint)
    else:
        lines += _double(one, all_judged[1], paint)
    lines += ["", *_sketches(all_judged), "", _verdict(one, paint)]
    return "\n".join(lines)


def _single(judged: Judged, paint: Paint) -> Iterator[str]:
    yield paint(f"{judged.endpoint.url}  {judged.endpoint.model}", BOLD)
    yield ""
    for result in judged.results:
        yield f"  {paint.status(result.status)}  {result.name:<{NAME_WIDTH}}{result.about}"
        yield from _findings(result)
    yield ""
    for name, value in facts(judged).items():
        yield f"  {name:<{NAME_WIDTH}}{value}"


def _double(one: Judged, other: Judged, paint: Paint) -> Iterator[str]:
    heads = names([one, other])
    yield paint("  * differs".ljust(NAME_WIDTH + 4) + heads[0].ljust(CELL_WIDTH + 2) + heads[1], BOLD)
    for mine, theirs in zip(one.results, other.results, strict=True):
        mark = "  " if mine.status == theirs.status else "* "
        cells = paint.status(mine.status, CELL_WIDTH + 2) + paint.status(theirs.status)
        yield f"  {mark}{mine.name:<{NAME_WIDTH}}{cells}"
    yield ""
    theirs_of = facts(other)
    for name, value in facts(one).items():
        yield from _row(name, value, theirs_of[name])
    for judged, head in zip((one, other), heads, strict=True):
        found = [line for result in judged.results if result.problems for line in (result.name, *_findings(result))]
        if found:
            yield from ("", paint(head, BOLD), *(f"  {line}" for line in found))
    differing = list(differences(one, other))
    if differing:
        yield from ("", paint("Differences (no failures)", BOLD), *(f"  {line}" for line in differing))


def _row(name: str, one: str, other: str) -> Iterator[str]:
    """A row of the table, over as many lines as its cells need."""
    mark = "  " if one == other else "* "
    for left, right in zip_longest(_wrap(one), _wrap(other), fillvalue=""):
        yield f"  {mark}{name:<{NAME_WIDTH}}{left:<{CELL_WIDTH + 2}}{right}".rstrip()
        name, mark = "", "  "


def _wrap(cell: str) -> list[str]:
    lines = [""]
    for word in cell.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > CELL_WIDTH:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _findings(result: Result) -> Iterator[str]:
    for problem in result.problems:
        yield f"          {problem.severity}: {problem.text}"
    if result.note and not result.problems:
        yield f"          ({result.note})"


def _sketches(all_judged: Sequence[Judged]) -> Iterator[str]:
    longest = max(judged.timing.total for judged in all_judged)
    heads = names(all_judged) if len(all_judged) > 1 else ["the answer"]
    width = max(map(len, heads))
    for head, judged in zip(heads, all_judged, strict=True):
        yield f"  {head:<{width}}  {sketch([part.at for part in judged.stream.spoken], longest)}"
        if judged.stream.comments:
            yield f"  {'heartbeats':<{width}}  {sketch([frame.at for frame in judged.stream.comments], longest)}"


def _verdict(judged: Judged, paint: Paint) -> str:
    counts = {status: sum(result.status == status for result in judged.results) for status in WORDS}
    summary = ", ".join(f"{count} {_COUNTED[status]}" for status, count in counts.items() if count)
    status: Status = "fail" if judged.failed else "warn" if counts["warn"] else "pass"
    first = milliseconds(judged.first_token)
    return f"{paint.status(status)}  {judged.endpoint.name}: {summary}. First token after {first}."


_COUNTED: Mapping[Status, str] = {"pass": "passed", "warn": "with warnings", "fail": "failed", "skip": "skipped"}


def machine(all_judged: Sequence[Judged], code: int) -> dict[str, Any]:
    """The report as one JSON object. Times are milliseconds."""
    return {
        "ok": code == 0,
        "exit_code": code,
        "endpoints": [_endpoint(judged) for judged in all_judged],
        "differences": list(differences(*all_judged)) if len(all_judged) > 1 else [],
    }


def _endpoint(judged: Judged) -> dict[str, Any]:
    times = {name: _ms(seconds) for name, seconds in asdict(judged.timing).items()}
    return {
        "url": judged.endpoint.url,
        "model": judged.endpoint.model,
        "ok": not judged.failed,
        "checks": [
            {
                "name": result.name,
                "about": result.about,
                "status": result.status,
                "problems": [problem._asdict() for problem in result.problems],
                "note": result.note,
            }
            for result in judged.results
        ],
        "timing_ms": {**times, "first_token": _ms(judged.first_token)},
        "first_tokens_ms": [_ms(seconds) for seconds in judged.first_tokens],
        "facts": dict(facts(judged)),
        "text": judged.stream.text,
    }


def raw(all_judged: Sequence[Judged]) -> str:
    """Every frame of every run as a line of JSON: where from, when, and what stood there."""
    return "".join(
        json.dumps(
            {
                "endpoint": judged.endpoint.url,
                "run": number,
                "at_ms": _ms(frame.at),
                "kind": frame.kind,
                "complete": frame.complete,
                "frame": str(frame),
            },
            ensure_ascii=False,
        )
        + "\n"
        for judged in all_judged
        for number, stream in enumerate(judged.streams, start=1)
        for frame in stream.frames
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
