"""Which concepts are named, of what the classifier and the detector say."""

import pytest

from imago.ai.offline.vision.detector import Detection
from imago.ai.offline.vision.imagenet_groups import GROUPS
from imago.ai.offline.vision.subjects import choose_subjects, subject_box
from imago.core.images.recognition.concepts import CLASSES, KINDS, vocabulary

KIND = {vocabulary()[concept].english: index for index, concept in enumerate(KINDS)}
CLASS = {vocabulary()[index].english: index for index in CLASSES}


def scores(**classes: float) -> dict[int, float]:
    """Return the scores of classes, given by name with underscores, and of their groups."""
    by_class = dict.fromkeys(CLASSES, 0.0) | {CLASS[name.replace("_", " ")]: score for name, score in classes.items()}
    return by_class | {group.concept: sum(by_class[index] for index in group.classes) for group in GROUPS}


def box(kind: str, score: float, left: float = 0.1, right: float = 0.6) -> Detection:
    return Detection(KIND[kind], score, left, 0.1, right, 0.9)


def named(classes: dict[int, float], *objects: Detection) -> list[str]:
    subjects = choose_subjects(classes, objects, min_confidence=0.35)
    return list(dict.fromkeys(vocabulary()[each.concept].english for each in subjects))


def test_a_dog_of_two_breeds_is_a_dog_and_an_animal() -> None:
    assert named(scores(Beagle=0.4, Whippet=0.4)) == ["dog", "animal"]


def test_people_are_named_first_and_counted_roughly() -> None:
    objects = [box("dog", 0.9), box("person", 0.8), box("person", 0.45, 0.7, 0.9)]
    subjects = choose_subjects(scores(), objects, min_confidence=0.35)
    assert [(vocabulary()[each.concept].english, each.several) for each in subjects[:2]] == [
        *(("person", True), ("dog", False))
    ]


def test_the_detector_decides_which_animal_it_is() -> None:
    assert named(scores(leopard=0.6, lion=0.2), box("giraffe", 0.8)) == ["giraffe", "animal"]


def test_the_detector_decides_which_vehicle_it_is() -> None:
    assert named(scores(mountain_bike=0.8), box("motorcycle", 0.7)) == ["motorcycle", "vehicle"]


def test_a_breed_is_described_instead_of_the_dog_that_was_detected() -> None:
    subjects = choose_subjects(scores(Beagle=0.9), [box("dog", 0.8)], min_confidence=0.35)
    assert [vocabulary()[each.concept].english for each in subjects if each.described] == ["Beagle"]
    subjects = choose_subjects(scores(Beagle=0.9), [box("dog", 0.8), box("dog", 0.7, 0.7, 0.9)], min_confidence=0.35)
    assert [vocabulary()[each.concept].english for each in subjects if each.described] == ["dog"]


def test_an_animal_without_a_kind_is_not_named_unless_it_is_almost_certain() -> None:
    """The classifier gives several animals a little probability in skies and noise."""
    vague = {"tench": 0.2, "scorpion": 0.2, "snail": 0.2, "otter": 0.17}
    assert named(scores(**vague)) == []
    assert named(scores(**{name: score * 1.25 for name, score in vague.items()})) == ["animal"]


@pytest.mark.parametrize("texture", ["velvet", "wool", "doormat"])
def test_textures_need_a_high_probability(texture: str) -> None:
    assert named(scores(**{texture: 0.7})) == []
    assert named(scores(**{texture: 0.9})) == [texture]


def test_a_person_in_the_box_of_an_animal_is_the_animal() -> None:
    objects = [box("person", 0.6), box("cat", 0.55)]
    assert named(scores(Egyptian_Mau=0.9), *objects) == ["Egyptian Mau", "cat", "animal"]
    assert "person" in named(scores(Egyptian_Mau=0.9), box("person", 0.6, 0.6, 0.9), box("cat", 0.55))


def test_sports_equipment_makes_a_person_likelier() -> None:
    assert named(scores(), box("person", 0.42)) == []
    assert named(scores(), box("person", 0.42), box("surfboard", 0.6)) == ["person", "surfboard"]


def test_the_best_guess_is_named_if_nothing_else_is() -> None:
    assert named(scores(), box("suitcase", 0.4), box("chair", 0.36)) == ["suitcase"]
    assert named(scores(), box("suitcase", 0.3)) == []
    assert named(scores(), box("suitcase", 0.4), box("chair", 0.55)) == ["chair", "furniture"]


def test_the_lowest_confidence_of_the_settings_holds_for_all() -> None:
    subjects = choose_subjects(scores(daisy=0.6), [box("dog", 0.7)], min_confidence=0.8)
    assert subjects == ()


def test_the_largest_named_object_is_the_subject() -> None:
    objects = [box("dog", 0.9, 0.1, 0.3), box("dog", 0.6, 0.3, 0.9), box("car", 0.2, 0.0, 1.0)]
    subjects = choose_subjects(scores(), objects, min_confidence=0.35)
    assert subject_box(subjects, objects) == (0.3, 0.1, 0.9, 0.9)
    assert subject_box((), objects) is None


def test_in_a_texture_only_what_is_nearly_certain_is_named() -> None:
    def in_a_texture(classes: dict[int, float], *objects: Detection) -> list[str]:
        subjects = choose_subjects(classes, objects, min_confidence=0.35, texture=True)
        return [vocabulary()[each.concept].english for each in subjects]

    assert named(scores(honeycomb=0.75)) == ["honeycomb"]
    assert in_a_texture(scores(honeycomb=0.75), box("bed", 0.65)) == []
    assert in_a_texture(scores(honeycomb=0.95)) == ["honeycomb"]
    assert in_a_texture(scores(), box("orange", 0.85))[:1] == ["orange"]
