"""What is said where traces are wanted and their packages are missing."""

from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

import pytest

from core import extras
from tests.support.frames import chat_body


def test_missing_packages_are_named_and_the_service_runs(
    app_with: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr(
        extras, "find_spec", lambda package: None if package == "opentelemetry" else ModuleSpec(package, None)
    )
    extras.missing_extra.cache_clear()
    request.addfinalizer(extras.missing_extra.cache_clear)
    app = app_with(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")
    assert app.post("/v1/chat/completions", json=chat_body()).status_code == 200
    said = capfd.readouterr().err
    assert "An address for traces is set" in said
    assert "pip install '.[otel]'" in said


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"OTEL_SERVICE_NAME": "x"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_traced_unless_wanted(app_with: Callable[..., Any], settings: dict[str, str]) -> None:
    assert app_with(**settings).application.extensions["thinkline"].tracer is None
