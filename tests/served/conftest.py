"""What several modules of served tests share."""

from collections.abc import Iterator

import pytest

from tests.emulators import OpenAIUpstream


@pytest.fixture(scope="module")
def shared_upstream() -> Iterator[OpenAIUpstream]:
    """One emulated OpenAI for all tests of a module, behind an app that they share too."""
    with OpenAIUpstream() as server:
        yield server
