"""The protocol of stage handlers, and what they share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from imago.core.ai_usage.model import CallContext, CallKind
from imago.core.images.recognition.model import Recognition
from imago.core.images.results import StageResult
from imago.core.images.vision import OcrProvider, Recognizer, VisionProvider
from imago.core.jobs.claims import Claim
from imago.embedding.model import EmbeddingModel
from imago.geocoding.geocoder import Geocoder
from imago.imaging.sandbox.pool import ChildPool
from imago.objects.store import ObjectStore
from imago.settings import Settings


@dataclass(frozen=True)
class StageOutput:
    """The result of a stage; `thumbnail_key` is the key of a stored thumbnail, `recognition` is of the vision stage."""

    result: StageResult
    thumbnail_key: str | None = None
    recognition: Recognition | None = None


class StageHandler(Protocol):
    """Does the work of one stage."""

    async def run(self, claim: Claim, directory: Path) -> StageOutput:
        """Do the work of a claim; `directory` is the attempt's temporary directory. Raises StageFailure."""
        ...


@dataclass(frozen=True)
class StageTools:
    """The dependencies of stage handlers; only the workers that use them have providers, a geocoder and a model."""

    settings: Settings
    store: ObjectStore
    children: ChildPool
    vision: Callable[[CallContext], VisionProvider] | None = None
    recognizer: Recognizer | None = None
    ocr: Callable[[CallContext], OcrProvider] | None = None
    geocoder: Geocoder | None = None
    embedding: EmbeddingModel | None = None


def call_context(claim: Claim, kind: CallKind, settings: Settings) -> CallContext:
    """Return the context of a provider call for a claim."""
    return CallContext(
        client_id=claim.image.client_id,
        kind=kind,
        ai_calls_per_month=claim.ai_calls_per_month,
        policy=claim.ai_budget_policy or settings.ai_budget_policy,
        image_id=claim.image.id,
    )
