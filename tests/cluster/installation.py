"""Imago installed from the chart on a test cluster, and helpers for its tests."""

import base64
import contextlib
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from helm_python.config import Config

from devtools.kubernetes.access import Access
from devtools.kubernetes.binaries import find
from devtools.postgres import OWNER, RUNTIME
from devtools.s3 import ACCESS_KEY, BUCKET, SECRET_KEY

CHART = Path(__file__).parents[2] / "charts" / "imago"
NAMESPACE = "imago"
RELEASE = "imago"
TAG, NEXT_TAG = "test", "next"
WORKERS = ("exif", "ocr", "vision")
# Shorter than the chart's defaults, which are minutes. Scaling down must not be faster than the longest stage.
STAGE_SECONDS = 30
COOLDOWN_SECONDS = 10
POLLING_SECONDS = 2
MAX_OCR_PODS = 3


@dataclass(frozen=True)
class ApiAddress:
    """The URL of an API, in place of the API processes that `tests.faults.client` expects."""

    url: str


@dataclass
class Installation:
    """A release of the chart."""

    access: Access
    helm: Config
    values: dict[str, Any]
    address: str = ""
    installed_seconds: float = 0.0

    @property
    def apis(self) -> list[ApiAddress]:
        """The address of the API's Service."""
        return [ApiAddress(f"http://{self.address}")]

    @property
    def admin_key(self) -> str:
        """The administrator's key, from the Secret that the chart generated."""
        return self.secret(f"{RELEASE}-secrets", "admin-api-key")

    def secret(self, name: str, key: str, namespace: str = NAMESPACE) -> str:
        """Return one value of a Secret."""
        found = self.access.get("secret", name, namespace)
        assert found is not None, f"Secret {namespace}/{name} does not exist"
        return base64.b64decode(found["data"][key]).decode()

    def install(self) -> None:
        """Install the release and wait, as `helm install --wait` does."""
        started = time.monotonic()
        self.helm.install(str(CHART), RELEASE, self.values, wait="watcher", timeout=420)
        self.installed_seconds = time.monotonic() - started
        service = self.access.get("service", f"{RELEASE}-api", NAMESPACE)
        assert service is not None
        self.address = service["spec"]["clusterIP"]

    def upgrade(self, **more: Any) -> None:
        """Upgrade the release to the same chart with other values."""
        self.helm.upgrade(str(CHART), RELEASE, merged(self.values, more), wait="watcher", timeout=420)

    def upgrade_to(self, chart: Path) -> None:
        """Upgrade the release to another chart with the same values."""
        self.helm.upgrade(str(chart), RELEASE, reuse_values=True, wait="watcher", timeout=420)

    def rollback(self) -> None:
        """Roll back the release to its previous revision, as `helm rollback` does."""
        self.helm.rollback(RELEASE, wait="watcher", timeout=420)

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Return the pods of a component: api, worker-exif, operator and so on."""
        selector = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}"
        return self.access.list("pods", NAMESPACE, selector)

    def running(self, component: str) -> list[dict[str, Any]]:
        """Return the pods of a component that are ready and not terminating."""
        return [pod for pod in self.pods(component) if _ready(pod) and "deletionTimestamp" not in pod["metadata"]]

    def wait_idle(self, *, timeout: float = 240) -> None:
        """Wait until no worker has a pod."""
        self.access.wait_for(
            lambda: not any(self.pods(f"worker-{worker}") for worker in WORKERS), what="no worker", timeout=timeout
        )

    async def new_client(self, session: aiohttp.ClientSession, name: str, **more: Any) -> dict[str, Any]:
        """Create a client with the administrator's key, with limits that no test reaches."""
        body = {
            "name": name,
            "plan": "standard",
            "limits": {"requests_per_minute": 1_000_000, "burst": 100_000},
            **more,
        }
        headers = {"X-API-Key": self.admin_key}
        async with session.post(f"{self.apis[0].url}/auth/clients", json=body, headers=headers) as response:
            client: dict[str, Any] = await response.json()
            assert response.status == 201, client
            return client


@dataclass
class Timeline:
    """The desired and ready pods of Deployments over time."""

    namespace: str = NAMESPACE
    started: float = field(default_factory=time.monotonic)
    events: list[tuple[float, str, int, int]] = field(default_factory=list)

    def first(self, deployment: str, *, desired: int = 0, ready: int = 0, after: float = 0.0) -> float | None:
        """Return when a Deployment first had at least this many desired and ready pods, in seconds."""
        for at, name, event_desired, event_ready in self.events:
            if at >= after and name == deployment and event_desired >= desired and event_ready >= ready:
                return at
        return None

    def highest(self, deployment: str, *, after: float = 0.0) -> int:
        """Return the highest number of desired pods of a Deployment."""
        return max((desired for at, name, desired, _ in self.events if name == deployment and at >= after), default=0)

    def scaled_to_zero(self, deployment: str) -> float | None:
        """Return when a Deployment was last scaled to zero pods, in seconds."""
        zeros = [at for at, name, desired, ready in self.events if name == deployment and desired == ready == 0]
        return zeros[-1] if zeros else None

    def describe(self) -> str:
        """Return the changes as text, one per line."""
        lines, last = [], {}
        for at, name, desired, ready in self.events:
            if last.get(name) != (desired, ready):
                lines.append(f"{at:7.1f} s  {name}: {ready}/{desired}")
                last[name] = (desired, ready)
        return "\n".join(lines)


@contextlib.contextmanager
def watch_deployments(access: Access) -> Iterator[Timeline]:
    """Watch the Deployments of the release during the context."""
    timeline = Timeline()
    template = '{.metadata.name} {.spec.replicas} {.status.readyReplicas}{"\\n"}'
    command = [find("kubectl"), f"--kubeconfig={access.kubeconfig}", f"--namespace={NAMESPACE}"]
    command += ["get", "deployments", "--watch", f"--output=jsonpath={template}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            name, desired, *ready = line.split()
            now = time.monotonic() - timeline.started
            timeline.events.append((now, name, int(desired), int(ready[0]) if ready else 0))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield timeline
    finally:
        process.terminate()
        process.wait()
        reader.join(5)


@contextlib.contextmanager
def follow_warnings(access: Access, component: str) -> Iterator[Callable[[], list[str]]]:
    """Follow the logs of a component's pods during the context; yield a function that returns their warnings.

    The logs of a deleted pod cannot be read afterwards, so those of the current pods are followed to their end.
    """
    selector = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}"
    logs = [f"--namespace={NAMESPACE}", f"--selector={selector}", "--prefix", "--tail=-1"]
    command = [find("kubectl"), f"--kubeconfig={access.kubeconfig}", "logs", *logs, "--follow", "--since=1s"]
    with tempfile.TemporaryFile("w+") as followed:
        process = subprocess.Popen(command, stdout=followed, stderr=subprocess.DEVNULL)

        def read() -> list[str]:
            followed.seek(0)
            lines = [*followed.read().splitlines(), *access.kubectl("logs", *logs).splitlines()]
            return [line for line in dict.fromkeys(lines) if re.search(r'"level": ?"(warning|error)"', line)]

        try:
            yield read
        finally:
            process.terminate()
            process.wait()


def values(*, address: str, database_port: int, s3_port: int) -> dict[str, Any]:
    """Return the values: the bundled NATS, external PostgreSQL and S3, small resource requests, short intervals."""
    requests = {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}
    external = [{"ipBlock": {"cidr": f"{address}/32"}}]
    keda = {"minReplicas": 0, "fallbackReplicas": 1}
    return {
        "image": {"registry": "localhost", "tag": TAG},
        # A uid that no image contains, as platforms assign that choose uids themselves.
        "podSecurityContext": {"runAsUser": 54321, "runAsGroup": 54321, "fsGroup": 54321},
        "secrets": {"generate": True},
        # With two cores, processes may be stalled for seconds, which is not an outage of the database.
        "database": {"existingSecret": "database", "runtimeRole": RUNTIME, "timeout": 60},
        "nats": {
            "streamReplicas": 1,
            "bundled": {
                "enabled": True,
                "image": {"registry": "localhost", "repository": "nats", "tag": "imago"},
                "persistence": {"enabled": False},
            },
        },
        "storage": {"s3": {"bucket": BUCKET, "endpointUrl": f"http://{address}:{s3_port}", "existingSecret": "s3"}},
        "api": {"replicas": 2, **requests},
        "workers": {
            "exif": {
                "keda": {**keda, "maxReplicas": 2},
                "timeouts": {"thumbnail": STAGE_SECONDS, "exif": STAGE_SECONDS},
                **requests,
            },
            "ocr": {"keda": {**keda, "maxReplicas": MAX_OCR_PODS}, "timeouts": {"ocr": STAGE_SECONDS}, **requests},
            "vision": {"keda": {**keda, "maxReplicas": 3}, "timeouts": {"vision": STAGE_SECONDS}, **requests},
        },
        # The timeout of vision must be longer than twice that of a provider.
        "ai": {"timeout": STAGE_SECONDS // 3},
        "keda": {
            "pollingInterval": POLLING_SECONDS,
            "cooldownPeriod": COOLDOWN_SECONDS,
            "scaleDownSeconds": STAGE_SECONDS,
        },
        "operator": {"watchNamespaces": [NAMESPACE, "photos"], **requests},
        "networkPolicy": {
            "database": {"to": external, "port": database_port},
            "s3": {"to": external, "port": s3_port},
        },
    }


def secret(name: str, data: dict[str, str]) -> dict[str, Any]:
    """Return a Secret in the release's namespace."""
    meta = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": data}


def secrets(*, address: str, database: str, database_port: int) -> list[dict[str, Any]]:
    """Return the namespaces and the Secrets that have to exist before the installation."""

    def url(role: str) -> str:
        return f"postgresql+asyncpg://{role}@{address}:{database_port}/{database}"

    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "photos"}},
        secret("database", {"url": url(RUNTIME), "migration-url": url(OWNER)}),
        secret("s3", {"access-key": ACCESS_KEY, "secret-key": SECRET_KEY}),
    ]


def merged(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return values overridden by others, as Helm merges them."""
    result = dict(base)
    for key, value in more.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
