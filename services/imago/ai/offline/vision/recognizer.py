"""The offline recognition: a small image classifier that needs no network.

It names groups of classes (`imagenet_groups`) whose probabilities add up to `min_confidence`, and a single class only
if it is more likely than all others together.
"""

import asyncio
import io
import threading
from pathlib import Path

import structlog
from PIL import Image

from imago.ai.offline.models.lite0 import NAME
from imago.ai.offline.models.store import ensure_classifier
from imago.ai.offline.vision.classifier import Classification, Classifier, open_session
from imago.ai.offline.vision.features import features_of
from imago.ai.offline.vision.imagenet_groups import GROUPS
from imago.core.images.recognition import MAX_CONCEPTS, MIN_CONCEPT_SCORE, ConceptScore, Recognition
from imago.startup import StartupError

log = structlog.get_logger(__name__)

MODEL_NAME = f"offline/{NAME}"

# More likely than all other classes together.
_MIN_CLASS_CONFIDENCE = 0.5
_MAX_SUBJECTS = 4


class OfflineRecognizer:
    """Recognizes what images show with a model of the directory `model_dir`, or of the user's cache."""

    def __init__(self, *, model_dir: Path | None, min_confidence: float) -> None:
        self._model_dir = model_dir
        self._min_confidence = min_confidence
        self._load_lock = threading.Lock()
        self._classifier: Classifier | None = None

    async def recognize(self, jpeg: bytes) -> Recognition | None:
        """Recognize what a JPEG of `VisionInput` shows; return None if the model is not installed."""
        # onnxruntime releases the interpreter's lock while it computes.
        return await asyncio.to_thread(self._recognize, jpeg)

    def _recognize(self, jpeg: bytes) -> Recognition | None:
        try:
            classifier = self._load()
        except StartupError as error:
            log.warning("recognition.unavailable", error=str(error))
            return None
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as opened:
            image = opened.convert("RGB")
        return _recognition(classifier.classify(image), min_confidence=self._min_confidence)

    def _load(self) -> Classifier:
        with self._load_lock:
            if self._classifier is None:
                self._classifier = Classifier(open_session(ensure_classifier(self._model_dir)))
            return self._classifier


def _recognition(classified: Classification, *, min_confidence: float) -> Recognition:
    scores = {index: float(probability) for index, probability in enumerate(classified.probabilities)}
    groups = {group.concept: sum(scores[index] for index in group.classes) for group in GROUPS}
    best = max(scores, key=lambda index: scores[index])
    subjects = [best] if scores[best] >= max(_MIN_CLASS_CONFIDENCE, min_confidence) else []
    # A group within another one has fewer classes, and is more specific.
    by_size = sorted(GROUPS, key=lambda group: len(group.classes))
    subjects.extend(group.concept for group in by_size if groups[group.concept] >= min_confidence)
    return Recognition(
        model=MODEL_NAME,
        subjects=tuple(subjects[:_MAX_SUBJECTS]),
        confidence=round(min(max(scores[best], *groups.values()), 1.0), 4),
        concepts=_highest({**scores, **groups}),
        features=features_of(classified.vector),
    )


def _highest(scores: dict[int, float]) -> tuple[ConceptScore, ...]:
    likely = sorted((item for item in scores.items() if item[1] >= MIN_CONCEPT_SCORE), key=lambda item: -item[1])
    return tuple(ConceptScore(concept, round(min(score, 1.0), 4)) for concept, score in likely[:MAX_CONCEPTS])
