"""The version stands in pyproject.toml, and is the same wherever it shows."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, Served, environment

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_service_says_its_version(serve: Callable[..., Served], app_with: Callable[..., Any]) -> None:
    serve().logged(rf"Thinkline answers at \S+ with the provider demo, in version {re.escape(VERSION)}\.")
    client = app_with(API_KEY="a-key")
    assert client.get("/health").get_json() == {"status": "ok", "version": VERSION}
    assert client.get("/openapi.json").get_json()["info"]["version"] == VERSION


@pytest.mark.thorough
@pytest.mark.parametrize("command", ["app.py", "doctor.py"])
def test_a_command_says_its_version(command: str) -> None:
    run = subprocess.run(
        [sys.executable, command, "--version"], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    assert run.stdout == f"Thinkline {VERSION}\n"


def test_the_papers_speak_of_this_version() -> None:
    assert f"Version {VERSION}." in (ROOT / "README.md").read_text()
    assert f"\n## {VERSION} " in (ROOT / "CHANGELOG.md").read_text()
    chart = yaml.safe_load((ROOT / "deploy/helm/thinkline/Chart.yaml").read_text())
    assert chart["appVersion"] == VERSION
