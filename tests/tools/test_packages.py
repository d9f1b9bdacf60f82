"""The check of the packages' vulnerabilities and licences."""

import json
from typing import Any

import pytest

from tools import packages


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 AND MIT", True),
        ("Apache-2.0 OR BSD-3-Clause", True),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("Apache Software License; BSD License", True),
        ("GPL-3.0-or-later OR MIT", True),
        ("LGPL-3.0-only", True),
        ("GPL-3.0-or-later", False),
        ("AGPL-3.0-only", False),
        ("MIT AND GPL-3.0-or-later", False),
        ("MIT License; GNU Affero General Public License v3", False),
        ("UNKNOWN", False),
        ("", False),
    ],
)
def test_each_licence_has_to_be_allowed(
    licence: str, allowed: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [{"Name": "some-package", "Version": "1.0", "License": licence}]
    monkeypatch.setattr(packages, "_python", lambda _: json.dumps(found))
    assert packages.licences() == (not allowed)
    assert ("some-package 1.0 is under" in capsys.readouterr().out) is not allowed


SAFE = {"name": "safe", "version": "1.0", "vulns": []}
BAD = {"name": "bad", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("reported", "code", "said"),
    [
        ([SAFE], 0, "no known vulnerability"),
        ([SAFE, BAD], 1, "bad 1.0: PYSEC-1, mended by 1.1"),
        ([SAFE, UNKNOWN], 0, "skipped: unknown, which the index does not know"),
        ([BAD, UNKNOWN], 1, "bad 1.0: PYSEC-1"),
        ([UNKNOWN], 0, "skipped: the package index here has no advisory database"),
        (None, 0, "skipped: the advisory database cannot be reached from here"),
    ],
)
def test_a_vulnerability_fails_and_a_database_out_of_reach_is_told(
    reported: Any, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = "" if reported is None else json.dumps({"dependencies": reported})
    monkeypatch.setattr(packages, "_python", lambda _: answer)
    assert packages.vulnerabilities() == code
    assert said in capsys.readouterr().out
