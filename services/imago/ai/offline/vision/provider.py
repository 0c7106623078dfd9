"""The offline vision provider: it says in sentences and tags what the offline recognition found."""

from imago.ai.offline.vision.descriptions import colour_tags, describe
from imago.core.images.recognition.concepts import vocabulary
from imago.core.images.results import VisionResult
from imago.core.images.tags import normalize_tags
from imago.core.images.vision import VisionInput
from imago.core.jobs.failures import TransientFailure


class OfflineVisionProvider:
    """Describes images without a network, in French or English."""

    name = "offline"

    async def describe(self, image: VisionInput) -> VisionResult:
        """Describe one image; raise TransientFailure if it wasn't recognized, because the model is missing."""
        found = image.recognition
        if found is None:
            raise TransientFailure("model-unavailable", "The vision model is not installed on this server.")
        french = image.language == "fr"
        names = (vocabulary()[subject.concept].name("fr" if french else "en") for subject in found.subjects)
        tags = normalize_tags([*names, *colour_tags(found, french=french)])
        return VisionResult(describe(found, image), tags, found.confidence, found.model)
