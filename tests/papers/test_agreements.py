"""What is said twice is said alike."""

import re

from providers.common.conversation import OPENING
from tests.conftest import ROOT


def pins(path: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE))


def test_what_is_tested_is_what_runs() -> None:
    """Each package that is served with is tested with, in the same version."""
    served, tested = pins("requirements.txt"), pins("requirements-dev.txt")
    assert served
    assert {name: tested.get(name) for name in served} == served


def test_readme_says_what_a_user_is_made_to_say_who_has_not_spoken() -> None:
    papers = [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")]
    assert any(OPENING in paper.read_text(encoding="utf-8") for paper in papers)
    assert not any("(The conversation begins.)" in paper.read_text(encoding="utf-8") for paper in papers)
