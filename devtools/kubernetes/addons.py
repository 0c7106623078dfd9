"""Common add-ons of a cluster: DNS for Services, and KEDA from the manifests of its version."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from devtools.kubernetes.access import Access
from devtools.kubernetes.binaries import module_directory
from devtools.kubernetes.node import DNS_SERVICE

# The names of the locally built images, as in `images.py`.
_COREDNS_IMAGE = "localhost/coredns:imago"
_KEDA = {"keda-operator": "ghcr.io/kedacore/keda", "keda-adapter": "ghcr.io/kedacore/keda-metrics-apiserver"}
# KEDA's default installation without the admission webhooks, which are a third program.
_KEDA_PARTS = ("crd", "general", "rbac", "manager", "metrics-server", "service_account")


def install_dns(access: Access) -> None:
    """Install CoreDNS for `cluster.local`, and wait until it responds."""
    meta = {"name": "coredns", "namespace": "kube-system"}
    labels = {"k8s-app": "kube-dns"}
    read = ["list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
    ]
    corefile = ".:53 {\n  errors\n  ready\n  cache 2\n  kubernetes cluster.local in-addr.arpa {\n    ttl 2\n  }\n}\n"
    container = {
        "name": "coredns",
        "image": _COREDNS_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        # Without a CPU request it would be starved on a busy node, and names would not resolve.
        "resources": {"requests": {"cpu": "200m", "memory": "64Mi"}},
        # It binds a port below 1024.
        "securityContext": {"runAsUser": 0},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
    }
    pod = {
        "serviceAccountName": "coredns",
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
        "tolerations": [{"operator": "Exists"}],
        # It must not send its own queries to itself.
        "dnsPolicy": "Default",
    }
    ports = [{"name": protocol.lower(), "port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    group = "rbac.authorization.k8s.io"
    access.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": "coredns"}, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "coredns"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "coredns"},
            "subjects": [{"kind": "ServiceAccount", **meta}],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"Corefile": corefile}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
            "spec": {"clusterIP": DNS_SERVICE, "selector": labels, "ports": ports},
        },
    )
    access.wait_for(lambda: _available(access, "coredns", "kube-system"), what="CoreDNS to be ready", timeout=60)


def install_keda(access: Access, directory: Path) -> None:
    """Install KEDA's operator and metrics adapter, and wait until the API server serves external metrics."""
    shutil.copytree(module_directory("keda") / "config", directory / "config")
    first_container = "/spec/template/spec/containers/0"
    quicker = [
        {"op": "replace", "path": f"{first_container}/imagePullPolicy", "value": "IfNotPresent"},
        {"op": "replace", "path": f"{first_container}/readinessProbe/initialDelaySeconds", "value": 1},
    ]
    # There is no webhook that needs the certificate authority.
    webhooks = [{"op": "add", "path": f"{first_container}/args/-", "value": "--enable-webhook-patching=false"}]
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"config/{part}" for part in _KEDA_PARTS],
        "images": [
            {"name": theirs, "newName": f"localhost/{ours}", "newTag": "imago"} for ours, theirs in _KEDA.items()
        ],
        "patches": [
            {"target": {"kind": "Deployment"}, "patch": yaml.safe_dump(quicker)},
            {"target": {"kind": "Deployment", "name": "keda-operator"}, "patch": yaml.safe_dump(webhooks)},
        ],
    }
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    rendered = directory / "keda.yaml"
    rendered.write_text(access.kubectl("kustomize", str(directory)))
    # The CRDs and the namespace first, because the other objects need them.
    documents = list(yaml.safe_load_all(rendered.read_text()))
    first = [document for document in documents if document["kind"] in ("CustomResourceDefinition", "Namespace")]
    access.apply(*first)
    access.apply(*(document for document in documents if document not in first))
    access.wait_for(lambda: _available(access, "keda-operator", "keda"), what="KEDA's operator", timeout=120)
    access.wait_for(lambda: _available(access, "keda-metrics-apiserver", "keda"), what="KEDA's adapter", timeout=120)
    metrics = "/apis/external.metrics.k8s.io/v1beta1"
    access.wait_for(lambda: access.kubectl("get", "--raw", metrics), what="external metrics to be served", timeout=120)


def _available(access: Access, deployment: str, namespace: str) -> bool:
    found: dict[str, Any] | None = access.get("deployment", deployment, namespace)
    return found is not None and found["status"].get("availableReplicas", 0) > 0
