"""The Helm chart, rendered by Helm itself and held to Kubernetes' own schemas, strictly. No cluster is needed."""

from importlib import import_module
from itertools import chain
from typing import Any

import pytest
import yaml

from config import Settings
from tests.conftest import ROOT

pytestmark = pytest.mark.deploy

CHART = ROOT / "deploy/helm/thinkline"
OLDEST, NEWEST = 29, 37
"""Minor versions of Kubernetes, with those of OKE: the chart's kubeVersion, and the newest that has schemas here."""
LEAST = {"image": {"repository": "registry.example/thinkline"}, "secret": {"name": "thinkline"}}
EVERYTHING = {
    "image": {"repository": "registry.example/thinkline", "digest": f"sha256:{'0' * 64}"},
    "imagePullSecrets": [{"name": "registry"}],
    "secret": {
        "external": {
            "enabled": True,
            "store": {"name": "vault"},
            "remote": {"API_KEY": "thinkline-key", "METRICS_KEY": "thinkline-metrics", "STATE_URL": "thinkline-redis"},
        }
    },
    "models": "models:\n  - name: fast\n",
    "serviceAccount": {"annotations": {"team": "voice"}, "workloadIdentity": True},
    "oci": {"region": "eu-frankfurt-1", "compartment": "ocid1.compartment.oc1..x"},
    "autoscaling": {"enabled": True},
    "service": {"type": "LoadBalancer", "oci": {"networkLoadBalancer": True, "private": True}},
    "ingress": {"enabled": True, "host": "voice.example.com", "tlsSecret": "voice-tls", "annotations": {"a": "b"}},
    "networkPolicy": {
        "fromNamespaces": [{"kubernetes.io/metadata.name": "ingress-nginx"}],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "redis"}}}], "ports": [{"port": 6379}]}],
    },
    "serviceMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
    "nodeSelector": {"pool": "voice"},
    "tolerations": [{"key": "voice", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "podAnnotations": {"a": "b"},
    "podLabels": {"c": "d"},
}
CREATED = {"image": LEAST["image"], "secret": {"create": {"API_KEY": "a-key", "OPENAI_API_KEY": "sk-1"}}}
VALUES = {"least": LEAST, "everything": EVERYTHING, "a secret of its own": CREATED}
CUSTOM = ("ExternalSecret", "ScaledObject", "ServiceMonitor", "PrometheusRule")
"""Kinds whose schemas are those of operators, and not among Kubernetes'."""


def render(values: dict[str, Any], **options: Any) -> dict[str, Any]:
    """kind -> manifest; "Dashboard" is its ConfigMap. Raises HelmError of the package."""
    with import_module("helm_python.chart").Chart.load(CHART) as chart:
        files = chart.render(values, name="voice", namespace="calls", **options)
    manifests = chain.from_iterable(
        yaml.safe_load_all(text) for name, text in files.items() if not name.endswith("NOTES.txt")
    )
    return {_kind(manifest): manifest for manifest in manifests if manifest}


def _kind(manifest: dict[str, Any]) -> str:
    return "Dashboard" if manifest["metadata"]["name"].endswith("-dashboard") else str(manifest["kind"])


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(import_module("helm_python.errors").HelmError) as caught:
        render(values)
    return str(caught.value)


def container(values: dict[str, Any]) -> dict[str, Any]:
    (found,) = render(values)["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def variables(values: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(values)["env"]}


def test_helm_finds_nothing_to_mend() -> None:
    report = import_module("helm_python.chart").lint(CHART, LEAST, strict=True)
    assert report["errors"] == []
    assert [each for each in report["messages"] if each["severity"] > 1] == []


@pytest.mark.parametrize("minor", range(OLDEST, NEWEST + 1))
@pytest.mark.parametrize("case", VALUES)
def test_kubernetes_takes_every_manifest(case: str, minor: int) -> None:
    manifests = render(VALUES[case])
    assert "Deployment" in manifests
    for kind, manifest in manifests.items():
        if kind not in CUSTOM:
            import_module("kubernetes_validate").validate(manifest, f"1.{minor}", strict=True)


def test_what_is_not_wanted_is_not_there() -> None:
    assert render(LEAST).keys() == {
        "Deployment",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    }


def test_the_pod_keeps_to_the_restricted_standard() -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    pod = render(EVERYTHING)["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (only,) = pod["containers"]
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all(volume.keys() & {"emptyDir", "secret", "configMap"} for volume in pod["volumes"])


def test_secrets_come_as_files_and_their_names_are_settings() -> None:
    for values in (EVERYTHING, CREATED):
        given = variables(values)
        files = {name: value for name, value in given.items() if name.endswith("_KEY_FILE") or name == "STATE_URL_FILE"}
        assert files == {name: f"/etc/thinkline/secrets/{name.removesuffix('_FILE')}" for name in files}
        assert len(files) > 1
    assert "a-key" not in str(render(CREATED)["Deployment"])


def test_the_settings_are_ones_that_the_service_reads() -> None:
    given = {name: value for name, value in variables(EVERYTHING).items() if not name.endswith("_FILE")}
    settings = Settings.load({"ENV_FILE": "/dev/null", **given})
    assert settings.auth_type == "WORKLOAD_IDENTITY"
    assert (settings.oci_region, settings.oci_compartment) == ("eu-frankfurt-1", "ocid1.compartment.oc1..x")
    assert settings.address == "0.0.0.0:8000"
    assert settings.log_format == "json"


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_probes_ask_what_the_service_answers(path: str, app_with: Any) -> None:
    probes = {name: probe["httpGet"]["path"] for name, probe in container(LEAST).items() if name.endswith("Probe")}
    assert probes == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}
    assert app_with(API_KEY="a-key").get(path).status_code == 200


def test_a_pod_is_given_longer_than_the_longest_turn() -> None:
    pod = render(LEAST)["Deployment"]["spec"]["template"]["spec"]
    graceful = float(variables(LEAST)["GRACEFUL_TIMEOUT"])
    assert graceful >= Settings().total_timeout
    assert pod["terminationGracePeriodSeconds"] > graceful + 10
    said = refusal({**LEAST, "settings": {"GRACEFUL_TIMEOUT": "400"}})
    assert "terminationGracePeriodSeconds must be more than" in said


def test_a_rollout_begins_with_the_next_pod() -> None:
    assert render(LEAST)["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_kedas_scaler_counts_calls_and_owns_the_number_of_replicas() -> None:
    manifests = render(EVERYTHING)
    assert "replicas" not in manifests["Deployment"]["spec"]
    scaled = manifests["ScaledObject"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == manifests["Deployment"]["metadata"]["name"]
    (trigger,) = scaled["triggers"]
    assert trigger["type"] == "prometheus"
    assert 'namespace="calls"' in trigger["metadata"]["query"]
    assert trigger["metadata"]["threshold"] == "200"


def test_rules_and_dashboard_are_those_of_the_project() -> None:
    manifests = render(EVERYTHING)
    assert manifests["PrometheusRule"]["spec"] == yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
    assert manifests["Dashboard"]["data"] == {"thinkline.json": (ROOT / "deploy/grafana/thinkline.json").read_text()}
    metric = manifests["ScaledObject"]["spec"]["triggers"][0]["metadata"]["query"].partition("{")[0]
    assert f'"{metric.removeprefix("sum(")}"' in (ROOT / "telemetry/metrics.py").read_text()


def test_prometheus_brings_the_key_of_the_metrics() -> None:
    manifests = render(EVERYTHING)
    (endpoint,) = manifests["ServiceMonitor"]["spec"]["endpoints"]
    secret = manifests["ExternalSecret"]["spec"]["target"]["name"]
    assert endpoint["authorization"]["credentials"] == {"name": secret, "key": "METRICS_KEY"}
    assert "METRICS_KEY_FILE" in variables(EVERYTHING)


def test_the_ingress_neither_buffers_nor_ends_a_silent_stream() -> None:
    annotations = render(EVERYTHING)["Ingress"]["metadata"]["annotations"]
    prefix = "nginx.ingress.kubernetes.io/"
    assert annotations[f"{prefix}proxy-buffering"] == "off"
    assert int(annotations[f"{prefix}proxy-read-timeout"]) > Settings().total_timeout
    assert annotations["a"] == "b"


def test_the_network_policy_lets_calls_in_and_providers_be_asked() -> None:
    for values, ports in ((LEAST, {53, 443}), (EVERYTHING, {53, 443, 12250, 6379})):
        spec = render(values)["NetworkPolicy"]["spec"]
        assert {port["port"] for rule in spec["egress"] for port in rule["ports"]} == ports
        assert [port["port"] for rule in spec["ingress"] for port in rule["ports"]] == ["http"]
    assert render(EVERYTHING)["NetworkPolicy"]["spec"]["ingress"][0]["from"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"secret": {"name": "s"}}, "image.repository is needed"),
        ({"image": LEAST["image"]}, "secret.name is needed"),
        ({**LEAST, "replica": 3}, "replica"),
        ({**LEAST, "replicas": 0}, "replicas"),
        ({**LEAST, "settings": {"OPENAI_API_KEY": "sk-1"}}, "OPENAI_API_KEY"),
        ({**LEAST, "settings": {"AWS_SECRET_ACCESS_KEY": "x"}}, "AWS_SECRET_ACCESS_KEY"),
        ({**LEAST, "settings": {"LOG-LEVEL": "x"}}, "LOG-LEVEL"),
        ({"image": {"repository": "r", "tag": "latest"}, "secret": {"name": "s"}}, "tag"),
        ({**LEAST, "ingress": {"enabled": True}}, "ingress.host is needed"),
        ({**LEAST, "secret": {"external": {"enabled": True}}}, "secret.external.store.name is needed"),
        ({**LEAST, "service": {"type": "loadbalancer"}}, "type"),
    ],
)
def test_a_mistake_in_the_values_is_named(values: dict[str, Any], said: str) -> None:
    assert said in refusal(values)


def test_the_same_values_give_the_same_manifests() -> None:
    assert render(EVERYTHING) == render(EVERYTHING, is_upgrade=True, revision=2)
