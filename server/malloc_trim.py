"""Returns freed memory to the system: glibc keeps what many threads have freed until malloc_trim(3) is called."""

import ctypes
import threading
from collections.abc import Callable
from time import sleep

TRIM_SECONDS = 20.0


def keep_trimmed() -> None:
    """Call malloc_trim every TRIM_SECONDS in a thread, where there is a glibc. The call releases the GIL."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        threading.Thread(target=_run, args=(trim,), name="memory", daemon=True).start()


def _run(trim: Callable[[int], int]) -> None:
    while True:
        sleep(TRIM_SECONDS)
        trim(0)
