"""Packages that an installation may lack: what needs one says which, and the rest goes on without."""

import subprocess
import sys
import tomllib
from typing import Any

import pytest

from core.extras import missing_extra
from providers import PACKAGES
from tests.conftest import ROOT, environment

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
OCI, AWS, REDIS = ("oci",), ("boto3", "botocore", "s3transfer"), ("redis",)
HIDE = "import sys; sys.modules.update(dict.fromkeys({hidden!r}))\n"
ASK = """
import app, logging
client = app.create_app().test_client()
app.log_start(client.application.extensions["thinkline"].catalogue, "http://127.0.0.1:8000", app.Settings.load())
print(client.get("/v1/providers").get_json()["default"])
for provider in {providers!r}:
    body = {{"provider": provider, "messages": [{{"role": "user", "content": "Hi"}}]}}
    answer = client.post("/v1/chat/completions", json=body)
    print(answer.status_code, answer.get_json().get("error", {{}}).get("message"))
"""
DOCTOR = "import doctor, sys; from tools.doctor.command import main; sys.exit(main('', []))"


def python(code: str, hidden: tuple[str, ...], **settings: Any) -> subprocess.CompletedProcess[str]:
    """A new interpreter that cannot find these packages."""
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(hidden=hidden) + code],
        cwd=ROOT,
        env=environment(DEMO_PACE_MS=0, **settings),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.thorough
def test_it_starts_and_answers_without_any_extra() -> None:
    run = python(ASK.format(providers=["demo"]), OCI + AWS + REDIS)
    assert run.stdout == "demo\n200 None\n", run.stderr


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("hidden", "extra", "provider", "settings"),
    [
        (OCI, "oci", "oci", {"OCI_API_KEY": "a-key", "OCI_REGION": "us-chicago-1"}),
        (AWS, "aws", "bedrock", {"AGENT_ID": "AGENT12345", "AGENT_ALIAS_ID": "ALIAS12345", "AWS_REGION": "us-east-1"}),
    ],
)
def test_a_provider_without_its_package_says_which_extra_to_install(
    hidden: tuple[str, ...], extra: str, provider: str, settings: dict[str, str]
) -> None:
    """In the answer to who asks for it, in the log of the start, and instead of the start where it is the default."""
    run = python(ASK.format(providers=[provider, "demo"]), hidden, PROVIDER_NAME="demo", **settings)
    _, refused, answered = run.stdout.splitlines()
    assert refused.startswith("400 ")
    assert answered == "200 None"
    for said in (refused, run.stderr):
        assert f"pip install '.[{extra}]'" in said
    run = python("import app; app.main()", hidden, PROVIDER_NAME=provider, PORT=0, **settings)
    assert run.returncode == 1
    assert f"pip install '.[{extra}]'" in run.stderr
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.thorough
def test_redis_without_its_package_stops_the_start() -> None:
    run = python("import app; app.main()", REDIS, STATE_URL="redis://:secret@127.0.0.1:6379/0", PORT=0)
    assert run.returncode == 1
    assert "STATE_URL" in run.stderr
    assert "pip install '.[redis]'" in run.stderr
    assert "secret" not in run.stderr


@pytest.mark.thorough
def test_the_doctor_needs_no_extra() -> None:
    run = python(DOCTOR, OCI + AWS + REDIS, OCI_API_KEY="a-key", OCI_REGION="us-chicago-1", OPENAI_API_KEI="sk-1")
    assert "pip install '.[oci]'" in run.stdout, run.stderr
    assert "OPENAI_API_KEY may be meant" in run.stdout


def test_extras_are_those_of_the_project() -> None:
    assert {extra for extra, _ in PACKAGES.values()} | {"redis"} <= EXTRAS.keys()
    assert not missing_extra("oci", "oci")
    assert "'.[oci]'" in missing_extra("oci", "no_such_package")
