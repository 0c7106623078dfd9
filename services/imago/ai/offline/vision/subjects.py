"""Which of the recognized concepts are named, from the classifier's probabilities and the detector's objects.

The thresholds were chosen on half of 256 photos of COCO and 500 of ImageNet, whose other half was held out, and on flat
colours, gradients, noise, textures and skies.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from imago.ai.offline.vision.coco_kinds import (
    ANIMAL_KINDS,
    CLASSES_OF_KINDS,
    CONFUSED_KINDS,
    GROUPS_OF_KINDS,
    SPORTS_KINDS,
    VEHICLE_KINDS,
)
from imago.ai.offline.vision.colours import Box
from imago.ai.offline.vision.detector import Detection
from imago.ai.offline.vision.imagenet_groups import GROUPS
from imago.core.images.recognition.concepts import KINDS, PERSON, vocabulary
from imago.core.images.recognition.model import Subject

MAX_NAMED = 5
# An object that is named needs this score; one more of its kind, only `_MIN_OTHER_SCORE`.
_MIN_SCORE = 0.5
_MIN_CONFUSED_SCORE = 0.6
_MIN_PERSON_SCORE = 0.48
_MIN_SPORTSMAN_SCORE = 0.4
_MIN_OTHER_SCORE = 0.4
# Boxes that overlap by more are of one object.
_SAME_BOX = 0.7
# Half of what is found between this and the other thresholds is right, so it is named only if nothing else is.
_MIN_GUESS = 0.35
_MIN_ANIMAL_GUESS = 0.85

# More likely than all other classes together.
_MIN_CLASS = 0.5
_MIN_GROUP = 0.5
# Of what the detector knows and didn't find.
_MIN_UNSEEN = 0.7
# Of 'animal' without a more specific group: the classifier sees animals in many flat colours and skies.
_MIN_ANIMAL = 0.9
# Classes and groups that the classifier gives to textures, noise and skies.
_MIN_OF_TEXTURES = 0.85
# Of any class or object in a texture. In 92 drawn ones none had more than 0.75 or 0.66.
_MIN_IN_TEXTURE = 0.9
_MIN_OBJECT_IN_TEXTURE = 0.8

_GROUP_CLASSES: Mapping[int, frozenset[int]] = {group.concept: group.classes for group in GROUPS}
_NAMED = {vocabulary()[group].english: group for group in _GROUP_CLASSES}
_ANIMAL = _NAMED["animal"]
_TEXTURES = frozenset({_NAMED["bird"], 539, 885, 911})


@dataclass(frozen=True)
class _Named:
    concept: int
    weight: float
    """How much of the picture it is; the heaviest is named first."""
    several: bool = False


def classes_of(concept: int) -> frozenset[int]:
    """Return the classes of ImageNet that a concept covers; none for some kinds of objects."""
    if concept in KINDS:
        return CLASSES_OF_KINDS[concept]
    return _GROUP_CLASSES.get(concept) or frozenset({concept})


def choose_subjects(
    scores: Mapping[int, float], detections: Sequence[Detection], *, min_confidence: float, texture: bool = False
) -> tuple[Subject, ...]:
    """Return the subjects to name; `scores` are those of classes and groups.

    What the models see in a texture must be nearly certain: a wall of honeycombs is, a chequered cloth is no bed.
    """
    if texture:
        detections = [each for each in detections if each.score >= _MIN_OBJECT_IN_TEXTURE]
    detections = [each for each in detections if not _is_animal(each, detections, scores)]
    objects = _objects(detections, min_confidence=min_confidence)
    if texture:
        min_confidence = max(min_confidence, _MIN_IN_TEXTURE)
    likely = [*objects, *_classified(scores, detections, objects, min_confidence=min_confidence)]
    likely = likely or _guess(scores, detections, min_confidence=min_confidence)
    named = sorted(likely, key=lambda each: (each.concept != PERSON, -each.weight))[:MAX_NAMED]
    general = _general(named)
    subjects = [Subject(each.concept, each.several, described=not _is_said(each, named)) for each in named]
    return (*subjects, *(Subject(concept, described=False) for concept in general))


def _is_animal(person: Detection, others: Iterable[Detection], scores: Mapping[int, float]) -> bool:
    """Return whether a person is an animal: the detector sees one in the same box, and the classifier sees one too."""
    return (
        KINDS[person.kind] == PERSON
        and scores[_ANIMAL] >= _MIN_CLASS
        and any(KINDS[each.kind] in ANIMAL_KINDS and each.overlap(person) >= _SAME_BOX for each in others)
    )


def _objects(detections: Sequence[Detection], *, min_confidence: float) -> list[_Named]:
    found: dict[int, list[Detection]] = {}
    for each in detections:
        found.setdefault(KINDS[each.kind], []).append(each)
    named = []
    best_scores = {kind: max(each.score for each in objects) for kind, objects in found.items()}
    is_sports = any(best_scores.get(kind, 0) >= _MIN_SCORE for kind in SPORTS_KINDS)
    for kind, objects in found.items():
        best = best_scores[kind]
        if best >= max(min_confidence, _object_bar(kind, is_sports=is_sports)):
            several = sum(each.score >= _MIN_OTHER_SCORE for each in objects) > 1
            named.append(_Named(kind, best * sum(each.area for each in objects) ** 0.5, several))
    return named


def _object_bar(kind: int, *, is_sports: bool) -> float:
    if kind == PERSON:
        return _MIN_SPORTSMAN_SCORE if is_sports else _MIN_PERSON_SCORE
    return _MIN_CONFUSED_SCORE if kind in CONFUSED_KINDS else _MIN_SCORE


def _guess(scores: Mapping[int, float], detections: Sequence[Detection], *, min_confidence: float) -> list[_Named]:
    """Return the likeliest object, class or group, if it is likely enough."""
    objects = {KINDS[each.kind]: each.score for each in sorted(detections, key=lambda each: each.score)}
    candidates = {
        concept: score
        for concept, score in {**scores, **objects}.items()
        if concept not in (*_TEXTURES, PERSON)
        and score >= max(min_confidence, _MIN_ANIMAL_GUESS if concept == _ANIMAL else _MIN_GUESS)
    }
    best = max(
        candidates, key=lambda concept: (not _is_covered(concept, candidates), candidates[concept]), default=None
    )
    return [] if best is None else [_Named(best, candidates[best])]


def _classified(
    scores: Mapping[int, float], detections: Sequence[Detection], objects: Sequence[_Named], *, min_confidence: float
) -> list[_Named]:
    """Return the likely class and groups that the detector neither says itself nor contradicts."""
    seen = frozenset().union(*(CLASSES_OF_KINDS[KINDS[each.kind]] for each in detections))
    best = max((concept for concept in scores if concept not in _GROUP_CLASSES), key=lambda concept: scores[concept])
    candidates = [best, *_GROUP_CLASSES]
    likely = [
        concept
        for concept in candidates
        if scores[concept] >= max(min_confidence, _bar(concept, seen)) and not _is_contradicted(concept, objects)
    ]
    said = [each.concept for each in objects]
    groups = {GROUPS_OF_KINDS[kind] for kind in said if kind in GROUPS_OF_KINDS}
    specific = [concept for concept in likely if not _is_covered(concept, [*likely, *said]) and concept not in groups]
    return [_Named(concept, scores[concept]) for concept in specific if not _is_object(concept, objects)]


def _bar(concept: int, seen: frozenset[int]) -> float:
    """Return the score that a class or group needs."""
    if concept in _TEXTURES:
        return _MIN_OF_TEXTURES
    if concept == _ANIMAL:
        return _MIN_ANIMAL
    classes = classes_of(concept)
    if not classes & seen and any(classes <= known for known in CLASSES_OF_KINDS.values()):
        return _MIN_UNSEEN
    return _MIN_GROUP if concept in _GROUP_CLASSES else _MIN_CLASS


def _is_contradicted(concept: int, objects: Iterable[_Named]) -> bool:
    """Return whether the detector found another animal or another vehicle than the classifier."""
    classes = classes_of(concept)
    for family, umbrella in ((ANIMAL_KINDS, "animal"), (VEHICLE_KINDS, "vehicle")):
        kinds = [each.concept for each in objects if each.concept in family]
        if kinds and classes <= _GROUP_CLASSES[_NAMED[umbrella]]:
            return not any(classes & CLASSES_OF_KINDS[kind] for kind in kinds)
    return False


def _is_covered(concept: int, others: Iterable[int]) -> bool:
    """Return whether one of the other concepts is more specific."""
    classes = classes_of(concept)
    return any(frozenset() < classes_of(other) < classes for other in others)


def _is_object(concept: int, objects: Iterable[_Named]) -> bool:
    """Return whether the detector found the same."""
    return any(classes_of(concept) == classes_of(each.concept) for each in objects)


def _is_said(each: _Named, named: Iterable[_Named]) -> bool:
    """Return whether another subject says the same more precisely, or better because there are several."""
    classes = classes_of(each.concept)
    for other in named:
        others = classes_of(other.concept)
        if classes and others < classes and not each.several:
            return True
        if other.several and classes < others:
            return True
    return False


def _general(named: Iterable[_Named]) -> list[int]:
    """Return the groups that contain what is named, the smallest first."""
    general: set[int] = set()
    for each in named:
        group = GROUPS_OF_KINDS.get(each.concept)
        if group is not None:
            general.add(group)
        classes = _GROUP_CLASSES[group] if group is not None else classes_of(each.concept)
        if each.concept not in KINDS or group is not None:
            general.update(other for other, members in _GROUP_CLASSES.items() if classes < members)
    return sorted(general, key=lambda group: len(_GROUP_CLASSES[group]))


def subject_box(subjects: Sequence[Subject], detections: Sequence[Detection]) -> Box | None:
    """Return the box of the largest object that is named, or None."""
    named = {subject.concept for subject in subjects}
    boxes = [each for each in detections if KINDS[each.kind] in named and each.score >= _MIN_OTHER_SCORE]
    largest = max(boxes, key=lambda each: each.area, default=None)
    return None if largest is None else (largest.left, largest.top, largest.right, largest.bottom)
