"""A whole cluster of one node: control plane, node, DNS, and optionally KEDA."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devtools.kubernetes.addons import install_dns
from devtools.kubernetes.control_plane import ControlPlane
from devtools.kubernetes.images import part_images, pause_image
from devtools.kubernetes.node import PAUSE_IMAGE, Node


def prepare() -> None:
    """Build the images of Imago's dependencies; the first build needs the network."""
    pause_image(PAUSE_IMAGE)
    part_images()


@contextmanager
def node_beside(plane: ControlPlane) -> Iterator[Node]:
    """Run a node with DNS for a control plane inside the context; raise Missing."""
    node = Node(plane)
    try:
        node.start()
        node.load(part_images())
        install_dns(plane)
        yield node
    finally:
        node.stop()


def keda_directory(plane: ControlPlane) -> Path:
    """Return the directory of KEDA's manifests for this cluster."""
    directory = plane.directory / "keda"
    directory.mkdir(exist_ok=True)
    return directory
