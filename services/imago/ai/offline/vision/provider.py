"""The offline vision provider: it says in sentences and tags what the offline recognition found."""

from imago.ai.offline.vision.descriptions import colour_tags, describe
from imago.core.images.concepts import vocabulary
from imago.core.images.results import VisionResult
from imago.core.images.tags import normalize_tags
from imago.core.images.vision import VisionInput
from imago.core.jobs.failures import TransientFailure


class OfflineVisionProvider:
    """Describes images without a network, in French or English."""

    name = "offline"

    async def describe(self, image: VisionInput) -> VisionResult:
        """Describe one image; raise TransientFailure if it wasn't recognized, because the model is missing."""
        recognition = image.recognition
        if recognition is None:
            raise TransientFailure("model-unavailable", "The vision model is not installed on this server.")
        language = "fr" if image.language == "fr" else "en"
        names = [vocabulary()[concept].name(language) for concept in recognition.subjects]
        subjects = tuple(dict.fromkeys(names))
        tags = normalize_tags([*subjects, *colour_tags(image)])
        return VisionResult(describe(image, subjects), tags, recognition.confidence, recognition.model)
