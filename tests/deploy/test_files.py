"""Dockerfile, compose.yaml and the workflows, as the tools of their makers read them."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from config import names_a_secret_file
from tests.conftest import ROOT

pytestmark = pytest.mark.deploy

BIN = Path(sys.executable).parent


def assert_succeeds(*command: str) -> None:
    run = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_hadolint_finds_nothing() -> None:
    assert_succeeds("hadolint", "Dockerfile")


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.compose-spec", "compose.yaml"),
        ("vendor.github-workflows", ".github/workflows/ci.yaml"),
        ("vendor.dependabot", ".github/dependabot.yml"),
    ],
)
def test_the_schema_of_its_makers_holds(schema: str, file: str) -> None:
    assert_succeeds("check-jsonschema", "--builtin-schema", schema, file)


def test_workflows_are_pinned_and_may_do_little() -> None:
    assert_succeeds("zizmor", "--offline", "--no-progress", "--persona", "regular", ".github/workflows")
    for file in (ROOT / ".github/workflows").iterdir():
        for action in re.findall(r"uses: (\S+)", file.read_text()):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), f"{file.name} does not pin {action}"


def test_the_image_has_the_versions_that_are_tested() -> None:
    """deploy/requirements, by `make lock`: each extra and what it needs, with hashes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tested = _versions(ROOT / "requirements.txt")
    extras = re.search(r'^ARG EXTRAS="(.*)"$', (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert extras
    for name in ("base", *extras[1].split()):
        locked = _versions(ROOT / f"deploy/requirements/{name}.txt")
        wanted = [*project["dependencies"], *project["optional-dependencies"].get(name, [])]
        assert {re.split(r"[\[<>=]", each)[0] for each in wanted} <= locked.keys(), f"{name}: make lock"
        assert locked.items() <= tested.items(), f"{name}: make lock"


def _versions(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", file.read_text(), re.MULTILINE))


def test_compose_keeps_secrets_in_files(tmp_path: Path) -> None:
    """Each is made by deploy/secrets.sh, and none is in the environment."""
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy/secrets.sh", tmp_path / "deploy")
    for _ in range(2):  # what is there is kept
        subprocess.run(["sh", "deploy/secrets.sh"], cwd=tmp_path, check=True)
        found = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
        assert found == {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert {Path(each["file"]).name for each in compose["secrets"].values()} == found.keys()
    assert found["redis_password"].strip() in found["state_url"]
    assert found["database_password"].strip() in found["database_url"]
    assert oct((tmp_path / "secrets").stat().st_mode)[-3:] == "700"
    variables = compose["services"]["thinkline"]["environment"]
    files = [name for name in variables if name.endswith("_FILE")]
    assert all(names_a_secret_file(name) for name in files)
    assert {"API_KEY_FILE", "METRICS_KEY_FILE", "STATE_URL_FILE", "DATABASE_URL_FILE"} == set(files)


def test_compose_bounds_and_watches_every_service() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    dockerfile = (ROOT / "Dockerfile").read_text()
    for name, service in compose["services"].items():
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name
        assert "healthcheck" in service or (name == "thinkline" and "HEALTHCHECK" in dockerfile), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), f"{name} is open to others"
        assert service.get("profiles") or name == "thinkline"
    assert compose["networks"]["inside"] == {"internal": True}
    assert compose["services"]["redis"]["networks"] == compose["services"]["postgres"]["networks"] == ["inside"]


def test_grafana_and_prometheus_find_their_files() -> None:
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yaml").read_text())
    for name in prometheus["rule_files"]:
        assert (ROOT / "deploy/prometheus" / name).is_file()
    (job,) = prometheus["scrape_configs"]
    assert job["job_name"] == "thinkline"
    assert json.loads((ROOT / "deploy/grafana/thinkline.json").read_text())["panels"]
    sources = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yaml").read_text())
    assert [each["type"] for each in sources["datasources"]] == ["prometheus"]


def test_a_server_of_ones_own_takes_25_lines_each_with_a_check() -> None:
    block = re.search(r"```sh\n(.*?)```", (ROOT / "docs/operate/vm.md").read_text(), re.DOTALL)
    assert block
    lines = block[1].splitlines()
    assert len(lines) <= 25
    assert all(re.search(r"\S +# \S", line) for line in lines)
