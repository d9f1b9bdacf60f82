"""Are the locked packages free of known vulnerabilities, and under licences that this project may use?

python -m tools.packages     exit code 1 if not; what cannot be asked from here is output to be skipped
"""

import json
import re
import subprocess
import sys
from typing import Any

from config import ROOT

REQUIREMENTS = ROOT / "requirements.txt"
SECONDS = 120
PINNED = re.compile(r"^([a-z0-9][a-z0-9._-]*)==", re.MULTILINE)
ALLOWED = re.compile(
    r"MIT(-0| License)?|Apache(-2\.0| Software License)|BSD-[23]-Clause|(3-Clause )?BSD License|ISC( License \(ISCL\))?"
    r"|PSF-2\.0|Python Software Foundation License|Universal Permissive License \(UPL\)|Unlicense"
    # Licences of libraries that are used unchanged:
    r"|MPL-2\.0|Mozilla Public License 2\.0 \(MPL 2\.0\)|LGPL-3\.0-only"
    r"|GNU Lesser General Public License v2 or later \(LGPLv2\+\)"
)


def main() -> int:
    """Run both checks; returns the exit code."""
    return max(vulnerabilities(), licences())


def vulnerabilities() -> int:
    """Run pip-audit, which reads PyPI's advisory database."""
    command = ["-m", "pip_audit", "-r", str(REQUIREMENTS), "--no-deps", "--disable-pip", "--format", "json"]
    try:
        report: dict[str, Any] = json.loads(_python([*command, "--progress-spinner", "off"]))
    except (ValueError, subprocess.TimeoutExpired):
        return _report("pip-audit", "skipped: the advisory database cannot be reached from here")
    found = [package for package in report["dependencies"] if package.get("vulns")]
    for package in found:
        for each in package["vulns"]:
            mend = ", ".join(each["fix_versions"]) or "no version yet"
            _report("pip-audit", f"{package['name']} {package['version']}: {each['id']}, mended by {mend}")
    unknown = [package["name"] for package in report["dependencies"] if "skip_reason" in package]
    if len(unknown) == len(report["dependencies"]):
        return _report("pip-audit", "skipped: the package index here has no advisory database")
    if unknown:
        _report("pip-audit", f"skipped: {', '.join(unknown)}, which the index does not know")
    return int(bool(found)) or _report("pip-audit", "no known vulnerability")


def licences() -> int:
    """Check the licences in the metadata of the installed packages."""
    names = PINNED.findall(REQUIREMENTS.read_text(encoding="utf-8"))
    packages = json.loads(_python(["-m", "piplicenses", "--from", "mixed", "--format", "json", "--packages", *names]))
    wrong = [each for each in packages if not _is_allowed(each["License"])]
    for each in wrong:
        _report("licences", f"{each['Name']} {each['Version']} is under {each['License']!r}, which is not allowed")
    missing = {_plain(name) for name in names} - {_plain(each["Name"]) for each in packages}
    if missing:
        _report("licences", f"skipped: {', '.join(sorted(missing))}, not installed here")
    return int(bool(wrong)) or _report("licences", f"{len(packages)} packages, all under licences that are allowed")


def _is_allowed(expression: str) -> bool:
    """Whether all licences of an SPDX expression or of a list of classifiers are allowed, or one of those to choose."""
    flat = re.sub(r"\(([^()]* OR [^()]*)\)", r"\1", expression)
    parts = [re.split(r" OR ", part) for part in re.split(r" AND |; ", flat)]
    return all(any(ALLOWED.fullmatch(choice.strip()) for choice in choices) for choices in parts)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _python(arguments: list[str]) -> str:
    command = [sys.executable, *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS, cwd=ROOT)  # noqa: S603 - of this project
    return run.stdout


def _report(check: str, output: str) -> int:
    sys.stdout.write(f"{check}: {output}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
