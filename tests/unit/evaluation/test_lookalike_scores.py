"""Scores of look-alikes."""

from imago.evaluation.labels import ImageLabels
from imago.evaluation.lookalike_scores import FalsePairs, score_lookalikes

IMAGES = {
    "a": ImageLabels(),
    "a-gray": ImageLabels(kind="gray", same_as="a"),
    "a-crop": ImageLabels(kind="crop", same_as="a"),
    "b": ImageLabels(),
}


def test_an_edited_copy_is_found_if_its_original_is_similar():
    scores, _ = score_lookalikes(IMAGES, {"a": (), "a-gray": ("a-crop", "a"), "a-crop": (), "b": ()})
    assert [(score.kind, score.copies, score.found) for score in scores] == [
        ("gray", 1, 1),
        ("crop", 1, 0),
        ("all copies", 2, 0.5),
    ]


def test_a_false_pair_counts_once_and_copies_of_one_original_are_none():
    similar = {"a": ("a-gray", "b"), "a-gray": ("a-crop",), "a-crop": (), "b": ("a",)}
    assert score_lookalikes(IMAGES, similar)[1] == FalsePairs(pairs=3, false=1)


def test_without_copies_in_the_labels_there_are_no_scores():
    assert score_lookalikes({"a": ImageLabels()}, {"a": ()}) is None
