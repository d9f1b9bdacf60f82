"""The dashboard and the alerts in deploy/ ask for metrics and labels that there are."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from telemetry.metrics import METRICS
from tests.conftest import ROOT

DASHBOARD = json.loads((ROOT / "deploy/grafana/thinkline.json").read_text())
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
PROMETHEUS_OWN = {"le", "instance", "job"}
SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
LABELS = {f"{each.name}{suffix}": {*each.labels, *PROMETHEUS_OWN} for each in METRICS for suffix in SUFFIXES[each.kind]}


def panels() -> Iterator[dict[str, Any]]:
    return (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def expressions() -> list[str]:
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    asked = [each["definition"] for each in DASHBOARD["templating"]["list"] if each["type"] == "query"]
    rules = [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]
    return [*shown, *asked, *rules]


def of(expression: str) -> tuple[set[str], set[str]]:
    """The metrics that an expression names, and the labels."""
    names = set(re.findall(r"thinkline_\w+", expression))
    matched = {
        label for group in re.findall(r"\{([^}]*)\}", expression) for label in re.findall(r"(\w+)\s*[=!]", group)
    }
    grouped = {
        label.strip() for group in re.findall(r"(?:by|on) \(([^)]*)\)", expression) for label in group.split(",")
    }
    return names, matched | grouped


@pytest.mark.parametrize("expression", expressions())
def test_what_is_asked_for_is_there(expression: str) -> None:
    names, labels = of(expression)
    assert names <= LABELS.keys()
    assert names or 'up{job="thinkline"}' in expression
    for name in names:
        assert labels <= LABELS[name], (name, labels)
    assert all(expression.count(opened) == expression.count(closed) for opened, closed in ("()", "[]", "{}"))


def test_each_metric_is_shown() -> None:
    shown = {name for expression in expressions() for name in of(expression)[0]}
    assert {each.name for each in METRICS} <= {re.sub("_(bucket|sum|count)$", "", name) for name in shown}


def test_panels_have_places_of_their_own() -> None:
    places = [(each["gridPos"]["x"], each["gridPos"]["y"]) for each in panels()]
    assert len(set(places)) == len(places)
    assert all(each["gridPos"]["x"] + each["gridPos"]["w"] <= 24 for each in panels())
    ids = [each["id"] for each in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_each_alert_says_what_is_wrong_and_how_bad_it_is() -> None:
    rules = [rule for group in ALERTS["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")
        used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        grouped = re.search(r"(?:sum|max) by \(([^)]*)\)", rule["expr"])
        known = {label.strip() for label in grouped[1].split(",")} if grouped else PROMETHEUS_OWN
        assert used <= known, rule["alert"]
