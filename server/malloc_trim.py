"""What glibc keeps of the memory that many threads have freed: it gives it back only when asked to (malloc_trim(3))."""

import ctypes
import threading
from collections.abc import Callable
from time import sleep

TRIM_SECONDS = 20.0


def keep_trimmed() -> None:
    """Ask for it now and then, where there is a glibc. Python goes on meanwhile."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        threading.Thread(target=_run, args=(trim,), name="memory", daemon=True).start()


def _run(trim: Callable[[int], int]) -> None:
    while True:
        sleep(TRIM_SECONDS)
        trim(0)
