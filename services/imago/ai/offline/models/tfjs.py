"""Convert a graph of TensorFlow.js, which was made from ONNX, back to ONNX.

TensorFlow's convolutions work on NHWC, so such a graph transposes before and after each of them. Here every tensor is
an NCHW tensor of ONNX and the permutation that TensorFlow sees it in; transpositions only change that permutation.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]

_NCHW = (0, 1, 2, 3)
_NHWC = (0, 2, 3, 1)


@dataclass(frozen=True)
class _Tensor:
    name: str
    order: tuple[int, ...] = _NCHW
    """The axis of the ONNX tensor at each axis of TensorFlow's."""


def read_constants(graph: Mapping[str, Any], data: bytes) -> dict[str, Array]:
    """Return the constants of a graph by name; `data` are those of all files of its manifest."""
    constants, offset = {}, 0
    for entry in (entry for group in graph["weightsManifest"] for entry in group["weights"]):
        stored = np.dtype(entry.get("quantization", {}).get("dtype", entry["dtype"]))
        count = int(np.prod(entry["shape"], dtype=int))
        values = np.frombuffer(data, stored, count, offset).reshape(entry["shape"])
        constants[entry["name"]] = values.astype(entry["dtype"])
        offset += values.nbytes
    return constants


class TfjsConverter:
    """Converts the nodes that an output needs; `source` is the NCHW tensor that the graph's input becomes."""

    def __init__(self, graph: Mapping[str, Any], data: bytes, *, source: str) -> None:
        self._constants = read_constants(graph, data)
        self._sources = {node["name"]: node for node in graph["modelTopology"]["node"]}
        self._tensors: dict[str, _Tensor] = {}
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._converters: Mapping[str, Callable[[Any], _Tensor]] = {
            "Placeholder": lambda _: _Tensor(source),
            "Transpose": self._transpose,
            "Conv2D": self._convolution,
            "Add": self._add,
            "LeakyRelu": self._leaky_relu,
            "Pad": self._pad,
            "PadV2": self._pad,
            "MaxPool": self._max_pool,
            "ConcatV2": self._concatenate,
            "ResizeBilinear": self._resize,
        }

    def convert(self, name: str) -> str:
        """Convert a node and those it needs, and return the name of its NCHW tensor in ONNX."""
        return self._tensor(name).name

    def constant(self, name: str, value: Any) -> str:
        """Add a constant, and return its name."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def split(self, source: str, outputs: list[str], sizes: list[int], *, axis: int) -> None:
        """Add a node that divides a tensor."""
        parts = self.constant(f"{source}.parts", np.array(sizes, np.int64))
        self.nodes.append(helper.make_node("Split", [source, parts], outputs, axis=axis))

    def serialized(self, name: str, *, shape: list[int], outputs: Mapping[str, list[int]]) -> bytes:
        """Check and serialize the model; `shape` is that of the input `image` of bytes."""
        import onnx

        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, size) for output, size in outputs.items()],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString()
        return data

    def _tensor(self, name: str) -> _Tensor:
        if name not in self._tensors:
            node = self._sources[name]
            self._tensors[name] = self._converters[node["op"]](node)
        return self._tensors[name]

    def _transpose(self, node: Any) -> _Tensor:
        source = self._tensor(node["input"][0])
        return _Tensor(source.name, tuple(source.order[axis] for axis in self._constants[node["input"][1]]))

    def _convolution(self, node: Any) -> _Tensor:
        source = self._in_order(node["input"][0], _NHWC)
        kernel = self.constant(f"{node['name']}.kernel", self._constants[node["input"][1]].transpose(3, 2, 0, 1))
        return _Tensor(self.node("Conv", [source, kernel], node["name"], strides=_window(node, "strides")), _NHWC)

    def _add(self, node: Any) -> _Tensor:
        first, other = node["input"]
        source = self._tensor(first)
        if other in self._constants:
            bias = self.constant(f"{node['name']}.bias", self._constants[other].reshape(1, -1, 1, 1))
            return _Tensor(self.node("Add", [self._in_order(first, _NHWC), bias], node["name"]), _NHWC)
        addend = self._in_order(other, source.order)
        return _Tensor(self.node("Add", [source.name, addend], node["name"]), source.order)

    def _leaky_relu(self, node: Any) -> _Tensor:
        source = self._tensor(node["input"][0])
        slope = node["attr"]["alpha"]["f"]
        return _Tensor(self.node("LeakyRelu", [source.name], node["name"], alpha=slope), source.order)

    def _pad(self, node: Any) -> _Tensor:
        source = self._tensor(node["input"][0])
        margins = self._constants[node["input"][1]].astype(np.int64)[np.argsort(source.order)]
        inputs = [source.name, self.constant(f"{node['name']}.margins", margins.T.ravel())]
        if len(node["input"]) > 2:
            inputs.append(self.constant(f"{node['name']}.value", self._constants[node["input"][2]]))
        return _Tensor(self.node("Pad", inputs, node["name"]), source.order)

    def _max_pool(self, node: Any) -> _Tensor:
        source = self._in_order(node["input"][0], _NHWC)
        windows = {"kernel_shape": _window(node, "ksize"), "strides": _window(node, "strides")}
        return _Tensor(self.node("MaxPool", [source], node["name"], **windows), _NHWC)

    def _concatenate(self, node: Any) -> _Tensor:
        *parts, axis = node["input"]
        order = self._tensor(parts[0]).order
        names = [self._in_order(part, order) for part in parts]
        return _Tensor(self.node("Concat", names, node["name"], axis=order[int(self._constants[axis])]), order)

    def _resize(self, node: Any) -> _Tensor:
        source = self._in_order(node["input"][0], _NHWC)
        name = node["name"]
        height_and_width = self.constant(f"{name}.to", self._constants[node["input"][1]].astype(np.int64))
        size = self.node(
            "Concat", [self.node("Shape", [source], f"{name}.of", end=2), height_and_width], f"{name}.size", axis=0
        )
        return _Tensor(self.node("Resize", [source, "", "", size], name, mode="linear"), _NHWC)

    def _in_order(self, name: str, order: tuple[int, ...]) -> str:
        """Return the ONNX tensor of a node, which TensorFlow must see in the given order."""
        tensor = self._tensor(name)
        if tensor.order != order:
            raise ValueError(f"{name} has the order {tensor.order} instead of {order}")
        return tensor.name


def _window(node: Any, attribute: str) -> list[int]:
    """Return the height and width of an attribute for NHWC."""
    return [int(size) for size in node["attr"][attribute]["list"]["i"]][1:3]
