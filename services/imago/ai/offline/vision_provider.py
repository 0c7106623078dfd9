"""The offline vision provider: a small image classifier that needs no network.

It names groups of classes (`imagenet_groups`) whose probabilities add up to `min_confidence`, and a single class only
if it is more likely than all others together. Without any, the description has only format, colours and EXIF. That is
so for most photos of people, because ImageNet has no class for them.
"""

import asyncio
import io
import json
import re
import threading
from pathlib import Path
from typing import Any

from PIL import Image

from imago.ai.offline.descriptions import colour_tags, describe
from imago.ai.offline.imagenet_groups import FRENCH_CLASS_NAMES, GROUPS
from imago.ai.offline.onnx_model import INPUT_SIDE, NAME, ensure_model
from imago.core.images.results import VisionResult
from imago.core.images.tags import normalize_tags
from imago.core.images.vision import VisionInput
from imago.core.jobs.failures import TransientFailure
from imago.startup import StartupError

MODEL_NAME = f"offline/{NAME}"

# More likely than all other classes together.
_MIN_CLASS_CONFIDENCE = 0.5
_MAX_SUBJECTS = 4

# The share of the shorter side that the weights were validated with.
_CROP = 0.875


class OfflineVisionProvider:
    """Describes images without a network."""

    name = "offline"

    def __init__(self, *, model_dir: Path | None, min_confidence: float) -> None:
        self._model_dir = model_dir
        self._min_confidence = min_confidence
        self._load_lock = threading.Lock()
        self._loaded: tuple[Any, list[str]] | None = None

    async def describe(self, image: VisionInput) -> VisionResult:
        """Describe one image; raise TransientFailure if the model can't be loaded."""
        # onnxruntime releases the interpreter's lock while it computes.
        return await asyncio.to_thread(self._describe, image)

    def _describe(self, image: VisionInput) -> VisionResult:
        try:
            session, labels = self._model()
        except StartupError as error:
            raise TransientFailure("model-unavailable", "The vision model is not installed on this server.") from error
        probabilities = _classify(session, image.jpeg)
        language = "fr" if image.language == "fr" else "en"
        subjects, confidence = recognize(probabilities, labels, language=language, min_confidence=self._min_confidence)
        tags = normalize_tags([*subjects, *colour_tags(image)])
        return VisionResult(describe(image, subjects), tags, round(confidence, 4), MODEL_NAME)

    def _model(self) -> tuple[Any, list[str]]:
        with self._load_lock:
            if self._loaded is None:
                import onnxruntime

                folder = ensure_model(self._model_dir)
                options = onnxruntime.SessionOptions()
                # One thread per image, because a worker runs several jobs concurrently, and a pod has one core.
                options.intra_op_num_threads = 1
                options.inter_op_num_threads = 1
                session = onnxruntime.InferenceSession(
                    folder / "model.onnx", options, providers=["CPUExecutionProvider"]
                )
                self._loaded = session, json.loads((folder / "labels.json").read_text())
            return self._loaded


def recognize(
    probabilities: Any, labels: list[str], *, language: str, min_confidence: float
) -> tuple[tuple[str, ...], float]:
    """Return the names of the likely subjects, the most specific first, and the highest confidence of all subjects.

    If no subject is likely enough to be named, the confidence is that of the best one.
    """
    sums = [(float(sum(probabilities[index] for index in group.classes)), group) for group in GROUPS]
    likely = [group for confidence, group in sums if confidence >= min_confidence]
    best = int(probabilities.argmax())
    highest = max([confidence for confidence, _ in sums] + [float(probabilities[best])])
    names: list[str] = []
    if probabilities[best] >= max(_MIN_CLASS_CONFIDENCE, min_confidence):
        name = _class_name(best, labels, language)
        if name:
            names.append(name)
    # A group within another one has fewer classes, and is more specific.
    names.extend(group.name(language) for group in sorted(likely, key=lambda group: len(group.classes)))
    return tuple(dict.fromkeys(names))[:_MAX_SUBJECTS], highest


def _class_name(index: int, labels: list[str], language: str) -> str | None:
    if language == "fr":
        return FRENCH_CLASS_NAMES.get(index)
    plain = re.sub(r"\s*\(.*?\)", "", labels[index]).split("/")[0].strip().lower()
    # Labels of more words are explanations.
    return plain if len(plain.split()) <= 3 else None


def _classify(session: Any, jpeg: bytes) -> Any:
    """Return the mean probabilities of two views: the centre of the image, and the whole image."""
    import numpy as np

    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as opened:
        image = opened.convert("RGB")
    side = max(1, int(min(image.size) * _CROP))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    views = [image.crop((left, top, left + side, top + side)), image]
    outputs = []
    for view in views:
        small = view.resize((INPUT_SIDE, INPUT_SIDE), Image.Resampling.BICUBIC)
        pixels = (np.asarray(small, dtype=np.float32) - 127.0) / 128.0
        outputs.append(session.run(None, {"image": pixels.transpose(2, 0, 1)[None]})[0][0])
    return np.mean(outputs, axis=0)
