"""Scores of tags."""

import pytest

from imago.evaluation.answers import ImageAnswer
from imago.evaluation.labels import ImageLabels, Names, ObjectLabel
from imago.evaluation.tag_scores import score_tags, wrong_tags

NAMES = {
    "dog": Names(same=("chien", "puppy"), kinds=("animal",)),
    "person": Names(same=("personne", "several people")),
}


def labels(*names: str, share: float = 0.5, also: tuple[str, ...] = ()) -> ImageLabels:
    return ImageLabels(objects=tuple(ObjectLabel(name=name, share=share) for name in names), also=also)


def english(images: dict[str, ImageLabels], tags: dict[str, tuple[str, ...]]):
    (score,) = score_tags(images, {file: ImageAnswer(tags={"en": tags[file]}) for file in images}, NAMES)
    return score


def test_exact_and_more_general_names_are_right_but_only_exact_ones_name_an_object():
    score = english(
        {"a": labels("dog"), "b": labels("dog"), "c": labels("dog")},
        {"a": ("puppy",), "b": ("animal",), "c": ("cat",)},
    )
    assert score.precision == pytest.approx(2 / 3)
    assert score.recall == pytest.approx(1 / 3)
    assert score.with_right_tag == pytest.approx(2 / 3)


def test_colours_are_no_subjects():
    score = english(
        {"a": labels("dog"), "b": labels("dog")}, {"a": ("brown", "black and white"), "b": ("dog", "white")}
    )
    assert (score.silent, score.tags, score.precision) == (0.5, 0.5, 1)


def test_further_tags_of_the_labels_are_right_and_not_expected():
    score = english({"a": labels("dog", also=("beach",))}, {"a": ("beach", "dog")})
    assert (score.precision, score.recall) == (1, 1)


def test_objects_that_are_hardly_visible_need_not_be_named():
    assert english({"a": labels("dog", share=0.005)}, {"a": ()}).recall is None


def test_people_are_counted_by_image():
    images = {"a": labels("person"), "b": labels("person"), "c": labels("dog"), "d": labels("person", share=0.001)}
    score = english(images, {"a": ("several people",), "b": (), "c": ("person",), "d": ("person",)})
    assert score.people_recall == 0.5
    assert score.people_precision == pytest.approx(2 / 3)


def test_every_subject_tag_of_an_image_of_nothing_is_wrong_and_counted_apart():
    score = english(
        {"a": labels(), "b": labels(), "c": labels("dog")}, {"a": ("animal",), "b": ("blue",), "c": ("dog",)}
    )
    assert (score.images, score.empty_images, score.empty_with_tags, score.precision) == (1, 2, 1, 1)


def test_each_language_is_judged_by_its_own_tags_without_accents_and_case():
    answers = {
        "a": ImageAnswer(tags={"en": ("dog",), "fr": ("Chien",)}),
        "b": ImageAnswer(tags={"en": (), "fr": ("chat",)}),
    }
    scores = score_tags({"a": labels("dog"), "b": labels("dog")}, answers, NAMES)
    assert [(score.language, score.precision, score.silent) for score in scores] == [("en", 1, 0.5), ("fr", 0.5, 0)]


def test_without_objects_in_the_labels_there_are_no_scores():
    assert score_tags({"a": ImageLabels(text="x")}, {"a": ImageAnswer()}, {}) is None


def test_wrong_tags_are_named():
    assert wrong_tags(labels("dog"), ("dog", "white", "cat", "animal"), NAMES) == ["cat"]
