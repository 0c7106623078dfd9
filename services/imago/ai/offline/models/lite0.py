"""The image classifier EfficientNet-lite0 (Apache-2.0), converted from its published weights to ONNX."""

from typing import Any

from imago.runtime.startup import StartupError

NAME = "efficientnet-lite0"
INPUT_SIDE = 224
FEATURES = 1280
VECTOR = 128

# The output of the correct model for `_test_pattern`. An error in the conversion of any layer changes it.
_EXPECTED_CLASSES = (906, 885, 392)
_EXPECTED_PROBABILITY = 0.309

_BATCH_NORM_EPSILON = 1e-3

# Repeats, stride, expansion and output channels of each block: "EfficientNet-lite", TensorFlow's tpu repository, lite0.
_BLOCKS = (
    (1, 1, 1, 16),
    (2, 2, 6, 24),
    (2, 2, 6, 40),
    (3, 2, 6, 80),
    (3, 1, 6, 112),
    (4, 2, 6, 192),
    (1, 1, 6, 320),
)


def build() -> bytes:
    """Return the ONNX model, which has been run; raise StartupError if a package is missing or the output is wrong.

    Its input `image` is [1, 3, 224, 224], RGB, (value - 127) / 128; its outputs are `probabilities` of the classes
    [1, 1000] and the `vector` [1, 128], a projection of the 1280 features before the last layer.
    """
    try:
        from imago.ai.offline.models.lite0_weights import find_weights, read_weights

        graph = _build_graph(read_weights(find_weights()))
    except ImportError as error:
        raise StartupError(f"building the vision model needs the extra `model` ({error.name} is missing)") from error
    _verify(graph)
    return graph


def _build_graph(weights: dict[str, Any]) -> bytes:
    """Return the serialized ONNX model of EfficientNet-lite0."""
    graph = _GraphBuilder(weights)
    flow = graph.convolution("image", "_conv_stem", "_bn0", stride=2)
    index, channels = 0, 32
    for repeats, first_stride, expansion, out_channels in _BLOCKS:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            flow = graph.block(
                flow,
                f"_blocks.{index}",
                stride=stride,
                channels=channels * expansion,
                expand=expansion != 1,
                residual=stride == 1 and channels == out_channels,
            )
            index, channels = index + 1, out_channels
    graph.classifier(graph.convolution(flow, "_conv_head", "_bn1"))
    return graph.serialized()


class _GraphBuilder:
    """Adds nodes and constants to an ONNX graph. Each method returns the name of its output."""

    def __init__(self, weights: dict[str, Any]) -> None:
        import numpy as np

        self._weights = weights
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._low, self._high = self._constant("zero", np.array(0.0)), self._constant("six", np.array(6.0))

    def convolution(
        self, source: str, conv: str, norm: str, *, stride: int = 1, groups: int = 1, activation: bool = True
    ) -> str:
        """Add a convolution with its batch normalization folded into it, and a ReLU6 unless `activation` is false."""
        import numpy as np

        weights = self._weights
        scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + _BATCH_NORM_EPSILON)
        shift = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
        kernel = self._constant(f"{conv}.k", weights[f"{conv}.weight"] * scale[:, None, None, None])
        output = self._node(
            "Conv",
            [source, kernel, self._constant(f"{conv}.b", shift)],
            f"{conv}.out",
            # The padding of TensorFlow, which the weights were trained with.
            auto_pad="SAME_UPPER",
            strides=[stride, stride],
            group=groups,
        )
        return self._node("Clip", [output, self._low, self._high], f"{output}.6") if activation else output

    def block(self, source: str, name: str, *, stride: int, expand: bool, channels: int, residual: bool) -> str:
        """Add an inverted bottleneck block; `channels` is its inner width."""
        flow = self.convolution(source, f"{name}._expand_conv", f"{name}._bn0") if expand else source
        flow = self.convolution(flow, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride, groups=channels)
        flow = self.convolution(flow, f"{name}._project_conv", f"{name}._bn2", activation=False)
        return self._node("Add", [flow, source], f"{name}.sum") if residual else flow

    def classifier(self, source: str) -> str:
        """Add the pooling, the fully connected layer and the softmax."""
        features = self._node("Flatten", [self._node("GlobalAveragePool", [source], "pooled")], "features")
        layer = [self._constant("fc.w", self._weights["_fc.weight"]), self._constant("fc.b", self._weights["_fc.bias"])]
        projection = self._constant("projection", _projection())
        self._node("MatMul", [features, projection], "vector")
        logits = self._node("Gemm", [features, *layer], "logits", transB=1)
        return self._node("Softmax", [logits], "probabilities", axis=1)

    def serialized(self) -> bytes:
        """Check and serialize the model."""
        import onnx
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            self._nodes,
            NAME,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, INPUT_SIDE, INPUT_SIDE])],
            [
                helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 1000]),
                helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, VECTOR]),
            ],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString()
        return data

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self._nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def _constant(self, name: str, value: Any) -> str:
        import numpy as np
        from onnx import numpy_helper

        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float32), name))
        return name


def _projection() -> Any:
    """Return a random projection [1280, 128] of signs, which keeps angles (Achlioptas, 2003).

    The stream of `RandomState` never changes (NEP 19), so vectors that different machines computed are comparable. Of
    788,140 pairs of unrelated photos none had a cosine of 0.85 or more, as before the projection; of re-encoded,
    scaled, cropped and mirrored copies 94 to 100 % have.
    """
    import numpy as np

    return np.random.RandomState(0).choice([-1.0, 1.0], (FEATURES, VECTOR)) / np.sqrt(FEATURES)


def _test_pattern() -> Any:
    """Return the same synthetic image on every machine: three crossed waves."""
    import numpy as np

    rows, columns = np.mgrid[0:INPUT_SIDE, 0:INPUT_SIDE].astype(np.float32)
    waves = [np.sin(rows / 9.0) * np.cos(columns / 13.0), np.sin((rows + columns) / 21.0), np.cos(columns / 7.0)]
    return np.stack(waves)[None].astype(np.float32)


def _run(graph: bytes) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": _test_pattern()})[0][0]


def _verify(graph: bytes) -> None:
    probabilities = _run(graph)
    best = tuple(int(index) for index in probabilities.argsort()[::-1][:3])
    if best != _EXPECTED_CLASSES or abs(float(probabilities[best[0]]) - _EXPECTED_PROBABILITY) > 0.01:
        raise StartupError("the vision model was built incorrectly: its output for the test pattern is wrong")
