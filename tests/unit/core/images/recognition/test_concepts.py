"""The vocabulary of concepts has names and grammar in both languages."""

from imago.ai.offline.vision.imagenet_groups import GROUPS
from imago.core.images.recognition.concepts import CLASSES, FIRST_GROUP, KINDS, PERSON, vocabulary


def test_every_class_kind_and_group_has_a_concept() -> None:
    groups = [group.concept for group in GROUPS]
    assert groups == list(range(FIRST_GROUP, FIRST_GROUP + len(groups)))
    assert list(vocabulary()) == [*CLASSES, *KINDS, *groups]


def test_every_concept_has_a_name_and_grammar_in_both_languages() -> None:
    for concept in vocabulary().values():
        for name in (concept.english, concept.french):
            assert name == name.strip()
            assert name, concept
        assert concept.english_number in ("c", "u", "p"), concept
        assert concept.french_form in ("m", "f", "mu", "fu", "mp", "fp"), concept


def test_only_kinds_have_plurals() -> None:
    for concept in vocabulary().values():
        plurals = concept.english_plural, concept.french_plural
        assert all(plurals) if concept.id in KINDS else plurals == (None, None), concept


def test_no_two_classes_have_the_same_name() -> None:
    for language in ("en", "fr"):
        assert len({vocabulary()[index].name(language) for index in CLASSES}) == len(CLASSES)


def test_the_numbers_of_classes_and_kinds_are_those_of_the_published_labels() -> None:
    names = vocabulary()
    assert [names[index].english for index in (0, 285, 398, 504, 999)] == [
        *("tench", "Egyptian Mau", "abacus", "coffee mug", "toilet paper")
    ]
    assert [names[index].english for index in (PERSON, 1001, 1016, 1079)] == ["person", "bicycle", "dog", "toothbrush"]
