"""The quality of tags, by the language of the description."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from imago.evaluation.answers import ImageAnswer
from imago.evaluation.labels import ImageLabels, Names

# An object that covers less of an image need not be named.
VISIBLE_SHARE = 0.01

PERSON = "person"

# Colours are no subjects. They are right or wrong by the pixels, which tests check.
_COLOURS = {
    *("black and white", "noir et blanc"),
    *("black", "white", "gray", "grey", "red", "orange", "brown", "beige", "yellow", "green", "turquoise", "blue"),
    *("purple", "pink", "noir", "blanc", "gris", "rouge", "marron", "jaune", "vert", "bleu", "violet", "rose"),
}


@dataclass(frozen=True)
class TagScores:
    """The scores in one language.

    Precision is the share of subject tags that are right, recall the share of visible objects that are named. An empty
    image shows nothing, so every subject tag of it is wrong; the other shares do not count such images. A share of
    nothing is None.
    """

    language: str
    images: int
    silent: float | None
    tags: float | None
    precision: float | None
    with_right_tag: float | None
    recall: float | None
    people_recall: float | None
    people_precision: float | None
    empty_images: int
    empty_with_tags: int


class Vocabulary:
    """The names of objects in all languages, compared without case and accents."""

    def __init__(self, names: Mapping[str, Names]) -> None:
        self._same = {label: frozenset(map(_key, (label, *known.same))) for label, known in names.items()}
        self._kinds = {label: frozenset(map(_key, known.kinds)) for label, known in names.items()}

    def same(self, label: str) -> frozenset[str]:
        """The names that are as exact as a label."""
        return self._same.get(label) or frozenset({_key(label)})

    def right(self, labels: ImageLabels) -> frozenset[str]:
        """The names that are right for an image."""
        found = set(map(_key, labels.also))
        for label in labels.objects or ():
            found |= self.same(label.name) | self._kinds.get(label.name, frozenset())
        return frozenset(found)


@dataclass(frozen=True)
class _Tagged:
    """An image's labels, and its subject tags as they are compared."""

    labels: ImageLabels
    tags: frozenset[str]


def score_tags(
    images: Mapping[str, ImageLabels], answers: Mapping[str, ImageAnswer], names: Mapping[str, Names]
) -> list[TagScores] | None:
    """Return the scores in each language; None without objects in the labels."""
    labelled = {file: labels for file, labels in images.items() if labels.objects is not None}
    if not labelled:
        return None
    vocabulary = Vocabulary(names)
    languages = sorted({language for file in labelled for language in answers[file].tags})
    return [
        _score(
            language,
            [_Tagged(labels, _subjects(answers[file].tags.get(language, ()))) for file, labels in labelled.items()],
            vocabulary,
        )
        for language in languages
    ]


def wrong_tags(labels: ImageLabels, tags: Iterable[str], names: Mapping[str, Names]) -> list[str]:
    """Return the subject tags that the labels do not confirm."""
    right = Vocabulary(names).right(labels)
    return [tag for tag in tags if _subjects([tag]) - right]


def _score(language: str, tagged: list[_Tagged], vocabulary: Vocabulary) -> TagScores:
    shown = [image for image in tagged if image.labels.objects]
    empty = [image for image in tagged if not image.labels.objects]
    right = [image.tags & vocabulary.right(image.labels) for image in shown]
    visible = [
        bool(image.tags & vocabulary.same(label.name))
        for image in shown
        for label in image.labels.objects or ()
        if label.share >= VISIBLE_SHARE
    ]
    people_recall, people_precision = _people(shown, vocabulary)
    tags = sum(len(image.tags) for image in shown)
    return TagScores(
        language=language,
        images=len(shown),
        silent=_share(sum(not image.tags for image in shown), len(shown)),
        tags=_share(tags, len(shown)),
        precision=_share(sum(map(len, right)), tags),
        with_right_tag=_share(sum(map(bool, right)), len(shown)),
        recall=_share(sum(visible), len(visible)),
        people_recall=people_recall,
        people_precision=people_precision,
        empty_images=len(empty),
        empty_with_tags=sum(bool(image.tags) for image in empty),
    )


def _people(images: list[_Tagged], vocabulary: Vocabulary) -> tuple[float | None, float | None]:
    """Return the share of images with visible people that say so, and of those that say so that are right."""
    names = vocabulary.same(PERSON)
    said = [image for image in images if image.tags & names]
    visible = [image for image in images if _has_person(image.labels, VISIBLE_SHARE)]
    found = sum(bool(image.tags & names) for image in visible)
    return _share(found, len(visible)), _share(sum(_has_person(image.labels, 0) for image in said), len(said))


def _has_person(labels: ImageLabels, share: float) -> bool:
    return any(label.name == PERSON and label.share >= share for label in labels.objects or ())


def _subjects(tags: Iterable[str]) -> frozenset[str]:
    return frozenset(key for tag in tags if (key := _key(tag)) not in _COLOURS)


def _key(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name.casefold().replace("œ", "oe"))
    return " ".join("".join(letter for letter in decomposed if not unicodedata.combining(letter)).split())


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None
