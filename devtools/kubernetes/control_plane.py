"""The control plane of a test cluster: etcd, the API server, the controller manager and the scheduler, as processes.

Without a node it needs neither root nor namespaces, and everything listens on free ports of 127.0.0.1. Objects are
stored, watched, validated and garbage-collected, and HPAs are evaluated; pods stay pending until `node.py` adds a node.
"""

import contextlib
import secrets
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import yaml

from devtools.kubernetes.access import CONTEXT, Access
from devtools.kubernetes.binaries import find
from devtools.kubernetes.daemons import Daemon
from devtools.kubernetes.pki import Authority, write_signing_key
from imago.nats.embedded import free_port

SERVICE_CIDR = "10.96.0.0/16"
# The first address of the range belongs to the Service `kubernetes`.
API_SERVICE = "10.96.0.1"
NODE_NAME = "node"

# Users of the API server outside pods; their groups determine their roles.
_USERS = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", ""),
    "scheduler": ("system:kube-scheduler", ""),
    "proxy": ("system:kube-proxy", ""),
    "node": (f"system:node:{NODE_NAME}", "system:nodes"),
}
# For a busy machine; on an idle one it takes a few seconds.
_READY_SECONDS = 180.0

# The audit log records the requests of programs in the cluster, without bodies: tests compare Roles with it.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts"]}, {"level": "None"}],
}


class ControlPlane(Access):
    """The processes and their files, in one directory. A node connects to the API server at `node_address`."""

    def __init__(self, directory: Path, *, node_address: str | None = None) -> None:
        for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
            find(name)
        self.directory = directory
        self.pki = directory / "pki"
        self.pki.mkdir(parents=True)
        self.port = free_port()
        self.node_address = node_address
        self._etcd_url = f"http://127.0.0.1:{free_port()}"
        self._tokens = {user: secrets.token_hex(16) for user in _USERS}
        self.authority = Authority(self.pki, "cluster")
        self.front_authority = Authority(self.pki, "front-proxy")
        self.audit_log = directory / "audit.log"
        (directory / "audit.yaml").write_text(yaml.safe_dump(_AUDIT_POLICY))
        self._write_identities()
        super().__init__(self.kubeconfig_for("admin"))
        self.etcd = Daemon("etcd", self._etcd_command(), directory)
        self.api_server = Daemon("kube-apiserver", self._api_server_command(), directory)
        self.controller_manager = Daemon("kube-controller-manager", self._controller_manager_command(), directory)
        scheduler = [find("kube-scheduler"), f"--kubeconfig={self.kubeconfig_for('scheduler')}"]
        self.scheduler = Daemon("kube-scheduler", [*scheduler, "--leader-elect=false", "--secure-port=0"], directory)

    @property
    def url(self) -> str:
        """The API server's URL on this machine."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def admin_token(self) -> str:
        """The bearer token of the cluster's administrator."""
        return self._tokens["admin"]

    def kubeconfig_for(self, user: str) -> Path:
        """Return the kubeconfig of a user: admin, controller-manager, scheduler, proxy, node."""
        return self.directory / f"{user}.kubeconfig"

    def start(self) -> None:
        """Start everything; wait until the API server is ready and namespaces get their default ServiceAccount."""
        self.etcd.start()
        self.etcd.wait(lambda: _answers(f"{self._etcd_url}/health"), timeout=30)
        self.start_api_server()
        self.controller_manager.start()
        self.scheduler.start()
        self.wait_for(
            lambda: self.get("serviceaccount", "default", "default"), what="the controller manager", timeout=60
        )

    def start_api_server(self) -> None:
        """Start or restart the API server, and wait until it is ready."""
        self.api_server.start()
        self.api_server.wait(self.ready, timeout=_READY_SECONDS)

    def ready(self) -> bool:
        """Whether the API server reports that it is ready."""
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        return _answers(f"{self.url}/readyz", self.admin_token, context)

    def stop(self) -> None:
        """Stop everything; etcd last, because an API server without it hangs."""
        for daemon in (self.scheduler, self.controller_manager, self.api_server, self.etcd):
            daemon.stop()

    def _write_identities(self) -> None:
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1", API_SERVICE]
        if self.node_address:
            names.append(self.node_address)
        self.authority.issue("kube-apiserver", hosts=names)
        self.authority.issue("kube-apiserver-kubelet-client", organization="system:masters")
        self.front_authority.issue("front-proxy-client")
        write_signing_key(self.pki / "service-accounts.key")
        rows = [f'{self._tokens[user]},{name},{user},"{groups}"' for user, (name, groups) in _USERS.items()]
        _write_private(self.pki / "tokens.csv", "\n".join(rows) + "\n")
        for user, token in self._tokens.items():
            cluster = {"server": self.url, "certificate-authority": str(self.authority.certificate)}
            config = {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": CONTEXT, "cluster": cluster}],
                "users": [{"name": user, "user": {"token": token}}],
                "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": user}}],
                "current-context": CONTEXT,
            }
            _write_private(self.kubeconfig_for(user), yaml.safe_dump(config))

    def _etcd_command(self) -> list[object]:
        peer = f"http://127.0.0.1:{free_port()}"
        return [
            find("etcd"),
            f"--data-dir={self.directory / 'etcd'}",
            f"--listen-client-urls={self._etcd_url}",
            f"--advertise-client-urls={self._etcd_url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            # Power failures are not tested.
            "--unsafe-no-fsync",
        ]

    def _api_server_command(self) -> list[object]:
        if self.node_address:
            # Pods connect to it at the node's address, through the Service `kubernetes`.
            reach = ["--bind-address=0.0.0.0", f"--advertise-address={self.node_address}"]
        else:
            reach = ["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"]
        return [
            find("kube-apiserver"),
            *reach,
            f"--etcd-servers={self._etcd_url}",
            f"--secure-port={self.port}",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.pki / 'service-accounts.key'}",
            f"--service-account-signing-key-file={self.pki / 'service-accounts.key'}",
            f"--tls-cert-file={self.pki / 'kube-apiserver.crt'}",
            f"--tls-private-key-file={self.pki / 'kube-apiserver.key'}",
            f"--client-ca-file={self.authority.certificate}",
            f"--requestheader-client-ca-file={self.front_authority.certificate}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            f"--proxy-client-cert-file={self.pki / 'front-proxy-client.crt'}",
            f"--proxy-client-key-file={self.pki / 'front-proxy-client.key'}",
            # Cluster addresses are not routed here, so extension API servers are reached by their endpoints.
            "--enable-aggregator-routing=true",
            f"--kubelet-certificate-authority={self.authority.certificate}",
            f"--kubelet-client-certificate={self.pki / 'kube-apiserver-kubelet-client.crt'}",
            f"--kubelet-client-key={self.pki / 'kube-apiserver-kubelet-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            f"--token-auth-file={self.pki / 'tokens.csv'}",
            "--allow-privileged=true",
            f"--audit-policy-file={self.directory / 'audit.yaml'}",
            f"--audit-log-path={self.audit_log}",
            "--profiling=false",
        ]

    def _controller_manager_command(self) -> list[object]:
        return [
            find("kube-controller-manager"),
            f"--kubeconfig={self.kubeconfig_for('controller-manager')}",
            f"--service-account-private-key-file={self.pki / 'service-accounts.key'}",
            f"--root-ca-file={self.authority.certificate}",
            f"--cluster-signing-cert-file={self.authority.certificate}",
            f"--cluster-signing-key-file={self.authority.key}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--secure-port=0",
            # 15 s by default, and tests wait for several rounds.
            "--horizontal-pod-autoscaler-sync-period=2s",
        ]


@contextlib.contextmanager
def control_plane(directory: Path, *, node_address: str | None = None) -> Iterator[ControlPlane]:
    """Run a control plane inside the context; raise Missing if a program is missing."""
    plane = ControlPlane(directory, node_address=node_address)
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()


def _answers(url: str, token: str = "", context: ssl.SSLContext | None = None) -> bool:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=2, context=context) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
