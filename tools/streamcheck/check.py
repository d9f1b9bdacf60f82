"""What a check is: a named, pure function from a stream to the problems it finds."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple

from tools.streamcheck.stream import Stream

Severity = Literal["error", "warning"]
Status = Literal["pass", "warn", "fail", "skip"]
MOST_PROBLEMS = 5
OK = 200


class Problem(NamedTuple):
    """Something that is wrong, in one line."""

    severity: Severity
    text: str


class Need(IntEnum):
    """What must have come for a check to mean something; what is missing is another check's finding."""

    NOTHING = 0
    ANSWER = 1
    CHUNKS = 2
    CALLS = 3


class Skipped(Exception):
    """The check cannot be made; the message says why."""


Find = Callable[[Stream], Iterable[Problem]]


@dataclass(frozen=True)
class Check:
    """`about` says in one line what holds when it passes."""

    name: str
    about: str
    need: Need
    find: Find


@dataclass(frozen=True)
class Result:
    """What a check found. `note` says why it was skipped."""

    name: str
    about: str
    problems: tuple[Problem, ...] = ()
    note: str = ""

    @property
    def status(self) -> Status:
        """The worst of it."""
        if any(problem.severity == "error" for problem in self.problems):
            return "fail"
        return "warn" if self.problems else "skip" if self.note else "pass"


def check(name: str, need: Need = Need.CHUNKS) -> Callable[[Find], Check]:
    """Make a check of a function; its docstring says what it checks."""

    def make(find: Find) -> Check:
        return Check(name, (find.__doc__ or "").strip(), need, find)

    return make


def error(text: str) -> Problem:
    """A problem that breaks, or may break, a client."""
    return Problem("error", text)


def warning(text: str) -> Problem:
    """A problem that the clients we know survive."""
    return Problem("warning", text)


def run(checks: Sequence[Check], stream: Stream) -> list[Result]:
    """Each check's result."""
    return [_run(each, stream) for each in checks]


def _run(each: Check, stream: Stream) -> Result:
    if each.need > Need.NOTHING and stream.capture.status != OK:
        return Result(each.name, each.about, note="there is no 200 to look at")
    if each.need > Need.ANSWER and not stream.chunks:
        return Result(each.name, each.about, note="there are no chunks to look at")
    if each.need > Need.CHUNKS and not any(part.calls for part in stream.parts):
        return Result(each.name, each.about, note="no tool is called")
    try:
        return Result(each.name, each.about, limit(each.find(stream)))
    except Skipped as skipped:
        return Result(each.name, each.about, note=str(skipped))


def merge(runs: Sequence[Sequence[Result]]) -> list[Result]:
    """Several runs' results as one: all that any of them found. The runs have the same checks."""
    return [
        Result(
            same[0].name,
            same[0].about,
            limit(problem for result in same for problem in result.problems),
            next((result.note for result in same if result.note), ""),
        )
        for same in zip(*runs, strict=True)
    ]


def limit(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Each problem once, errors first, and only so many."""
    found = sorted(dict.fromkeys(problems), key=lambda problem: problem.severity)
    if len(found) <= MOST_PROBLEMS:
        return tuple(found)
    more = Problem(found[0].severity, f"and {len(found) - MOST_PROBLEMS} more")
    return (*found[:MOST_PROBLEMS], more)
