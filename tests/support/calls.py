"""Many short calls beside streams that run for long, while something is done to what serves them."""

import http.client
import threading
import time
from typing import Self

from tests.conftest import until
from tests.support.frames import chat_body, completion, finish, post, streamed_text

WORDS = 200
AT_ONCE = 8
PAUSE = 0.1
"""Seconds between two calls of one caller, so that they last for as long as what happens meanwhile."""
HEADERS = {"Authorization": "Bearer a-key"}


class Calls:
    """`count` calls, half of them streamed, and `streams` that run all the while. `answers` holds what went wrong as
    well: a status, or the exception.
    """

    def __init__(self, port: int, count: int = 200, streams: int = 3) -> None:
        self.answers: list[object] = []
        self.heard: list[str] = []
        self._port, self._left, self._lock = port, iter(range(count)), threading.Lock()
        self._wanted = count, streams
        self._threads = [threading.Thread(target=self._listen, daemon=True) for _ in range(streams)]
        self._threads += [threading.Thread(target=self._call, daemon=True) for _ in range(AT_ONCE)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        until(lambda: len(self.answers) > 2 * AT_ONCE, "the first answers")
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for thread in self._threads if kind is None else ():
            thread.join(60)
        count, streams = self._wanted
        if kind is None:
            assert self.answers == [200] * count
            assert self.heard == ["stop"] * streams, "streams that were not heard to their end"

    def _call(self) -> None:
        while True:
            with self._lock:
                number = next(self._left, None)
            if number is None:
                return
            try:
                status, _, body = post(self._port, chat_body("hi", stream=number % 2 == 0), headers=HEADERS)
                if status == 200:
                    assert finish(body) == "stop" if number % 2 == 0 else completion(body)
                self.answers.append(status)
            except (OSError, http.client.HTTPException, AssertionError, ValueError) as error:
                self.answers.append(repr(error))
            time.sleep(PAUSE)

    def _listen(self) -> None:
        try:
            status, _, body = post(self._port, chat_body(f"say {WORDS} words", stream=True), headers=HEADERS)
            words = len(streamed_text(body).split()) if status == 200 else 0
            self.heard.append(finish(body) if words == WORDS else f"{status}: {words} words")
        except (OSError, http.client.HTTPException, AssertionError, StopIteration) as error:
            self.heard.append(repr(error))
