"""The offline recognition: an image classifier and an object detector that need no network."""

import asyncio
import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from PIL import Image

from imago.ai.offline.models import lite0, nanodet
from imago.ai.offline.models.store import ensure_classifier, find_detector
from imago.ai.offline.vision.classifier import Classification, Classifier, open_session
from imago.ai.offline.vision.colours import main_colours
from imago.ai.offline.vision.detector import Detection, Detector
from imago.ai.offline.vision.features import features_of
from imago.ai.offline.vision.imagenet_groups import GROUPS
from imago.ai.offline.vision.moderation import Moderator
from imago.ai.offline.vision.plainness import is_plain, is_texture
from imago.ai.offline.vision.subjects import choose_subjects, subject_box
from imago.core.images.recognition.concepts import KINDS
from imago.core.images.recognition.model import MAX_CONCEPTS, MIN_CONCEPT_SCORE, ConceptScore, Recognition
from imago.runtime.startup import StartupError

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Models:
    name: str
    classifier: Classifier
    detector: Detector | None
    moderator: Moderator | None


class OfflineRecognizer:
    """Recognizes what images show with the models of the directory `model_dir`, or of the user's cache."""

    def __init__(
        self, *, model_dir: Path | None, min_confidence: float, detector: bool = True, moderation: bool = False
    ) -> None:
        self._model_dir = model_dir
        self._min_confidence = min_confidence
        self._uses_detector = detector
        self._moderates = moderation
        self._load_lock = threading.Lock()
        self._models: _Models | None = None

    async def recognize(self, jpeg: bytes) -> Recognition | None:
        """Recognize what a JPEG of `VisionInput` shows; return None if the classifier is not installed."""
        # onnxruntime releases the interpreter's lock while it computes.
        return await asyncio.to_thread(self._recognize, jpeg)

    def _recognize(self, jpeg: bytes) -> Recognition | None:
        try:
            models = self._load()
        except StartupError as error:
            log.warning("recognition.unavailable", error=str(error))
            return None
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as opened:
            image = opened.convert("RGB")
        classified = models.classifier.classify(image)
        # What models see in a plain picture is an accident.
        plain = is_plain(image)
        detections = models.detector.detect(image) if models.detector and not plain else ()
        found = self._found(models.name, image, classified, detections, plain=plain)
        return replace(found, moderation_score=models.moderator.score(image)) if models.moderator else found

    def _found(
        self,
        model: str,
        image: Image.Image,
        classified: Classification,
        detections: Sequence[Detection],
        *,
        plain: bool,
    ) -> Recognition:
        scores = class_scores(classified)
        objects = {KINDS[each.kind]: each.score for each in sorted(detections, key=lambda each: each.score)}
        texture = is_texture(image)
        subjects = (
            () if plain else choose_subjects(scores, detections, min_confidence=self._min_confidence, texture=texture)
        )
        return Recognition(
            model=model,
            subjects=subjects,
            colours=main_colours(image, subject_box(subjects, detections)),
            confidence=round(max(*scores.values(), *objects.values()), 4),
            concepts=() if plain or (texture and not subjects) else _highest({**scores, **objects}),
            features=features_of(classified.vector),
        )

    def _load(self) -> _Models:
        with self._load_lock:
            if self._models is None:
                self._models = self._open()
            return self._models

    def _open(self) -> _Models:
        classifier = Classifier(open_session(ensure_classifier(self._model_dir)))
        moderator = Moderator() if self._moderates else None
        found = find_detector(self._model_dir) if self._uses_detector else None
        if found is None:
            if self._uses_detector:
                log.warning("recognition.no-detector")
            return _Models(f"offline/{lite0.NAME}", classifier, None, moderator)
        return _Models(f"offline/{lite0.NAME}+{nanodet.NAME}", classifier, Detector(open_session(found)), moderator)


def class_scores(classified: Classification) -> dict[int, float]:
    """Return the probabilities of all classes and groups by their concepts."""
    scores = {index: float(probability) for index, probability in enumerate(classified.probabilities)}
    return {**scores, **{group.concept: min(sum(scores[index] for index in group.classes), 1.0) for group in GROUPS}}


def _highest(scores: Mapping[int, float]) -> tuple[ConceptScore, ...]:
    likely = sorted((item for item in scores.items() if item[1] >= MIN_CONCEPT_SCORE), key=lambda item: -item[1])
    return tuple(ConceptScore(concept, round(score, 4)) for concept, score in likely[:MAX_CONCEPTS])
