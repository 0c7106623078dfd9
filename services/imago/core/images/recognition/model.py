"""What the offline recognition finds in an image, as far as search and comparison use it."""

from dataclasses import dataclass

MAX_CONCEPTS = 30
# Lower scores are noise: the classifier gives every class some probability.
MIN_CONCEPT_SCORE = 0.01


@dataclass(frozen=True)
class ConceptScore:
    """A concept of `concepts.vocabulary`, and how likely the image shows it, 0 to 1."""

    concept: int
    score: float


@dataclass(frozen=True)
class Features:
    """128 signed bytes that point in a similar direction for similar pictures.

    Only features of the same `model` can be compared. Their cosine is 0.85 or more for most copies of a picture, even
    cropped, mirrored or turned a little, and for none of 788,140 pairs of unrelated photos.
    """

    model: str
    vector: bytes


@dataclass(frozen=True)
class Subject:
    """A concept to name. `described` is false if another subject says it more precisely: a dog is an animal."""

    concept: int
    several: bool = False
    described: bool = True


@dataclass(frozen=True)
class Recognition:
    """What an image shows.

    `subjects` are the concepts to name, in the order of a description, and `colours` the English names of the main
    colours, the largest first. `confidence` is that of the likeliest concept, named or not, 0 to 1. `concepts` are at
    most `MAX_CONCEPTS`, the highest score first. `moderation_score` is that of `VisionResult`.
    """

    model: str
    subjects: tuple[Subject, ...]
    colours: tuple[str, ...]
    confidence: float
    concepts: tuple[ConceptScore, ...]
    features: Features
    moderation_score: float | None = None
