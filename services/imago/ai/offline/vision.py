"""The offline vision provider: a small classifier on this machine, and honest words about what it saw.

It names kinds of things (see `ai.groups`) whose probabilities add up to `min_confidence`, and a single class only where
that is likelier than not. Below, it keeps to what can't be wrong: format, colours, and what EXIF says. ImageNet has no
class for people, so photos of people mostly end up there.
"""

import asyncio
import io
import json
import re
import threading
from pathlib import Path
from typing import Any

from PIL import Image

from imago.ai.offline.describing import colour_tags, describe
from imago.ai.offline.groups import FRENCH, GROUPS, Group
from imago.ai.offline.onnx_model import INPUT_SIDE, NAME, ModelUnavailable, ensure_model
from imago.core.images.results import VisionResult
from imago.core.images.tags import normalize_tags
from imago.core.images.vision import VisionInput
from imago.core.jobs.failures import TransientFailure

MODEL_NAME = f"offline/{NAME}"

# A single class is named only where it is likelier than all others together.
_CLASS_CONFIDENCE = 0.5
_MAX_SUBJECTS = 4

# The part of the shorter side that the weights were validated with.
_CROP = 0.875


class OfflineProvider:
    """Describes images on this machine, without any network."""

    name = "offline"

    def __init__(self, *, model_dir: Path | None, min_confidence: float) -> None:
        self._model_dir = model_dir
        self._min_confidence = min_confidence
        self._loading = threading.Lock()
        self._loaded: tuple[Any, list[str]] | None = None

    async def describe(self, image: VisionInput) -> VisionResult:
        """Describe one image; raise TransientFailure where the model isn't to be had."""
        # onnxruntime releases the interpreter while it computes.
        return await asyncio.to_thread(self._describe, image)

    def prepare(self) -> None:
        """Load the model now instead of at the first image; raise ModelUnavailable."""
        self._model()

    def _describe(self, image: VisionInput) -> VisionResult:
        try:
            session, labels = self._model()
        except ModelUnavailable as error:
            raise TransientFailure("model-unavailable", "The vision model is not installed on this server.") from error
        probabilities = _classify(session, image.jpeg)
        language = "fr" if image.language == "fr" else "en"
        subjects, confidence = recognise(probabilities, labels, language=language, min_confidence=self._min_confidence)
        tags = normalize_tags([*subjects, *colour_tags(image)])
        return VisionResult(describe(image, subjects), tags, round(confidence, 4), MODEL_NAME)

    def _model(self) -> tuple[Any, list[str]]:
        with self._loading:
            if self._loaded is None:
                import onnxruntime

                folder = ensure_model(self._model_dir)
                options = onnxruntime.SessionOptions()
                # One thread an image: workers run several at once, and one core is what a pod has.
                options.intra_op_num_threads = 1
                options.inter_op_num_threads = 1
                session = onnxruntime.InferenceSession(
                    folder / "model.onnx", options, providers=["CPUExecutionProvider"]
                )
                self._loaded = session, json.loads((folder / "labels.json").read_text())
            return self._loaded


def recognise(
    probabilities: Any, labels: list[str], *, language: str, min_confidence: float
) -> tuple[tuple[str, ...], float]:
    """Return the names of what is likely in the image, the most precise first, and the confidence in the surest.

    Without anything likely there are no names, and the confidence is that of the best guess, which isn't told.
    """
    sums = [(float(sum(probabilities[index] for index in group.classes)), group) for group in GROUPS]
    likely = [(share, group) for share, group in sums if share >= min_confidence]
    best = int(probabilities.argmax())
    surest = max([share for share, _ in sums] + [float(probabilities[best])])
    names: list[str] = []
    if probabilities[best] >= max(_CLASS_CONFIDENCE, min_confidence):
        name = _class_name(best, labels, language)
        if name:
            names.append(name)
    # A kind within a kind is more precise: fewer classes, so it comes first.
    names.extend(group.name(language) for _, group in sorted(likely, key=lambda item: _size(item[1])))
    return tuple(dict.fromkeys(names))[:_MAX_SUBJECTS], surest


def _size(group: Group) -> int:
    return len(group.classes)


def _class_name(index: int, labels: list[str], language: str) -> str | None:
    if language == "fr":
        return FRENCH.get(index)
    plain = re.sub(r"\s*\(.*?\)", "", labels[index]).split("/")[0].strip().lower()
    # Some labels are explanations rather than names.
    return plain if len(plain.split()) <= 3 else None


def _classify(session: Any, jpeg: bytes) -> Any:
    """Return the mean of the probabilities over the middle of the image and over all of it."""
    import numpy as np

    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as opened:
        image = opened.convert("RGB")
    side = max(1, int(min(image.size) * _CROP))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    views = [image.crop((left, top, left + side, top + side)), image]
    answers = []
    for view in views:
        small = view.resize((INPUT_SIDE, INPUT_SIDE), Image.Resampling.BICUBIC)
        pixels = (np.asarray(small, dtype=np.float32) - 127.0) / 128.0
        answers.append(session.run(None, {"image": pixels.transpose(2, 0, 1)[None]})[0][0])
    return np.mean(answers, axis=0)
