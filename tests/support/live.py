"""Watches /live: its events as they come."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests

from tests.conftest import Served


@contextmanager
def watching(app: Served, headers: dict[str, str] | None = None) -> Iterator[Any]:
    response = requests.get(f"http://127.0.0.1:{app.port}/live/events", headers=headers, stream=True, timeout=20)
    try:
        yield response
    finally:
        response.close()


def events(response: Any, name: str) -> Iterator[Any]:
    """The data of each event of that name."""
    event = ""
    for line in response.iter_lines(decode_unicode=True):
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: ") and event == name:
            yield json.loads(line.removeprefix("data: "))
