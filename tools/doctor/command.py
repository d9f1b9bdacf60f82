"""The command line: a table or JSON, and an exit code."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict

from config import SettingError, Settings
from core.version import VERSION
from tools.doctor.examine import examine
from tools.doctor.finding import Finding, table, without

LONGEST = 600.0


def main(about: str | None, arguments: Sequence[str] | None = None) -> int:
    """Run the doctor; returns the exit code. `about` is the help's text."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="report for machines")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S", help="seconds for each provider (5)")
    parser.add_argument("--version", action="version", version=f"Thinkline {VERSION}")
    options = parser.parse_args(arguments)
    logging.getLogger("thinkline").addHandler(logging.NullHandler())  # problems become findings
    try:
        findings = examine(Settings.load(), min(max(0.1, options.timeout), LONGEST))
        code = int(any(each.state == "fail" for each in findings))
    except SettingError as error:
        findings, code = [without(Finding("settings", "fail", str(error), "mend it in .env or in the environment"))], 2
    report = {"ok": not code, "findings": [asdict(each) for each in findings]}
    sys.stdout.write((json.dumps(report, indent=2) if options.json else table(findings)) + "\n")
    return code
