"""A node of a control plane: containerd, kubelet and kube-proxy, in the namespaces that `namespaces.py` creates."""

import contextlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil
import yaml

from devtools.kubernetes.access import KubectlError
from devtools.kubernetes.binaries import Missing, find
from devtools.kubernetes.control_plane import NODE_NAME, ControlPlane
from devtools.kubernetes.daemons import Daemon
from devtools.kubernetes.images import pause_image
from devtools.kubernetes.layers import Image, write_archive
from devtools.kubernetes.namespaces import NODE_ADDRESS, cgroup_name
from imago.nats.embedded import free_port

POD_CIDR = "10.244.0.0/24"
DNS_SERVICE = "10.96.0.10"
PAUSE_IMAGE = "localhost/pause:imago"
_CNI_PLUGINS = Path("/usr/lib/cni")
_ENOUGH_MEMORY = 10 * 2**30


class Node:
    """The only node of a test cluster. Images come from archives and are never pulled."""

    def __init__(self, plane: ControlPlane) -> None:
        if not (_CNI_PLUGINS / "ptp").is_file():
            raise Missing("no CNI plugins in /usr/lib/cni: run `hack/cluster-packages.sh`")
        find("runc")
        find("ctr")
        self._plane = plane
        self._directory = plane.directory / "node"
        self._directory.mkdir()
        self._socket = self._directory / "containerd.sock"
        self.containerd = Daemon("containerd", [find("containerd"), "-c", self._write_containerd()], self._directory)
        self.kubelet = Daemon("kubelet", self._kubelet_command(), self._directory)
        self.proxy = Daemon("kube-proxy", [find("kube-proxy"), f"--config={self._write_proxy()}"], self._directory)

    def start(self) -> None:
        """Start everything, and wait until the node is Ready."""
        self._keep_images_in_memory()
        self.containerd.start()
        self.containerd.wait(self._containerd_answers, timeout=30)
        self.load([pause_image(PAUSE_IMAGE)])
        self.kubelet.start()
        self.proxy.start()
        plane = self._plane
        plane.wait_for(self._is_ready, what="the node to be Ready", timeout=90)

    def load(self, images: Sequence[Image]) -> None:
        """Import images."""
        command = [
            find("ctr"),
            f"--address={self._socket}",
            "--namespace=k8s.io",
            "images",
            "import",
            "-",
        ]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as importing:
            assert importing.stdin is not None
            write_archive(importing.stdin, images)
            importing.stdin.close()
        assert importing.returncode == 0, f"the images could not be imported:\n{self.containerd.tail()}"

    def stop(self) -> None:
        """Remove the pods through the API if it responds, then stop the processes; the namespaces end too."""
        with contextlib.suppress(KubectlError, subprocess.TimeoutExpired):
            for kinds in ("deployments,statefulsets,daemonsets,jobs", "pods"):
                self._plane.kubectl(
                    "delete", kinds, "--all", "--all-namespaces", "--grace-period=1", "--wait=true", timeout=30
                )
        for daemon in (self.proxy, self.kubelet, self.containerd):
            daemon.stop()

    def _keep_images_in_memory(self) -> None:
        """Mount a tmpfs for images: unpacking syncs them to disk, which takes minutes if the disk is busy."""
        if psutil.virtual_memory().available < _ENOUGH_MEMORY:
            return
        place = self._directory / "containerd"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ENOUGH_MEMORY // 2}", "tmpfs", str(place)], check=True)

    def _is_ready(self) -> bool:
        node = self._plane.get("node", NODE_NAME)
        conditions = node["status"].get("conditions", []) if node else []
        return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

    def _containerd_answers(self) -> bool:
        with contextlib.suppress(subprocess.CalledProcessError):
            return bool(self._ctr("version"))
        return False

    def _ctr(self, *arguments: str, timeout: float = 30) -> str:
        command = [find("ctr"), f"--address={self._socket}", "--namespace=k8s.io", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=timeout).stdout

    def _write_containerd(self) -> Path:
        networks = self._directory / "cni"
        networks.mkdir()
        # Point-to-point links instead of a bridge: traffic between pods passes the node's iptables, so that replies of
        # a Service are translated back without br_netfilter.
        ipam = {"type": "host-local", "ranges": [[{"subnet": POD_CIDR}]], "routes": [{"dst": "0.0.0.0/0"}]}
        ipam["dataDir"] = str(self._directory / "addresses")
        plugins = [
            {"type": "ptp", "ipMasq": False, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ]
        network = {"cniVersion": "0.4.0", "name": "imago", "plugins": plugins}
        (networks / "10-imago.conflist").write_text(json.dumps(network))
        path = self._directory / "containerd.toml"
        path.write_text(f"""\
version = 2
root = "{self._directory}/containerd/root"
state = "{self._directory}/containerd/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
  address = "{self._socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  # Without CAP_SYS_RESOURCE, a process can't set a score below its own.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{_CNI_PLUGINS}"
    conf_dir = "{networks}"
""")
        return path

    def _kubelet_command(self) -> list[object]:
        resolver = self._directory / "resolv.conf"
        resolver.write_text("")
        plane = self._plane
        serving = plane.authority.issue("kubelet", hosts=[NODE_ADDRESS])
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": NODE_ADDRESS,
            "tlsCertFile": str(serving.certificate),
            "tlsPrivateKeyFile": str(serving.key),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(plane.authority.certificate)},
            },
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{cgroup_name()}",
            "enforceNodeAllocatable": [],
            # Many CI machines have cgroup v1, swap or a full disk.
            "failCgroupV1": False,
            "failSwapOn": False,
            "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
            # Deleted images could not be pulled again.
            "imageGCHighThresholdPercent": 100,
            "oomScoreAdj": 0,
            "podLogsDir": str(self._directory / "pods"),
            "resolvConf": str(resolver),
            "clusterDNS": [DNS_SERVICE],
            "clusterDomain": "cluster.local",
            "nodeStatusUpdateFrequency": "4s",
            "maxPods": 60,
            # Keep the logs of terminated containers for debugging.
            "containerLogMaxSize": "50Mi",
        }
        path = self._directory / "kubelet.yaml"
        path.write_text(yaml.safe_dump(config))
        return [
            find("kubelet"),
            f"--kubeconfig={plane.kubeconfig_for('node')}",
            f"--config={path}",
            f"--root-dir={self._directory / 'kubelet'}",
            f"--cert-dir={self._directory / 'kubelet-pki'}",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={NODE_ADDRESS}",
        ]

    def _write_proxy(self) -> Path:
        config = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "hostnameOverride": NODE_NAME,
            "clusterCIDR": POD_CIDR,
            "oomScoreAdj": 0,
            "clientConnection": {"kubeconfig": str(self._plane.kubeconfig_for("proxy"))},
            # These settings belong to the machine, not to the namespace.
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "healthzBindAddress": f"127.0.0.1:{free_port()}",
            "metricsBindAddress": f"127.0.0.1:{free_port()}",
        }
        path = self._directory / "kube-proxy.yaml"
        path.write_text(yaml.safe_dump(config))
        return path
