"""The node of the other tests: pods run, resolve names, and are reached through their Service."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from devtools.kubernetes.access import Access

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
SCALED = "work"


def _nats(namespace: str) -> list[dict[str, Any]]:
    labels = {"app": "nats"}
    container = {
        "name": "nats",
        "image": "localhost/nats:imago",
        "imagePullPolicy": "IfNotPresent",
        "args": ["-js", "-sd", "/data", "-m", "8222"],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8222}, "periodSeconds": 1},
        "securityContext": RESTRICTED,
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod = {"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]}
    meta = {"name": "nats", "namespace": namespace}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {
                "selector": labels,
                "ports": [{"name": "client", "port": 4222}, {"name": "monitor", "port": 8222}],
            },
        },
    ]


def _ready(access: Access, deployment: str, namespace: str) -> int:
    found = access.get("deployment", deployment, namespace)
    ready: int = found["status"].get("readyReplicas", 0) if found else 0
    return ready


@pytest.fixture
def nats(pods: Access, namespace: str) -> Iterator[str]:
    """The namespace of a NATS server in a pod, with Pod Security `restricted`."""
    pods.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    pods.apply(*_nats(namespace))
    pods.wait_for(lambda: _ready(pods, "nats", namespace), what="the pod of NATS to be ready", timeout=120)
    return namespace


def test_a_pod_is_reached_through_its_service(pods: Access, nats: str) -> None:
    path = f"/api/v1/namespaces/{nats}/services/nats:8222/proxy/varz"
    assert json.loads(pods.kubectl("get", "--raw", path))["jetstream"]["config"]["store_dir"].startswith("/data")


def test_the_output_of_a_pod_is_in_its_log(pods: Access, nats: str) -> None:
    assert "Server is ready" in pods.kubectl("logs", "deployment/nats", f"--namespace={nats}")
