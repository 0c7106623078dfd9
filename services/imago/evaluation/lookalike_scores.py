"""The quality of look-alikes: edited copies that are found, and unrelated images that are called similar."""

from collections.abc import Mapping
from dataclasses import dataclass

from imago.evaluation.labels import ImageLabels


@dataclass(frozen=True)
class LookalikeScores:
    """The edited copies of one kind whose original is found."""

    kind: str
    copies: int
    found: float


@dataclass(frozen=True)
class FalsePairs:
    """The unrelated pairs of images, and those that are called similar."""

    pairs: int
    false: int


def score_lookalikes(
    images: Mapping[str, ImageLabels], similar: Mapping[str, tuple[str, ...]]
) -> tuple[list[LookalikeScores], FalsePairs] | None:
    """Return the scores by kind and the false pairs; None without edited copies in the labels."""
    copies = {file: labels for file, labels in images.items() if labels.same_as and file in similar}
    if not copies:
        return None
    kinds = (*dict.fromkeys(labels.kind for labels in copies.values()), "all copies")
    scores = []
    for kind in kinds:
        of_kind = {file: labels for file, labels in copies.items() if kind in (labels.kind, "all copies")}
        found = sum(labels.same_as in similar[file] for file, labels in of_kind.items())
        scores.append(LookalikeScores(kind, len(of_kind), found / len(of_kind)))
    return scores, _false_pairs(images, similar)


def _false_pairs(images: Mapping[str, ImageLabels], similar: Mapping[str, tuple[str, ...]]) -> FalsePairs:
    originals = {file: labels.same_as or file for file, labels in images.items()}
    false = {
        frozenset((file, other))
        for file, others in similar.items()
        for other in others
        if other in originals and originals[file] != originals[other]
    }
    asked = list(similar)
    pairs = sum(originals[left] != originals[right] for i, left in enumerate(asked) for right in asked[i + 1 :])
    return FalsePairs(pairs, len(false))
