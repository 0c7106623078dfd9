"""A small embedding model that knows three colours: a stand-in for an operator's CLIP."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

COLOURS = ("red", "green", "blue")
DIMS, SIDE, LENGTH = 8, 16, 6


def write_model(directory: Path, **config: Any) -> Path:
    """Write a model whose vectors are the mean colour of an image, and the colours that a text names.

    Other words have one direction, which no image is near. `config` replaces entries of config.json.
    """
    directory.mkdir(parents=True, exist_ok=True)
    onnx.save(_visual(DIMS), directory / "visual.onnx")
    onnx.save(_textual(DIMS), directory / "textual.onnx")
    _tokenizer().save(str(directory / "tokenizer.json"))
    names = ("visual.onnx", "textual.onnx", "tokenizer.json")
    defaults = {
        "name": "three-colours",
        "dims": DIMS,
        "image_side": SIDE,
        "image_fit": "stretch",
        "image_mean": [0, 0, 0],
        "image_std": [1, 1, 1],
        "context_length": LENGTH,
        "pad_id": 0,
        "min_margin": 0.2,
        "sha256": {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in names},
    }
    (directory / "config.json").write_text(json.dumps({**defaults, **config}))
    return directory


def _visual(dims: int) -> Any:
    """Return a graph of the mean of each channel, times a matrix."""
    weights = np.eye(3, dims, dtype=np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "axes"], ["colour"], keepdims=0),
        helper.make_node("MatMul", ["colour", "weights"], ["image_embeds"]),
    ]
    constants = {"axes": np.array([2, 3], np.int64), "weights": weights}
    return _model(nodes, ("pixels", TensorProto.FLOAT, [1, 3, SIDE, SIDE]), constants, "image_embeds", dims)


def _textual(dims: int) -> Any:
    """Return a graph of the mean of the tokens' rows: zero for padding, the last direction for unknown words."""
    rows = np.zeros((2 + len(COLOURS), dims), np.float32)
    rows[1, -1] = 1
    rows[2:, : len(COLOURS)] = np.eye(len(COLOURS))
    nodes = [
        helper.make_node("Gather", ["rows", "input_ids"], ["words"]),
        helper.make_node("ReduceMean", ["words", "axes"], ["text_embeds"], keepdims=0),
    ]
    constants = {"axes": np.array([1], np.int64), "rows": rows}
    return _model(nodes, ("input_ids", TensorProto.INT64, [1, LENGTH]), constants, "text_embeds", dims)


def _model(
    nodes: list[Any], given: tuple[str, int, list[int]], constants: dict[str, Any], output: str, dims: int
) -> Any:
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info(*given)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, dims])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _tokenizer() -> Any:
    words = {"[pad]": 0, "[unk]": 1, **{colour: index for index, colour in enumerate(COLOURS, 2)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[unk]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer
