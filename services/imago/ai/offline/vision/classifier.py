"""The image classifier: EfficientNet-lite0 on two views of an image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imago.ai.offline.models.lite0 import INPUT_SIDE

# The share of the shorter side that the weights were validated with.
_CROP = 0.875


@dataclass(frozen=True)
class Classification:
    """The mean probabilities of the 1000 classes, and the mean vectors, of an image's views."""

    probabilities: NDArray[np.float32]
    vector: NDArray[np.float32]


class Classifier:
    """Classifies images. It may be used by several threads, each with one image."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def classify(self, image: Image.Image) -> Classification:
        """Classify an RGB image by two views: its centre, and the whole image."""
        side = max(1, int(min(image.size) * _CROP))
        left, top = (image.width - side) // 2, (image.height - side) // 2
        views = [image.crop((left, top, left + side, top + side)), image]
        outputs = [self._session.run(["probabilities", "vector"], {"image": _pixels(view)}) for view in views]
        probabilities, vector = (np.mean([output[index][0] for output in outputs], axis=0) for index in (0, 1))
        return Classification(probabilities, vector)


def _pixels(view: Image.Image) -> NDArray[np.float32]:
    small = view.resize((INPUT_SIDE, INPUT_SIDE), Image.Resampling.BICUBIC)
    pixels = (np.asarray(small, dtype=np.float32) - 127.0) / 128.0
    return pixels.transpose(2, 0, 1)[None]


def open_session(model: Path) -> Any:
    """Open a model; one thread per image, because a worker runs several jobs concurrently, and a pod has one core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
