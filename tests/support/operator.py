"""The operator as a process on a test cluster, with its own ServiceAccount and Imago's API, NATS and PostgreSQL."""

import asyncio
import base64
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import kopf
import psutil
import yaml

from devtools.kubernetes.access import Access
from devtools.kubernetes.binaries import Missing, module_directory
from devtools.photos import ROOT
from imago.core.jobs.stages import OPTIONAL_STAGES, server_workers
from imago.nats.embedded import free_port
from imago_operator.apis.kubernetes import Kubernetes, custom_path, namespace_path, secret_path
from tests.faults.platform import HEARTBEAT, Platform

OPERATOR_KEY = "the operator's key of the cluster tests"
ACCOUNT = "imago-operator"
RESYNC, SWEEP = 5, 5
CRD = ROOT / "k8s/crds/imago.dev_imagoclients.yaml"
SCALED_OBJECT_CRD = "config/crd/bases/keda.sh_scaledobjects.yaml"
RBAC_GROUP = "rbac.authorization.k8s.io"

T = TypeVar("T")
Object = dict[str, Any]


def credentials(kubeconfig: Path) -> kopf.ConnectionInfo:
    """Return the credentials in a kubeconfig of the test cluster."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    return kopf.ConnectionInfo(
        server=cluster["server"],
        ca_path=cluster.get("certificate-authority"),
        ca_data=cluster.get("certificate-authority-data"),
        token=user.get("token"),
        certificate_path=user.get("client-certificate"),
        certificate_data=user.get("client-certificate-data"),
        private_key_path=user.get("client-key"),
        private_key_data=user.get("client-key-data"),
    )


class Kube(Kubernetes):
    """An administrator's client of the cluster, faster than a kubectl for each request."""

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(timeout=60, credentials=lambda: credentials(kubeconfig))

    async def imc(self, namespace: str, name: str) -> Object | None:
        """Return an ImagoClient."""
        return await self.get(imc_path(namespace, name))

    async def make(self, namespace: str, name: str, **spec: Any) -> Object:
        """Create an ImagoClient."""
        return await self.create(imc_path(namespace), imc(name, **spec))

    async def change(self, namespace: str, name: str, **spec: Any) -> Object:
        """Change the spec of an ImagoClient by a merge patch."""
        return await self.patch(imc_path(namespace, name), {"spec": spec})

    async def annotate(self, namespace: str, name: str, annotations: dict[str, str | None]) -> Object:
        """Annotate an ImagoClient."""
        return await self.patch(imc_path(namespace, name), {"metadata": {"annotations": annotations}})

    async def drop(self, namespace: str, name: str) -> None:
        """Delete an ImagoClient without waiting for its finalizer."""
        await self.delete(imc_path(namespace, name))

    async def secret(self, namespace: str, name: str) -> dict[str, str] | None:
        """Return the decoded contents of a Secret."""
        found = await self.get(secret_path(namespace, name))
        return None if found is None else decoded(found)

    async def ready(self, namespace: str, name: str, *, reason: str = "Reconciled", timeout: float = 60) -> Object:
        """Wait until Ready has a reason for the current generation, and return the resource."""

        async def look() -> Object | None:
            found = await self.imc(namespace, name)
            seen = condition(found, "Ready") if found else {}
            current = (
                found is not None
                and (found.get("status") or {}).get("observedGeneration") == (found["metadata"]["generation"])
            )
            return found if current and seen.get("reason") == reason else None

        return await self.until(look, what=f"{name} to be {reason}", timeout=timeout, of=(namespace, name))

    async def gone(self, namespace: str, name: str, *, timeout: float = 60) -> None:
        """Wait until an ImagoClient is gone."""

        async def is_gone() -> bool:
            return await self.imc(namespace, name) is None

        await self.until(is_gone, what=f"{name} to be gone", timeout=timeout, of=(namespace, name))

    async def until(
        self, look: Callable[[], Awaitable[T]], *, what: str, timeout: float = 60, of: tuple[str, str] | None = None
    ) -> T:
        """Return the first true value; after the timeout, fail with `what` and the status of a resource."""
        deadline = time.monotonic() + timeout
        while True:
            value = await look()
            if value:
                return value
            if time.monotonic() > deadline:
                found = await self.imc(*of) if of else None
                raise AssertionError(
                    f"timed out after {timeout:g} s waiting for {what}; status: {(found or {}).get('status')}"
                )
            await asyncio.sleep(0.1)

    async def events(self, namespace: str, name: str) -> list[Object]:
        """Return the Events about an ImagoClient."""
        found = await self.get(f"/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.name={name}")
        return list((found or {}).get("items", ()))

    async def new_namespace(self, name: str) -> None:
        """Create a namespace."""
        await self.create(namespace_path("").rstrip("/"), {"metadata": {"name": name}})


def imc(name: str, *, annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    """Build an ImagoClient."""
    return {
        "apiVersion": "imago.dev/v1alpha1",
        "kind": "ImagoClient",
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": spec,
    }


def imc_path(namespace: str, name: str = "") -> str:
    """Return the path of an ImagoClient, or of all in a namespace."""
    return custom_path("imago.dev", "v1alpha1", namespace, "imagoclients", name)


def condition(body: Object, kind: str) -> Object:
    """Return a condition of a resource, or an empty object."""
    found = (body.get("status") or {}).get("conditions") or ()
    return next((entry for entry in found if entry["type"] == kind), {})


def decoded(secret: Object) -> dict[str, str]:
    """Return the decoded contents of a Secret."""
    return {name: base64.b64decode(value).decode() for name, value in (secret.get("data") or {}).items()}


def rules(release: str, watched: list[str]) -> list[Object]:
    """Return the operator's Roles: Secrets in watched namespaces, workers in its own, ImagoClients, some namespaces."""
    objects: list[Object] = []
    for namespace in watched:
        objects += _role(
            namespace,
            "imago-operator",
            release,
            [
                {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "patch", "delete"]},
                {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
            ],
        )
    workers = ["list", "create", "patch", "delete"]
    objects += _role(
        release,
        "imago-operator-workers",
        release,
        [
            {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": workers},
            {"apiGroups": ["keda.sh"], "resources": ["scaledobjects"], "verbs": workers},
        ],
    )
    objects += _cluster_role(
        "imago-operator-imagoclients",
        release,
        [
            {"apiGroups": ["imago.dev"], "resources": ["imagoclients"], "verbs": ["get", "list", "watch", "patch"]},
            {"apiGroups": ["imago.dev"], "resources": ["imagoclients/status"], "verbs": ["patch"]},
        ],
    )
    names = ["kube-system", *watched]
    objects += _cluster_role(
        "imago-operator-namespaces",
        release,
        [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"], "resourceNames": names}],
    )
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": release}}
    return [account, *objects]


def _cluster_role(name: str, release: str, granted: list[Object]) -> list[Object]:
    meta, version = {"name": name}, f"{RBAC_GROUP}/v1"
    ref = {"apiGroup": RBAC_GROUP, "kind": "ClusterRole", "name": name}
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": release}
    return [
        {"apiVersion": version, "kind": "ClusterRole", "metadata": meta, "rules": granted},
        {"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": meta, "roleRef": ref, "subjects": [subject]},
    ]


def _role(namespace: str, name: str, release: str, granted: list[Object]) -> list[Object]:
    meta, version = {"name": name, "namespace": namespace}, f"{RBAC_GROUP}/v1"
    ref = {"apiGroup": RBAC_GROUP, "kind": "Role", "name": name}
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": release}
    return [
        {"apiVersion": version, "kind": "Role", "metadata": meta, "rules": granted},
        {"apiVersion": version, "kind": "RoleBinding", "metadata": meta, "roleRef": ref, "subjects": [subject]},
    ]


def write_templates(folder: Path) -> Path:
    """Write templates of dedicated workers like those that the chart renders."""
    folder.mkdir()
    for kind in server_workers(OPTIONAL_STAGES):
        name, labels = (
            f"imago-worker-{kind}-$(NAME)",
            {"app.kubernetes.io/component": kind, "imago.dev/lane": "$(NAME)"},
        )
        container = {
            "name": "worker",
            "image": "localhost/imago:test",
            "args": ["worker", kind],
            "env": [{"name": "WORKER_LANES", "value": "$(LANE)"}],
        }
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        }
        trigger = {
            "type": "nats-jetstream",
            "metadata": {
                "natsServerMonitoringEndpoint": "nats.imago:8222",
                "account": "$G",
                "stream": "$(STREAM)",
                "consumer": kind,
                "lagThreshold": "10",
            },
        }
        scaled = {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "scaleTargetRef": {"name": name},
                "minReplicaCount": 0,
                "maxReplicaCount": "$(MAX_REPLICAS)",
                "triggers": [trigger],
            },
        }
        (folder / f"{kind}.yaml").write_text(yaml.safe_dump_all([deployment, scaled]))
    return folder


class OperatorProcess:
    """The operator's process, which tests may kill and start again."""

    def __init__(self, kubeconfig: Path, platform: Platform, directory: Path, **environment: str) -> None:
        self.log = directory / "operator.log"
        self.metrics_port, self.liveness_port = free_port(), free_port()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OPERATOR_", "NATS_"))}
        self.environment = {
            **inherited,
            "KUBECONFIG": str(kubeconfig),
            "NATS_URL": platform.nats.url,
            "HEARTBEAT": str(HEARTBEAT),
            "OPERATOR_API_KEY": OPERATOR_KEY,
            "OPERATOR_API_URL": platform.apis[0].url,
            "OPERATOR_RESYNC_SECONDS": str(RESYNC),
            "OPERATOR_SWEEP_SECONDS": str(SWEEP),
            "OPERATOR_LIVENESS_PORT": str(self.liveness_port),
            "METRICS_PORT": str(self.metrics_port),
            "LOG_LEVEL": "info",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def start(self, **environment: str) -> None:
        """Start the process without waiting for it."""
        assert not self.running
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "imago_operator.main"],
                env={**self.environment, **environment},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def wait_running(self, timeout: float = 120) -> None:
        """Wait until Kopf serves the liveness endpoint."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.liveness_port}/healthz", timeout=5):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            assert self.running, f"the operator exited while starting, see {self.log}"
            assert time.monotonic() < deadline, f"the operator was not running after {timeout:g} s, see {self.log}"
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill the process, as the failure of a node does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop the process; fail if it has to be killed after 20 s."""
        if self._process is None or not self.running:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the operator did not exit after SIGTERM, see {self.log}") from None

    def cpu_seconds(self) -> float:
        """Return the CPU time used so far."""
        assert self._process is not None
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    def log_text(self) -> str:
        """Return the whole log."""
        return self.log.read_text()


def install(cluster: Access, watched: list[str], release: str) -> None:
    """Install the CRDs, the namespaces and the operator's Roles."""
    scaled = module_directory("keda") / SCALED_OBJECT_CRD
    if not scaled.is_file():
        raise Missing("KEDA's CRDs are missing: run `hack/cluster-binaries.sh keda`")
    cluster.apply(manifest=CRD)
    cluster.apply(manifest=scaled)
    names = [release, *watched]
    cluster.apply(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names))
    cluster.apply(*rules(release, watched))
    cluster.kubectl("wait", "--for=condition=Established", "crd/imagoclients.imago.dev", "--timeout=60s")
