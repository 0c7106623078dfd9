"""Finds the programs of a test cluster: built from source, in `KUBEBUILDER_ASSETS`, or installed by Debian."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

_HACK = Path(__file__).parents[2] / "hack"
_MODULES = {
    "etcd": "kubernetes",
    "kube-apiserver": "kubernetes",
    "kube-controller-manager": "kubernetes",
    "kube-scheduler": "kubernetes",
    "kubelet": "kubernetes",
    "kube-proxy": "kubernetes",
    "coredns": "coredns",
    "keda-operator": "keda",
    "keda-adapter": "keda",
}


class Missing(Exception):
    """A requirement of the cluster is missing on this machine; the message contains the remedy."""


def cache_directory() -> Path:
    """Return the directory that keeps builds and images between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imago"


def module_directory(module: str) -> Path:
    """Return the directory of the programs that `hack/cluster-binaries.sh` builds from a Go module."""
    digest = hashlib.sha256((_HACK / module / "go.sum").read_bytes()).hexdigest()
    return cache_directory() / module / digest[:16]


def find(name: str) -> Path:
    """Return the path of a program: in `KUBEBUILDER_ASSETS`, built, or installed; raise Missing."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (found := Path(assets) / name).is_file():
        return found
    if module := _MODULES.get(name):
        built = module_directory(module) / name
        if built.is_file():
            return built
        raise Missing(f"{name} is not built: run `hack/cluster-binaries.sh {module}`, or set KUBEBUILDER_ASSETS")
    beside_python = Path(sys.executable).parent / name
    if beside_python.is_file():
        return beside_python
    # Debian installs administration programs in directories that are only on root's PATH.
    installed = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if installed is None:
        raise Missing(f"{name} is not installed: run `hack/cluster-packages.sh`, or `make test-cluster`, which does")
    return Path(installed)
