"""Features of images: the classifier's vector as bytes."""

import numpy as np
from numpy.typing import NDArray

from imago.ai.offline.models.lite0 import NAME
from imago.core.images.recognition.model import Features

# The number changes with the projection of the classifier's graph.
MODEL = f"{NAME}.2"


def features_of(vector: NDArray[np.float32]) -> Features:
    """Return a vector's direction as signed bytes; the largest component is 127 or -127."""
    largest = float(np.abs(vector).max()) or 1.0
    return Features(MODEL, np.rint(vector * (127.0 / largest)).astype(np.int8).tobytes())
