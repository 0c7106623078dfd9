"""Finds the programs of a test cluster: those that were built, a person's own, and Debian's."""

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
    """Something that a cluster needs is not on this machine; the text says what, and what would help."""


def cache_directory() -> Path:
    """Where builds and images are kept from one run to the next."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imago"


def module_directory(module: str) -> Path:
    """The directory in which `hack/cluster-binaries.sh` puts programs built from a Go module."""
    digest = hashlib.sha256((_HACK / module / "go.sum").read_bytes()).hexdigest()
    return cache_directory() / module / digest[:16]


def find(name: str) -> Path:
    """Return the path of a program: in `KUBEBUILDER_ASSETS`, as built, or installed; raise Missing."""
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
    # Debian keeps administration programs in directories that are only on root's PATH.
    installed = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if installed is None:
        raise Missing(f"{name} is not installed: run `hack/cluster-packages.sh`, or `make test-cluster`, which does")
    return Path(installed)
