"""The parts of a model in a child process; each is opened once, by the first task that needs it."""

from functools import cache
from pathlib import Path
from typing import Any

from imago.core.jobs.failures import TransientFailure
from imago.embedding.model import EmbeddingModel

FAILURE = "embedding-model-unusable"
"""The code of failures that are the model's fault, so another attempt may succeed with the right model."""


def unusable(reason: str) -> TransientFailure:
    """Return the failure of a model, with a reason of one line."""
    return TransientFailure(FAILURE, " ".join(reason.split())[:250])


@cache
def open_part(path: Path) -> Any:
    """Open a part of a model; it computes on one thread, because there are several child processes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except MemoryError:
        raise
    except Exception as error:
        raise unusable(f"{path.name}: {error}") from None


def run_part(session: Any, inputs: dict[str, Any], *, model: EmbeddingModel, name: str) -> Any:
    """Run a part for one input; return the output that is a vector of the model's length, of length 1, float32."""
    import numpy as np

    try:
        outputs = session.run(None, inputs)
    except MemoryError:
        raise
    except Exception as error:
        raise unusable(f"{name}: {error}") from None
    dims = model.config.dims
    found = [output for output in outputs if getattr(output, "shape", None) == (1, dims)]
    if not found:
        shapes = [list(getattr(output, "shape", ())) for output in outputs]
        raise unusable(f"{name}: config.json has {dims} dims, but the outputs have the shapes {shapes}")
    vector = found[0][0].astype(np.float32)
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0:
        raise unusable(f"{name}: its output is not a direction")
    return vector / length
