"""The timing plot: how the text grew, and when each frame came."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import accumulate
from typing import Any

from tools.streamcheck.compare import names
from tools.streamcheck.judge import Judged

INCHES = (10.0, 5.0)
COLOURS = ("#0b6e4f", "#c8553d")


def available() -> bool:
    """Whether there is a library to plot with."""
    return find_spec("matplotlib") is not None


def save(all_judged: Sequence[Judged], path: str) -> None:
    """Write the plot; the file's name says in which format. Raises OSError and ValueError."""
    figure: Any = import_module("matplotlib.figure").Figure(figsize=INCHES, layout="constrained")
    text, frames = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    heads = names(all_judged)
    for row, (judged, colour) in enumerate(zip(all_judged, COLOURS, strict=False)):
        at = [part.at * 1000 for part in judged.stream.spoken]
        grown = list(accumulate(part.size for part in judged.stream.spoken))
        text.step([0.0, *at], [0, *grown], where="post", color=colour, label=heads[row])
        frames.eventplot([frame.at * 1000 for frame in judged.stream.frames], lineoffsets=row, color=colour)
        if judged.timing.first_token is not None:
            text.axvline(judged.timing.first_token * 1000, color=colour, linestyle=":", linewidth=1)
    text.set_ylabel("characters")
    text.set_title("The answer over time; dotted: first token")
    text.legend(loc="upper left")
    frames.set_xlabel("ms since the request")
    frames.set_yticks(range(len(all_judged)), heads)
    frames.invert_yaxis()
    frames.set_title("Frames", fontsize="medium")
    figure.savefig(path)
