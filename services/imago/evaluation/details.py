"""What to look at: the scores of each image and each query, and the worst of them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from imago.evaluation.answers import Answers, ImageAnswer
from imago.evaluation.labels import ImageLabels, Labels
from imago.evaluation.tag_scores import wrong_tags
from imago.evaluation.text_scores import ACCEPTABLE_ERROR, score_reading


@dataclass(frozen=True)
class ImageDetails:
    """One image: the error and the confidence of its reading, its tags and the wrong ones by language, its place."""

    error: float | None
    confidence: float | None
    tags: Mapping[str, tuple[str, ...]]
    wrong_tags: Mapping[str, tuple[str, ...]]
    place: str | None


def image_details(labels: Labels, answers: Answers) -> dict[str, ImageDetails]:
    """Return the details of each image that was processed."""
    return {file: _details(labels, labels.images[file], answer) for file, answer in answers.images.items()}


def worst_readings(details: Mapping[str, ImageDetails], *, most: int) -> list[tuple[str, float]]:
    """Return the files with the highest error that is not acceptable, the worst first."""
    errors = [(file, found.error) for file, found in details.items() if (found.error or 0) > ACCEPTABLE_ERROR]
    return sorted(((file, error) for file, error in errors if error is not None), key=lambda pair: -pair[1])[:most]


def frequent_wrong_tags(details: Mapping[str, ImageDetails], *, most: int) -> list[tuple[str, int]]:
    """Return the wrong tags of all languages with the number of their images, the most frequent first."""
    counts = Counter(tag for found in details.values() for tags in found.wrong_tags.values() for tag in tags)
    return counts.most_common(most)


def _details(labels: Labels, image: ImageLabels, answer: ImageAnswer) -> ImageDetails:
    reading = None if image.text is None else score_reading(image, answer)
    judged = {} if image.objects is None else answer.tags
    return ImageDetails(
        error=reading.error if reading else None,
        confidence=reading.confidence if reading else None,
        tags=judged,
        wrong_tags={language: tuple(wrong_tags(image, tags, labels.names)) for language, tags in judged.items()},
        place=answer.place,
    )
