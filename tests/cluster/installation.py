"""Imago installed from the chart on a test's cluster, and what tests do with it."""

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
# The chart's own are minutes, and pods may not be taken away in less than the longest stage takes.
STAGE_SECONDS = 30
COOLDOWN_SECONDS = 10
POLLING_SECONDS = 2
MOST_OCR_PODS = 3


@dataclass(frozen=True)
class Url:
    """Where an API answers; what `tests.faults.client` calls an API process."""

    url: str


@dataclass
class Installation:
    """A release of the chart, seen from outside."""

    access: Access
    helm: Config
    values: dict[str, Any]
    address: str = ""
    installed_seconds: float = 0.0

    @property
    def apis(self) -> list[Url]:
        """The one address of all API pods: that of their Service."""
        return [Url(f"http://{self.address}")]

    @property
    def admin_key(self) -> str:
        """The administrator's key, out of the Secret that the chart made."""
        return self.secret(f"{RELEASE}-secrets", "admin-api-key")

    def secret(self, name: str, key: str, namespace: str = NAMESPACE) -> str:
        """Return one value of a Secret."""
        found = self.access.get("secret", name, namespace)
        assert found is not None, f"there is no Secret {namespace}/{name}"
        return base64.b64decode(found["data"][key]).decode()

    def install(self) -> None:
        """Install the release, and wait as `helm install --wait` does."""
        began = time.monotonic()
        self.helm.install(str(CHART), RELEASE, self.values, wait="watcher", timeout=420)
        self.installed_seconds = time.monotonic() - began
        service = self.access.get("service", f"{RELEASE}-api", NAMESPACE)
        assert service is not None
        self.address = service["spec"]["clusterIP"]

    def upgrade(self, **more: Any) -> None:
        """Upgrade the release to the same chart with other values."""
        self.helm.upgrade(str(CHART), RELEASE, merged(self.values, more), wait="watcher", timeout=420)

    def upgrade_to(self, chart: Path) -> None:
        """Upgrade the release to another chart with the values that it has."""
        self.helm.upgrade(str(chart), RELEASE, reuse_values=True, wait="watcher", timeout=420)

    def rollback(self) -> None:
        """Take the release back to what it was before, as `helm rollback` does."""
        self.helm.rollback(RELEASE, wait="watcher", timeout=420)

    def pods(self, component: str) -> list[dict[str, Any]]:
        """The pods of a component: api, worker-exif, operator and so on."""
        selector = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}"
        return self.access.list("pods", NAMESPACE, selector)

    def running(self, component: str) -> list[dict[str, Any]]:
        """The pods of a component that are ready and not on their way out."""
        return [pod for pod in self.pods(component) if _ready(pod) and "deletionTimestamp" not in pod["metadata"]]

    def wait_idle(self, *, timeout: float = 240) -> None:
        """Wait until no worker has a pod."""
        self.access.wait_for(
            lambda: not any(self.pods(f"worker-{worker}") for worker in WORKERS), what="no worker", timeout=timeout
        )

    async def new_client(self, session: aiohttp.ClientSession, name: str, **more: Any) -> dict[str, Any]:
        """Make a client with the administrator's key; its limits are no limits."""
        body = {
            "name": name,
            "plan": "standard",
            "limits": {"requests_per_minute": 1_000_000, "burst": 100_000},
            **more,
        }
        headers = {"X-API-Key": self.admin_key}
        async with session.post(f"{self.apis[0].url}/auth/clients", json=body, headers=headers) as answer:
            made: dict[str, Any] = await answer.json()
            assert answer.status == 201, made
            return made


@dataclass
class Timeline:
    """What Deployments wanted and had, from second to second, while the context lasted."""

    namespace: str = NAMESPACE
    began: float = field(default_factory=time.monotonic)
    events: list[tuple[float, str, int, int]] = field(default_factory=list)

    def first(self, deployment: str, *, wanted: int = 0, ready: int = 0, after: float = 0.0) -> float | None:
        """Return the second at which a Deployment first wanted, or had, so many pods."""
        for at, name, had_wanted, had_ready in self.events:
            if at >= after and name == deployment and had_wanted >= wanted and had_ready >= ready:
                return at
        return None

    def most(self, deployment: str, *, after: float = 0.0) -> int:
        """Return the most pods that a Deployment wanted."""
        return max((wanted for at, name, wanted, _ in self.events if name == deployment and at >= after), default=0)

    def to_zero(self, deployment: str) -> float | None:
        """Return the second at which a Deployment last went to no pods at all."""
        zeros = [at for at, name, wanted, ready in self.events if name == deployment and wanted == ready == 0]
        return zeros[-1] if zeros else None

    def told(self) -> str:
        """The changes, one a line, for a person."""
        lines, last = [], {}
        for at, name, wanted, ready in self.events:
            if last.get(name) != (wanted, ready):
                lines.append(f"{at:7.1f} s  {name}: {ready}/{wanted}")
                last[name] = (wanted, ready)
        return "\n".join(lines)


@contextlib.contextmanager
def watched(access: Access) -> Iterator[Timeline]:
    """Watch the Deployments of the release while the context lasts."""
    timeline = Timeline()
    template = '{.metadata.name} {.spec.replicas} {.status.readyReplicas}{"\\n"}'
    command = [find("kubectl"), f"--kubeconfig={access.kubeconfig}", f"--namespace={NAMESPACE}"]
    command += ["get", "deployments", "--watch", f"--output=jsonpath={template}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            name, wanted, *ready = line.split()
            now = time.monotonic() - timeline.began
            timeline.events.append((now, name, int(wanted), int(ready[0]) if ready else 0))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield timeline
    finally:
        process.terminate()
        process.wait()
        reader.join(5)


@contextlib.contextmanager
def troubles(access: Access, component: str) -> Iterator[Callable[[], list[str]]]:
    """Follow the logs of a component's pods while the context lasts; gives a function that returns their warnings.

    Of a pod that is gone nothing can be read any more, so those there are now are followed to their end.
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
    """Return the values: the bundled NATS, PostgreSQL and S3 outside, small requests, short waits."""
    requests = {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}
    outside = [{"ipBlock": {"cidr": f"{address}/32"}}]
    keda = {"minReplicas": 0, "fallbackReplicas": 1}
    return {
        "image": {"registry": "localhost", "tag": TAG},
        # As on platforms that choose uids: one that no image knows.
        "podSecurityContext": {"runAsUser": 54321, "runAsGroup": 54321, "fsGroup": 54321},
        "secrets": {"generate": True},
        # On a machine of two cores everything but the network stands still at times; that is no outage.
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
            "ocr": {"keda": {**keda, "maxReplicas": MOST_OCR_PODS}, "timeouts": {"ocr": STAGE_SECONDS}, **requests},
            "vision": {"keda": {**keda, "maxReplicas": 3}, "timeouts": {"vision": STAGE_SECONDS}, **requests},
        },
        # A stage lasts longer than twice the patience for a provider.
        "ai": {"timeout": STAGE_SECONDS // 3},
        "keda": {
            "pollingInterval": POLLING_SECONDS,
            "cooldownPeriod": COOLDOWN_SECONDS,
            "scaleDownSeconds": STAGE_SECONDS,
        },
        "operator": {"watchNamespaces": [NAMESPACE, "photos"], **requests},
        "networkPolicy": {
            "database": {"to": outside, "port": database_port},
            "s3": {"to": outside, "port": s3_port},
        },
    }


def secret(name: str, data: dict[str, str]) -> dict[str, Any]:
    """Return a Secret in the release's namespace."""
    meta = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": data}


def secrets(*, address: str, database: str, database_port: int) -> list[dict[str, Any]]:
    """Return the namespace and the Secrets that whoever installs Imago makes beforehand."""

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
    """Return values with others laid over them, as Helm does it."""
    result = dict(base)
    for key, value in more.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _ready(pod: dict[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
